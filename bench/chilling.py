"""Searches of a server that has nothing cached: forgetting files, batches of searches, and the tables of it."""

import ctypes
import mmap
import os
import random
import time
from statistics import median

import numpy as np

from building import build
from client import Database, Session, SqlError
from command import versions
from loading import create_database, create_table, installed_methods, load_keyed, load_rows
from methods import METHODS, OURS, label
from report import MB, RIVAL, assembled, at_least, goal, grouped, number, table, times
from searching import explained, plan_settings, recall, search_statement, smallest_value

WARM_ROWS = 500            # of the small tables that catalogs and libraries are warmed up with
PROBED_READS = 200         # single pages read to know the disk
PAGE = 8192
KEPT_SHARE = 0.01          # of a file's pages that may stay cached, or the measurement is refused
READ_BYTES = "read_bytes"
AHEAD = ("io_uring", "stream")


# ---- files ----

def files_below(folder, least=0):
    """Paths of the regular files below a folder that have at least so many bytes."""
    return [path for where, _, names in os.walk(folder) for path in (os.path.join(where, name) for name in names)
            if os.path.isfile(path) and os.path.getsize(path) >= least]


def cached_share(path):
    """Share of a file's pages that the operating system has cached."""
    size = os.path.getsize(path)
    if not size:
        return 0.0
    libc = ctypes.CDLL(None, use_errno=True)
    pages = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    marks = (ctypes.c_ubyte * pages)()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE,
                                             mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), marks)
        del first
    if failed:
        raise OSError(ctypes.get_errno(), f"mincore({path})")
    return sum(mark & 1 for mark in marks) / pages


def forget(paths):
    """Has the operating system write out and forget the files; raises where it keeps them."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    for path in paths:
        if os.path.getsize(path) >= MB and cached_share(path) > KEPT_SHARE:
            raise RuntimeError(f"{path} stays in the page cache: nothing would be cold")


def page_read_us(path):
    """Median microseconds of reading a random page of a file that is not cached."""
    pages, taken, generator = os.path.getsize(path) // PAGE, [], random.Random(5)
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(PROBED_READS):
            place = generator.randrange(pages) * PAGE
            start = time.perf_counter()
            os.pread(file.fileno(), PAGE, place)
            taken.append(1e6 * (time.perf_counter() - start))
    return median(taken)


def bytes_read(pid):
    """Bytes that a process had fetched from a disk; None where this process may not know."""
    try:
        with open(f"/proc/{pid}/io", encoding="utf-8") as file:
            return dict((name, int(value)) for name, value in (line.split(": ") for line in file))[READ_BYTES]
    except OSError:
        return None


# ---- the measurement ----

class Cold:
    """All methods and ways of reading on one server."""

    def __init__(self, server, data, chosen, results, progress):
        self.server, self.data, self.chosen = server, data, chosen
        self.results, self.progress = results, progress
        self.database = Database(server, "cold")

    def run(self):
        self.names, extensions = installed_methods(self.server, self.chosen.methods, self.progress)
        self.results["not_installed"] = [name for name in self.chosen.methods if name not in self.names]
        create_database(self.database, extensions)
        if self.database.value("SELECT count(*) FROM pg_extension WHERE extname = 'pg_prewarm';") != "1":
            raise RuntimeError("this needs pg_prewarm: install PostgreSQL's contrib modules")
        self.results["versions"] = versions(self.database)
        load_keyed(self.database, "queries", "qid", np.arange(len(self.data.queries)), self.data.queries, self.data)
        for name in self.names:
            self.load(name)
        points = [point for name in self.names for point in self.points(name)]
        self.server.configure({"shared_buffers": self.chosen.cold_buffers})
        self.learn_disk()
        for number in range(self.chosen.batches):
            # each of them comes first in turn, for a disk may have a cache of its own that nobody can empty
            turn = number % len(points)
            for name, settings in points[turn:] + points[:turn]:
                self.results.add("batches", {"batch": number, "method": name, "settings": settings,
                                             **self.batch(name, settings, number)})
                self.tell(self.results["batches"][-1])

    def load(self, name):
        """The method's table and index, and small ones of the same kind."""
        load_rows(self.database, f"items_{name}", self.data, self.progress)
        taken = build(self.database, METHODS[name], self.data, f"items_{name}", {}, self.progress)
        self.results.add("builds", taken)
        self.progress.say(f"built {name}: {taken['seconds']:.1f} s, {taken['index_bytes'] / MB:.0f} MB")
        small = f"warm_{name}"
        create_table(self.database, small, self.data)
        self.database.run(f"INSERT INTO {small} SELECT id, v FROM items_{name} LIMIT {WARM_ROWS};")
        build(self.database, METHODS[name], self.data, small, {}, self.progress)
        self.database.run(f"ANALYZE {small};")

    def points(self, name):
        """(method, settings) to measure: spfresh with nothing set but how it reads, rivals tuned to the target."""
        settings = [{"spfresh.io": io} for io in self.chosen.io if self.has_io(io)] if name == OURS else \
            [self.tuned(name)]
        for one in settings:
            found = recall(self.database, f"items_{name}", self.data, self.chosen.k, one)
            self.results.add("points", {"method": name, "settings": one, **found})
            self.progress.say(f"{name} at {label(one)}: recall {found['recall']:.4f}")
        return [(name, one) for one in settings]

    def has_io(self, io):
        try:
            self.database.run("LOAD 'spfresh'; SET spfresh.io = " + f"'{io}';")
        except SqlError as error:
            self.progress.say(f"NOT MEASURED: spfresh.io = {io}: {str(error).splitlines()[0]}")
            return False
        return True

    def tuned(self, name):
        """The smallest setting with the recall that is wanted, or the largest there is."""
        method = METHODS[name]
        highest = method.highest(self.data.rows)
        value = smallest_value(lambda value: recall(self.database, f"items_{name}", self.data, self.chosen.k,
                                                    {method.knob: value})["recall"], self.chosen.target, 1, highest)
        if value is None:
            self.progress.say(f"{name}: recall {self.chosen.target} is not reached at any {method.knob}")
        return {method.knob: value or highest}

    def data_files(self):
        return files_below(self.server.data)

    def learn_disk(self):
        """What one page costs, of the largest file."""
        largest = max(files_below(os.path.join(self.server.data, "base")), key=os.path.getsize)

        def probe():
            forget(self.data_files())
            self.results["page_read_us"] = page_read_us(largest)

        self.server.restart(probe)
        self.progress.say(f"a random page from the disk: {self.results['page_read_us']:.0f} microseconds")

    def batch(self, name, settings, number):
        """Searches of one session after everything was forgotten."""
        self.progress.update(f"batch {number + 1} of {self.chosen.batches}: {name}")
        items, warm = f"items_{name}", f"warm_{name}"
        wanted, _ = plan_settings(self.database, items, self.data.metric, self.chosen.k, settings)
        self.server.restart(lambda: forget(self.data_files()))
        first = number * self.chosen.searches
        numbers = [(first + place) % len(self.data.queries) for place in range(self.chosen.searches)]
        with Session(self.database, {**wanted, "enable_seqscan": "off"}) as session:
            session.run("SELECT pg_prewarm('queries'), pg_prewarm('queries_pkey');")
            session.run(f"PREPARE w(int) AS {search_statement(warm, self.data.metric, self.chosen.k, '$1')};"
                        f"EXECUTE w(0);PREPARE s(int) AS "
                        f"{search_statement(items, self.data.metric, self.chosen.k, '$1')};EXPLAIN EXECUTE s(0);")
            before = bytes_read(session.pid)
            told = explained(session.run, items, self.data, self.chosen.k, numbers, prepare=False)
            after = bytes_read(session.pid)
        return {"searches": told, READ_BYTES: None if before is None else after - before}

    def tell(self, entry):
        told = entry["searches"]
        self.progress.say(f"batch {entry['batch'] + 1} of {self.chosen.batches}: {entry['method']} at "
                          f"{label(entry['settings'])}: first {told[0]['ms']:.1f} ms, median "
                          f"{median(one['ms'] for one in told):.1f} ms, "
                          f"{sum(one['read'] for one in told) / len(told):.0f} pages read a search")


