"""The results file, written anew after every phase, and progress on the terminal."""

import json
import os
import platform
import sys
import time


class Results:
    """A dict that becomes JSON; `save` replaces the file in one step, so an interrupted run leaves what it had."""

    def __init__(self, path, parts):
        self.path = path
        self.values = {part: [] for part in parts}

    def __getitem__(self, name):
        return self.values[name]

    def __setitem__(self, name, value):
        self.values[name] = value
        self.save()

    def add(self, part, value):
        self.values[part].append(value)
        self.save()

    def save(self):
        part = self.path + ".part"
        with open(part, "w", encoding="utf-8") as file:
            json.dump(self.values, file, indent=1)
            file.write("\n")
        os.replace(part, self.path)


class Progress:
    """Lines with the time since the start (seconds), and one line rewritten in place on a terminal."""

    def __init__(self):
        self.start = time.monotonic()
        self.pending = False
        self.last = 0.0

    def say(self, text):
        """A line that stays."""
        if self.pending:
            sys.stdout.write("\r\033[K")
            self.pending = False
        print(f"[{time.monotonic() - self.start:7.1f} s] {text}", flush=True)

    def update(self, text):
        """A passing line: in place on a terminal, else at most every 20 seconds."""
        now = time.monotonic()
        if sys.stdout.isatty():
            sys.stdout.write(f"\r\033[K[{now - self.start:7.1f} s] {text}")
            sys.stdout.flush()
            self.pending = True
        elif now - self.last > 20:
            self.last = now
            self.say(text)


def machine():
    """What the figures were measured on."""
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory_kb = int(file.readline().split()[1])
    return {"cpu": model, "cores": os.cpu_count(), "memory_bytes": memory_kb * 1024, "kernel": platform.release()}


def busy_cores(seconds=0.3):
    """How many cores are busy now, from /proc/stat over so many seconds; ours are idle when it is asked."""
    def read():
        with open("/proc/stat", encoding="utf-8") as file:
            values = [int(value) for value in file.readline().split()[1:9]]
        return sum(values), values[3] + values[4]

    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    return os.cpu_count() * (1 - (idle_after - idle) / max(1, total_after - total))


def wait_quiet(progress, limit, patience):
    """Waits until others keep fewer than `limit` cores busy, at most `patience` seconds; returns cores busy."""
    busy = busy_cores()
    deadline = time.monotonic() + patience
    while limit is not None and busy > limit and time.monotonic() < deadline:
        progress.update(f"waiting: others keep {busy:.1f} cores busy")
        time.sleep(1)
        busy = busy_cores(2)
    return round(busy, 2)
