"""Watching a server that is being changed: searching clients, CPU of background processes, the log, what scans read."""

import os
import re
import signal
import subprocess
import tempfile
import time

import numpy as np

from client import SqlError
from searching import plan_settings, smallest_value
from server import Watch, children, cpu_seconds
from throughput import latencies, read_log, table_scripts

START_SECONDS = 30         # clients may take so long to start
SAMPLE_SECONDS = 0.2
# Background processes whose CPU time is counted, by what their titles hold
BACKGROUND = {"worker": b"spfresh worker", "autovacuum": b"autovacuum worker"}

# Lines of the server's log begin with seconds since 1970 and the process (log_line_prefix of the churn benchmark)
LOG_SETTINGS = {"log_line_prefix": "%n %p ", "log_checkpoints": "on", "log_autovacuum_min_duration": "0",
                "log_min_messages": "warning"}
LOG_LINE = re.compile(r"^(\d+\.\d+) (\d+) (\w+):  ?(.*)$")
PROBLEMS = ("WARNING", "ERROR", "FATAL", "PANIC")
KEPT_PROBLEMS = 50


class Searchers:
    """pgbench clients that search a table from entering a `with` block to leaving it; `latencies` afterwards.

    `rate`: searches a second of all clients together; 0: as fast as they can.
    """

    def __init__(self, database, table, data, k, settings, clients, rate=0):
        self.database, self.clients = database, clients
        settings, _ = plan_settings(database, table, data.metric, k, settings)
        self.folder = tempfile.TemporaryDirectory(prefix="spfresh-pgbench-")
        self.prefix = os.path.join(self.folder.name, "log")
        self.command = database.arguments("pgbench") + [
            "-n", "-M", "prepared", "--log", f"--log-prefix={self.prefix}", "-c", str(clients), "-j", str(clients),
            "-T", "1000000", "--random-seed=1", *table_scripts(table, data, k, self.folder.name)]
        if rate:
            self.command += ["-R", str(rate)]
        self.command += [database.name]
        self.environment = {**database.environment(settings), "PGAPPNAME": "searcher"}
        self.process = None
        self.latencies = np.empty((0, 2), np.int64)

    def __enter__(self):
        if self.clients:
            self.errors = tempfile.TemporaryFile("w+")
            self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=self.errors, text=True,
                                            env=self.environment)
            self.wait_started()
        return self

    def wait_started(self):
        """Until every client has searched: a pgbench whose timer is not set yet would not end as asked."""
        query = ("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'searcher' AND "
                 "query LIKE '%ORDER BY v%';")
        deadline = time.monotonic() + START_SECONDS
        while int(self.database.value(query)) < self.clients:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SqlError(f"the searching clients did not start: {self.messages()}")
            time.sleep(0.05)

    def messages(self):
        self.errors.seek(0)
        return self.errors.read().strip()[-2000:]

    def stop(self):
        """pgbench ends by its own timer's signal, so that it writes its log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGALRM)
        self.process.wait()

    def __exit__(self, kind, *unused):
        if not self.clients:
            return
        self.stop()
        self.latencies = read_log(self.prefix)
        messages = self.messages()
        self.errors.close()
        self.folder.cleanup()
        if kind is None and (self.process.returncode or "ERROR" in messages):
            raise SqlError(f"a search failed: {messages}\n{self.database.server.log_tail()}")

    def between(self, start, end):
        """Percentiles of the searches that ended between two times (seconds since 1970)."""
        ends = self.latencies[:, 1]
        return latencies(self.latencies[(ends >= start * 1e6) & (ends <= end * 1e6), 0])


class BackgroundCpu(Watch):
    """CPU seconds of the server's background processes, by kind, while a `with` block runs."""

    def __init__(self, server):
        super().__init__()
        self.postmaster = server.pid()
        self.first, self.last = {}, {}

    def sample(self, started):
        for pid in children(self.postmaster):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as title:
                    words = title.read()
                for kind, mark in BACKGROUND.items():
                    if mark in words:
                        seconds = cpu_seconds(pid)
                        self.first.setdefault((kind, pid), seconds if started else 0.0)
                        self.last[kind, pid] = seconds
            except OSError:
                continue       # it ended meanwhile

    def watch(self):
        self.sample(True)
        while not self.stopping.wait(SAMPLE_SECONDS):
            self.sample(False)

    def __exit__(self, *unused):
        super().__exit__()
        self.sample(False)

    def seconds(self):
        return {kind: sum(self.last[key] - self.first[key] for key in self.last if key[0] == kind)
                for kind in BACKGROUND}