# ---- tables ----

def summary(batches):
    """Figures of all batches of one point."""
    searches = [one for batch in batches for one in batch["searches"]]
    milliseconds = [one["ms"] for one in searches]
    known = [batch[READ_BYTES] for batch in batches if batch[READ_BYTES] is not None]
    return {"p50": float(np.percentile(milliseconds, 50)), "p95": float(np.percentile(milliseconds, 95)),
            "first": median(batch["searches"][0]["ms"] for batch in batches),
            "first_read": median(batch["searches"][0]["read"] for batch in batches),
            "read": sum(one["read"] for one in searches) / len(searches),
            "pages": sum(one["pages"] for one in searches) / len(searches),
            "bytes": sum(known) / (len(searches) / len(batches) * len(known)) if known else None,
            "searches": len(searches)}


def summaries(values):
    """{(method, setting): figures}."""
    batches = sorted(values["batches"], key=lambda batch: (batch["method"] != OURS, label(batch["settings"])))
    groups = grouped(batches, lambda batch: (batch["method"], label(batch["settings"])))
    return {key: summary(batches) for key, batches in groups.items()}


def goal_lines(values):
    """What the benchmark is to show, and whether it does."""
    found = summaries(values)
    rival = next((figures for (name, _), figures in found.items() if name == RIVAL), None)
    ours = {setting.split()[-1]: figures for (name, setting), figures in found.items() if name == OURS}
    ahead = min((ours[io]["p50"] for io in ours if io in AHEAD), default=None)
    plain, sync = (ours[io]["p50"] if io in ours else None for io in ("auto", "sync"))
    rows = [goal("p50 with nothing set, of HNSW's", plain / rival["p50"] if rival and plain else None, 1 / 3),
            at_least("io_uring or stream, times faster than sync (p50)", sync / ahead if sync and ahead else None,
                     1.5)]
    return table(["goal", "limit", "measured", "met"], rows)


def cold_lines(values):
    """Latency and reading of each method and way of reading."""
    recalls = {(point["method"], label(point["settings"])): point["recall"] for point in values["points"]}
    found = summaries(values)
    rival = next((figures for (name, _), figures in found.items() if name == RIVAL), {})
    rows = [[name, setting, f"{recalls[name, setting]:.4f}", figures["searches"], number(figures["p50"]),
             times(rival.get("p50"), figures["p50"]), number(figures["p95"]), number(figures["first"]),
             number(figures["first_read"]), number(figures["read"]), number(figures["pages"]),
             number(figures["bytes"] / 1024 if figures["bytes"] is not None else None)]
            for (name, setting), figures in found.items()]
    lines = table(["cold", "setting", "recall", "searches", "p50 ms", "HNSW's p50, times", "p95 ms",
                   "first of a batch ms", "its pages read", "pages read a search", "pages touched",
                   "kB from the disk a search"], rows)
    return lines + [f"One random page of a file that is not cached takes {values['page_read_us']:.0f} microseconds "
                    "(median, without reading ahead).", ""] if "page_read_us" in values else lines


def markdown(values):
    """All tables of one results file."""
    return assembled(values, (goal_lines, cold_lines))
