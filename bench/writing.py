"""Rates of writing into an indexed table: COPY of a batch, single-row inserts, vacuum after a mass delete.

One database holds a table for each method (and one without a vector index), all with the same share of the rows and
their indexes built.  Every round works on a fresh file copy of that database, so each round starts from the same state.
"""

import os
import tempfile
import time

import numpy as np

from building import WAL, ProgressWatch, build, checked, inspected, prewarm, timed_statement
from client import Database, copy_stream
from loading import create_database, load_keyed, load_rows
from methods import BASELINE, METHODS
from searching import recall
from throughput import latencies, run_pgbench

TEMPLATE = "writes"
ROUND = "writes_round"
DELETED = 4                # every so many-th row goes before the vacuum: a quarter


def split_rows(rows, copied, inserted, seed=7):
    """(mask of rows there from the start, mask of rows to COPY, step): every step-th row is inserted singly."""
    step = rows // inserted
    there = np.ones(rows, bool)
    there[:step * inserted:step] = False
    batch = np.zeros(rows, bool)
    batch[np.random.default_rng(seed).choice(np.flatnonzero(there), copied, replace=False)] = True
    return there & ~batch, batch, step


def surviving_truth(truth_ids, k):
    """Exact answers once the deleted rows are gone, and k or the fewest that are still known of a query."""
    gone = truth_ids % DELETED == 1
    k = min(k, int((~gone).sum(axis=1).min()))
    order = np.argsort(gone, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(truth_ids, order, 1), k


class WriteTest:
    """The prepared database, and one round of measurements on it for one method at a time."""

    def __init__(self, server, data, names, copied, inserted, settings, progress):
        self.server, self.data, self.names = server, data, [BASELINE] + names
        self.copied, self.inserted = copied, inserted
        self.settings, self.progress = settings, progress
        self.batch_file = os.path.join(server.folder, "batch.copy")
        self.there, self.batch, self.step = split_rows(data.rows, copied, inserted)

    def prepare(self, extensions):
        """Loads the tables, builds the indexes and writes the batch file that the server will COPY."""
        database, data = Database(self.server, TEMPLATE), self.data
        create_database(database, extensions)
        singles = np.arange(self.inserted) * self.step
        load_keyed(database, "pool", "id", singles, data.base[::self.step][:self.inserted], data)
        load_keyed(database, "queries", "qid", np.arange(len(data.queries)), data.queries, data)
        with open(self.batch_file, "wb") as file:
            file.writelines(copy_stream(data.base, data.column_type, self.batch))
        for name in self.names:
            load_rows(database, f"items_{name}", data, self.progress, self.there)
            if name != BASELINE:
                self.progress.say(f"writes: building {name} over {int(self.there.sum()):,} rows")
                build(database, METHODS[name], data, f"items_{name}", self.settings, self.progress)

    def start_round(self):
        """A fresh copy of the prepared database."""
        database = Database(self.server, ROUND)
        database.drop()
        database.create(TEMPLATE, "file_copy")
        for table in ["pool", "queries"] + [f"items_{name}" for name in self.names]:
            prewarm(database, table)
        return database

    def measure(self, database, name, k, points):
        """COPY, inserts, delete and vacuum for one method; a dict.  `points`: settings to measure recall at."""
        table = f"items_{name}"
        found = {"method": name, "copy": self.copy(database, table), "insert": self.insert(database, table)}
        if name != BASELINE:
            found["recall_after_inserts"] = self.recalls(database, table, k, points, self.data.truth_ids)
        self.progress.update(f"{name}: deleting a quarter of the rows")
        database.run(f"DELETE FROM {table} WHERE id % {DELETED} = 1;")
        found["vacuum"] = timed_statement(database, f"VACUUM (INDEX_CLEANUP on, PARALLEL 0) {table};", self.settings,
                                          ProgressWatch.VACUUM, f"vacuum {name}", self.progress)
        if name != BASELINE:
            found["index_bytes"] = int(database.value(f"SELECT pg_relation_size('{table}_v');"))
            rest, k = surviving_truth(self.data.truth_ids, k)
            found["recall_after_vacuum"] = self.recalls(database, table, k, points, rest)
            found["figures"] = inspected(database, METHODS[name], f"{table}_v")
            found["checked"] = checked(database, METHODS[name], f"{table}_v")
        return found

    def copy(self, database, table):
        """Rows a second and WAL bytes a row of one COPY of the batch."""
        self.progress.update(f"COPY of {self.copied:,} rows into {table}")
        taken = timed_statement(database, f"COPY {table} FROM '{self.batch_file}' (FORMAT binary);", self.settings,
                                ProgressWatch.COPY, f"COPY into {table}", self.progress)
        return {"rows": self.copied, "seconds": taken["seconds"], "rows_per_second": self.copied / taken["seconds"],
                "cpu_ms": 1000 * taken["cpu_seconds"] / self.copied,
                "wal_bytes_per_row": taken["wal_bytes"] / self.copied}

    def insert(self, database, table):
        """Rows a second, WAL bytes a row and latency of inserts by one client, a transaction each."""
        self.progress.update(f"{self.inserted:,} single inserts into {table}")
        before = int(database.value(WAL))
        with tempfile.TemporaryDirectory(prefix="spfresh-pgbench-") as folder:
            script = os.path.join(folder, "insert.sql")
            with open(script, "w", encoding="utf-8") as file:
                file.write(f"\\set row :row + {self.step}\n"
                           f"INSERT INTO {table} (id, v) SELECT id, v FROM pool WHERE id = :row;\n")
            arguments = ["-f", script, "-D", f"row={-self.step}", "-c", "1", "-t", str(self.inserted)]
            start = time.monotonic()
            rate, microseconds, cpu = run_pgbench(database, arguments, folder)
            seconds = time.monotonic() - start
        wal_bytes = int(database.value(WAL)) - before
        return {"rows": self.inserted, "seconds": seconds, "rows_per_second": rate,
                "wal_bytes_per_row": wal_bytes / self.inserted, "cpu_ms": 1000 * cpu / self.inserted,
                **latencies(microseconds)}

    def recalls(self, database, table, k, points, truth_ids):
        """Recall at each of the settings, with the rows as they are now."""
        return [{"settings": point, **recall(database, table, self.data, k, point, truth_ids)} for point in points]