class Log:
    """The server's log, read as it grows: checkpoints, automatic vacuums, and what should not be there."""

    def __init__(self, server):
        self.path = os.path.join(server.folder, "server.log")
        self.place = 0
        self.checkpoints = []      # [start, end], seconds since 1970; the end of a running one is infinite
        self.vacuums = []          # dicts: table, end, seconds, cpu_seconds
        self.problems = []
        self.problem_count = 0

    def read(self):
        """Takes in what was added; lines that are complete only."""
        with open(self.path, encoding="utf-8", errors="replace") as file:
            file.seek(self.place)
            text = file.read()
        text = text[:text.rfind("\n") + 1]
        self.place += len(text.encode("utf-8", errors="replace"))
        self.take(text)
        return self

    def take(self, text):
        for line in text.splitlines():
            match = LOG_LINE.match(line)
            if match:
                self.take_line(float(match[1]), match[3], match[4])
            elif self.vacuums and "elapsed:" in line:
                self.take_usage(line)

    def take_line(self, when, level, message):
        if level in PROBLEMS:
            self.problem_count += 1
            if len(self.problems) < KEPT_PROBLEMS:
                self.problems.append(f"{level}: {message}")
        elif message.startswith("checkpoint starting"):
            self.checkpoints.append([when, float("inf")])
        elif message.startswith("checkpoint complete") and self.checkpoints:
            self.checkpoints[-1][1] = when
        elif message.startswith("automatic vacuum of table"):
            self.vacuums.append({"table": message.split('"')[1].split(".")[-1], "end": when})
        elif message.startswith("automatic analyze"):
            self.vacuums.append({"table": None, "end": when})

    def take_usage(self, line):
        """The line of an automatic vacuum (or analyze) that tells its time."""
        numbers = [float(part) for part in re.findall(r"(\d+\.\d+) s", line)]
        if len(numbers) == 3:
            self.vacuums[-1].update(cpu_seconds=numbers[0] + numbers[1], seconds=numbers[2])

    def checkpoint_at(self, start, end):
        return any(begun <= end and start <= ended for begun, ended in self.checkpoints)

    def vacuum_at(self, start, end):
        return any(vacuum["end"] - vacuum.get("seconds", 0) <= end and start <= vacuum["end"]
                   for vacuum in self.vacuums)


def slow_inserts(log, entries, limit_ms):
    """Inserts that took longer than the limit: milliseconds, and whether a checkpoint or a vacuum was running."""
    found = []
    for latency, end in entries[entries[:, 0] > limit_ms * 1000]:
        span = (end - latency) / 1e6, end / 1e6
        found.append({"ms": latency / 1000, "end": end / 1e6, "checkpoint": log.checkpoint_at(*span),
                      "autovacuum": log.vacuum_at(*span)})
    return found


def cost_of_recall(at, target, low, high, cost=None):
    """Entries scanned for a recall, between the two values of the knob around it; None where it is not reached.

    `at(value)` gives recall and entries at a value of the knob; `cost(value)`, where given, another cost than entries.
    """
    cost = cost or (lambda value: at(value)["entries"])
    value = smallest_value(lambda value: at(value)["recall"], target, low, high)
    if value is None:
        return None
    if value == low:
        return cost(value)
    above, below = at(value)["recall"], at(value - 1)["recall"]
    dear, cheap = cost(value), cost(value - 1)
    return cheap + (target - below) / (above - below) * (dear - cheap)
