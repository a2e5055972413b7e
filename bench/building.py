"""One timed CREATE INDEX: seconds, peak process memory, WAL, temporary files, index size."""

import json
import time

from client import Session, SqlError
from server import Watch, children, cpu_seconds

SAMPLE_SECONDS = 0.02
POLL_SECONDS = 1.0
FIELDS = ("RssAnon", "RssFile", "RssShmem")


def memory(pid):
    """Bytes of a process by kind, from /proc/PID/status; None when it is gone."""
    found = {}
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name in FIELDS:
                    found[name] = int(rest.split()[0]) * 1024
    except (OSError, ProcessLookupError):
        return None
    return found if len(found) == len(FIELDS) else None


def parent(pid):
    """The process id of a process's parent; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ProcessLookupError):
        return None


def parallel_workers(postmaster, leader):
    """Process ids of the leader's parallel workers, by their titles."""
    found = []
    for child in children(postmaster):
        try:
            with open(f"/proc/{child}/cmdline", "rb") as title:
                if f"parallel worker for PID {leader} ".encode() in title.read().replace(b"\0", b" ") + b" ":
                    found.append(int(child))
        except (OSError, ProcessLookupError):
            continue           # it ended meanwhile
    return found


def shared_segments(pid):
    """Bytes of the dynamic shared memory (posix) that a process has mapped."""
    sizes = {}
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
            for line in file:
                if "/dev/shm/PostgreSQL." in line:
                    parts = line.split()
                    low, high = (int(part, 16) for part in parts[0].split("-"))
                    sizes[parts[5]] = high - low
    except (OSError, ProcessLookupError):
        return 0
    return sum(sizes.values())


class MemoryWatch(Watch):
    """Samples a backend and its parallel workers; peaks are of the sum over them, in bytes.

    `anonymous` is what they allocated; `private` adds mapped files (program and libraries); `total` adds to
    `anonymous` the dynamic shared memory, once.  Shared buffers are in none of them.
    """

    def __init__(self, pid):
        super().__init__()
        self.pid = pid
        self.postmaster = parent(pid)
        self.anonymous = self.private = self.total = 0

    def watch(self):
        while not self.stopping.wait(SAMPLE_SECONDS):
            pids = [self.pid] + parallel_workers(self.postmaster, self.pid)
            parts = [part for part in map(memory, pids) if part]
            anonymous = sum(part["RssAnon"] for part in parts)
            self.anonymous = max(self.anonymous, anonymous)
            self.private = max(self.private, anonymous + sum(part["RssFile"] for part in parts))
            self.total = max(self.total, anonymous + shared_segments(self.pid))


class ProgressWatch(Watch):
    """Polls a progress view from a second connection and shows what the backend is at."""

    CREATE = ("SELECT phase || CASE WHEN tuples_total > 0 THEN format(' %s of %s rows', tuples_done, tuples_total) "
              "WHEN blocks_total > 0 THEN format(' %s of %s blocks', blocks_done, blocks_total) ELSE '' END "
              "FROM pg_stat_progress_create_index WHERE pid = {pid};")
    VACUUM = ("SELECT phase || format(' %s of %s heap blocks', heap_blks_scanned, heap_blks_total) "
              "FROM pg_stat_progress_vacuum WHERE pid = {pid};")
    COPY = "SELECT format('%s rows', tuples_processed) FROM pg_stat_progress_copy WHERE pid = {pid};"

    def __init__(self, database, query, pid, what, progress):
        super().__init__()
        self.database, self.query, self.pid = database, query, pid
        self.what, self.progress = what, progress

    def watch(self):
        start = time.monotonic()
        try:
            with Session(self.database) as session:
                while not self.stopping.wait(POLL_SECONDS):
                    lines = session.run(self.query.format(pid=self.pid))
                    if lines:
                        self.progress.update(f"{self.what}: {lines[0]}, {time.monotonic() - start:.0f} s")
        except SqlError:
            pass               # only a display


WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn;"


def temporary_bytes(database):
    """Bytes of temporary files written in this database so far (known once the backends that wrote them ended)."""
    return int(database.value(f"SELECT temp_bytes FROM pg_stat_database WHERE datname = '{database.name}';"))


def timed_statement(database, sql, settings, query, what, progress):
    """Runs one statement in a session of its own; a dict of seconds, bytes and the session's notices."""
    temporary_before = temporary_bytes(database)
    with Session(database, settings) as session:
        wal_before = int(session.run(WAL)[0])
        with MemoryWatch(session.pid) as watch, ProgressWatch(database, query, session.pid, what, progress):
            cpu_before, start = cpu_seconds(session.pid), time.monotonic()
            session.run(sql)
            seconds = time.monotonic() - start
            cpu = cpu_seconds(session.pid) - cpu_before
        wal_bytes = int(session.run(WAL)[0]) - wal_before
        notices = session.messages()
    return {"seconds": seconds, "cpu_seconds": cpu,
            "peak_anonymous_bytes": watch.anonymous, "peak_private_bytes": watch.private,
            "peak_memory_bytes": watch.total, "wal_bytes": wal_bytes,
            "temporary_bytes": temporary_bytes(database) - temporary_before, "notices": notices}


def build(database, method, data, table, settings, progress, checkpoints=True):
    """Drops the table's vector index and builds the method's; a dict of what it took.

    Without `checkpoints`, what is measured afterwards does not write whole pages because of this build.
    """
    index = f"{table}_v"
    database.run(f"DROP INDEX IF EXISTS {index};")
    if checkpoints:
        database.run("CHECKPOINT;")
    statement = method.create_statement(table, data, index)
    measured = timed_statement(database, statement, settings, ProgressWatch.CREATE, f"build {method.name}", progress)
    measured["index_bytes"] = int(database.value(f"SELECT pg_relation_size('{index}');"))
    measured["method"], measured["statement"] = method.name, statement
    measured["figures"] = inspected(database, method, index)
    if checkpoints:
        database.run("CHECKPOINT;")
    return measured


def has_function(database, name):
    """Whether the extension installed here brings this function."""
    return bool(name) and database.value(f"SELECT count(*) FROM pg_proc WHERE proname = '{name}';") != "0"


def inspected(database, method, index):
    """What the method's own statistics tell of an index, as a dict; None where it has none."""
    if not has_function(database, method.stats):
        return None
    return json.loads(database.value(f"SELECT row_to_json(s) FROM {method.stats}('{index}') s;"))


def checked(database, method, index):
    """True when the method's own verifier found the index sound, None where it has none; raises on damage."""
    if not has_function(database, method.check):
        return None
    database.run(f"SELECT {method.check}('{index}');")
    return True


def prewarm(database, table):
    """Reads a table, its TOAST table and its indexes into shared buffers, where pg_prewarm is installed."""
    query = (f"SELECT c.oid::regclass FROM pg_class t, pg_class c WHERE t.relname = '{table}' AND (c.oid IN "
             "(t.oid, t.reltoastrelid) OR c.oid IN (SELECT indexrelid FROM pg_index "
             "WHERE indrelid IN (t.oid, t.reltoastrelid)));")
    available = database.value("SELECT count(*) FROM pg_extension WHERE extname = 'pg_prewarm';")
    if available == "1":
        for relation in database.run(query):
            database.run(f"SELECT pg_prewarm('{relation}');")
