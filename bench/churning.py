"""The churn: rounds of deleting the oldest rows and inserting the next ones, while clients search.

Rows are numbered by their place in the order in which they come, so the live rows are always a range of numbers.
Every method has a table of its own; all rows are in the table `pool`, from which those to insert are taken.  Beside
spfresh's table there is `items_fresh`, emptied, filled and indexed anew in every round.
"""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass

import numpy as np

import truth
from building import WAL, ProgressWatch, build, checked, inspected, timed_statement
from client import Database, SqlError, copy_stream
from dataset import DataSet
from loading import create_database, create_table, load_keyed
from methods import METHODS, OURS
from observing import BackgroundCpu, Log, Searchers, cost_of_recall, slow_inserts
from readers import BadFile, open_vectors
from searching import explained, plan_settings, reached, recall, smallest_value
from throughput import latencies, read_log

DATABASE = "churn"
FRESH = "items_fresh"
SLOW_MS = 50
RIVAL_RECALL = 0.95        # rivals search at the setting that has it on the first half
WORKERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'spfresh%';"
POLL_SECONDS = 0.25


@dataclass
class Window:
    """Live rows of a round, first to last (exclusive), and how far it was before."""
    first: int
    last: int
    old_first: int
    old_last: int

    @property
    def middle(self):
        """New rows before it are inserted one by one, those from it by COPY."""
        return (self.old_last + self.last) // 2


def windows(rows, rounds, share):
    """The rounds' windows: half of the rows live at first, each round moves on by `share` of them."""
    live = rows // 2
    step = max(2, int(live * share))
    count = min(rounds, (rows - live) // step)
    return [Window((number + 1) * step, live + (number + 1) * step, number * step, live + number * step)
            for number in range(count)]


def in_order(data, path, order, rows):
    """The data set with its rows in the order in which they come; evenly thinned out to `rows`."""
    file = os.path.join(path, f"{order}.ivecs")
    if order == "file":
        places = np.arange(data.rows)
    elif os.path.exists(file):
        places = np.asarray(open_vectors(file))[0]
    else:
        raise BadFile(f"no {order}.ivecs in the data set: pass --order file to take rows as they lie in the file")
    if not np.array_equal(np.sort(places), np.arange(data.rows)):
        raise BadFile(f"{order}.ivecs does not hold every row once")
    if rows and rows < data.rows:
        places = places[np.linspace(0, data.rows - 1, rows).astype(np.int64)]
    base = np.empty((len(places), data.dimensions), data.base.dtype)
    for start in range(0, len(places), 8192):
        part = places[start:start + 8192]
        base[start:start + len(part)] = data.base[part]
    return DataSet(data.name, base, data.queries, None, data.metric, data.column_type)


def live_truth(data, first, last, k):
    """Exact answers among the rows first to last."""
    return truth.exact(data.base[first:last], data.queries, k, data.metric).astype(np.int64) + first


def wait_idle(database, seconds):
    """Waits until no background worker is left (at most so long); seconds it took, None when time was up."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if database.value(WORKERS) == "0":
            return time.monotonic() - start
        time.sleep(POLL_SECONDS)
    return None


def entries_ratio(entry):
    """Entries scanned for the fresh index's recall, changed over fresh; None where it was not measured or reached."""
    equal = entry.get("equal") or {}
    return equal["churned"] / equal["fresh"] if equal.get("churned") and equal.get("fresh") else None


class Writer:
    """Changes a table: single rows by one client, COPY, delete; with times, WAL and latencies."""

    def __init__(self, server, database, data, progress):
        self.server, self.database, self.data, self.progress = server, database, data, progress

    def wal(self):
        return int(self.database.value(WAL))

    def singles(self, table, first, last):
        """Rows one by one, a transaction each."""
        before, begun = self.wal(), time.time()
        with tempfile.TemporaryDirectory(prefix="spfresh-pgbench-") as folder:
            script, prefix = os.path.join(folder, "insert.sql"), os.path.join(folder, "log")
            with open(script, "w", encoding="utf-8") as file:
                file.write("\\set row :row + 1\n"
                           f"INSERT INTO {table} (id, v) SELECT id, v FROM pool WHERE id = :row;\n")
            command = self.database.arguments("pgbench") + [
                "-n", "-M", "prepared", "--log", f"--log-prefix={prefix}", "-f", script, "-D", f"row={first - 1}",
                "-c", "1", "-t", str(last - first), self.database.name]
            run_program(self.database, command)
            entries = read_log(prefix)
        seconds = (entries[-1, 1] - entries[0, 1] + entries[0, 0]) / 1e6
        return {"rows": last - first, "begun": begun, "ended": time.time(), "seconds": seconds,
                "rows_per_second": (last - first) / seconds, **latencies(entries[:, 0]),
                "wal_bytes_per_row": (self.wal() - before) / (last - first)}, entries

    def replaced(self, table, first, live, rows, rate, seconds):
        """Rows come from `first` on, past the last one with the first again, and the one that came `live` rows before
        goes, in one transaction each, `rate` a second (0: as fast as it goes), for so long."""
        begun = time.time()
        with tempfile.TemporaryDirectory(prefix="spfresh-pgbench-") as folder:
            script, prefix = os.path.join(folder, "replace.sql"), os.path.join(folder, "log")
            with open(script, "w", encoding="utf-8") as file:
                file.write("\\set row :row + 1\n"
                           f"\\set new mod(:row, {rows})\n\\set old mod(:row - {live}, {rows})\n"
                           "BEGIN;\n"
                           f"INSERT INTO {table} (id, v) SELECT id, v FROM pool WHERE id = :new;\n"
                           f"DELETE FROM {table} WHERE id = :old;\nEND;\n")
            command = self.database.arguments("pgbench") + [
                "-n", "-M", "prepared", "--log", f"--log-prefix={prefix}", "-f", script, "-D", f"row={first - 1}",
                "-c", "1", "-T", str(seconds), *(["-R", str(rate)] if rate else []), self.database.name]
            run_program(self.database, command)
            entries = read_log(prefix)
        return {"rows": len(entries), "begun": begun, "ended": time.time(),
                "rows_per_second": len(entries) / seconds, **latencies(entries[:, 0])}

    def copy(self, table, first, last):
        """Rows by one COPY from a file on the server."""
        path = os.path.join(self.server.folder, "batch.copy")
        wanted = np.zeros(self.data.rows, bool)
        wanted[first:last] = True
        with open(path, "wb") as file:
            file.writelines(copy_stream(self.data.base, self.data.column_type, wanted))
        taken = timed_statement(self.database, f"COPY {table} FROM '{path}' (FORMAT binary);", {},
                                ProgressWatch.COPY, f"COPY into {table}", self.progress)
        return {"rows": last - first, "seconds": taken["seconds"], "cpu_seconds": taken["cpu_seconds"],
                "rows_per_second": (last - first) / taken["seconds"],
                "wal_bytes_per_row": taken["wal_bytes"] / (last - first)}

    def delete(self, table, first, last):
        """Seconds of one DELETE of the oldest rows."""
        start = time.monotonic()
        self.database.run(f"DELETE FROM {table} WHERE id >= {first} AND id < {last};")
        return time.monotonic() - start

    def vacuum(self, table):
        """Seconds and CPU seconds of a VACUUM."""
        taken = timed_statement(self.database, f"VACUUM (INDEX_CLEANUP on, PARALLEL 0) {table};", {},
                                ProgressWatch.VACUUM, f"vacuum {table}", self.progress)
        return {"seconds": taken["seconds"], "cpu_seconds": taken["cpu_seconds"]}

    def fill(self, table, first, last):
        """The table holds these rows only, and no index."""
        self.database.run(f"DROP INDEX IF EXISTS {table}_v; TRUNCATE {table};"
                          f"INSERT INTO {table} (id, v) SELECT id, v FROM pool WHERE id >= {first} AND id < {last} "
                          f"ORDER BY id;")
        self.database.run(f"VACUUM (ANALYZE, FREEZE) {table};")


def run_program(database, command):
    """pgbench to its end; raises with its messages where it failed."""
    answer = subprocess.run(command, capture_output=True, text=True, env=database.environment())
    if answer.returncode or "ERROR" in answer.stderr:
        raise SqlError(f"pgbench failed: {answer.stderr.strip()[-2000:]}\n{database.server.log_tail()}")


class Churn:
    """All rounds of all methods on one server."""

    def __init__(self, server, data, names, chosen, results, progress):
        self.server, self.data, self.names, self.chosen = server, data, names, chosen
        self.results, self.progress = results, progress
        self.database = Database(server, DATABASE)
        self.writer = Writer(server, self.database, data, progress)
        self.log = Log(server)
        self.windows = windows(data.rows, chosen.rounds, chosen.share)
        self.settings = {}         # method: what it is searched with

    def run(self):
        self.start()
        for number, window in enumerate(self.windows, start=1):
            self.round(number, window)
        if OURS in self.names:
            self.end()
        elif self.windows:
            self.equal_all()
        self.note_log()

    # ---- the first half ----

    def start(self):
        half = self.data.rows // 2
        wanted = live_truth(self.data, 0, half, self.chosen.k)
        for name in self.names:
            table = f"items_{name}"
            create_table(self.database, table, self.data)
            self.tune_vacuum(table)
            self.writer.fill(table, 0, half)
            taken = build(self.database, METHODS[name], self.data, table, {}, self.progress)
            self.results.add("builds", {**taken, "rows": half})
            self.settings[name] = self.find_setting(name, table, wanted, half)
            found = self.measured(name, table, wanted)
            found["quiet"] = self.searched(name, table)
            self.results.add("start", {"method": name, "settings": self.settings[name], **found})
            self.progress.say(f"first half: {name}: built in {taken['seconds']:.1f} s, recall {found['recall']:.4f}" +
                              (f", search p99 {found['quiet']['p99_ms']:.2f} ms in quiet" if found["quiet"] else ""))
        create_table(self.database, FRESH, self.data)
        self.database.run(f"ALTER TABLE {FRESH} SET (autovacuum_enabled = off);")
        self.reached(f"items_{OURS}", 0, half, "first half, fresh")

    def tune_vacuum(self, table):
        """With --vacuum explicit, vacuum is this program's."""
        if self.chosen.vacuum == "explicit":
            self.database.run(f"ALTER TABLE {table} SET (autovacuum_enabled = off);")

    def find_setting(self, name, table, wanted, rows):
        """Nothing set for spfresh; for a rival what gives 0.95 now."""
        if name == OURS:
            return {}
        knob = METHODS[name].knob
        value = smallest_value(lambda value: recall(self.database, table, self.data, self.chosen.k, {knob: value},
                                                     wanted, False)["recall"],
                               RIVAL_RECALL, 1, METHODS[name].highest(rows))
        return {knob: METHODS[name].highest(rows) if value is None else value}

    def searched(self, name, table):
        """Latencies of the searching clients when nothing else happens, for --quiet-seconds."""
        with Searchers(self.database, table, self.data, self.chosen.k, self.settings[name], self.chosen.clients,
                       self.chosen.search_rate) as searchers:
            begun = time.time()
            if self.chosen.clients:
                time.sleep(self.chosen.quiet_seconds)
        return searchers.between(begun, time.time())

    # ---- a round ----

    def round(self, number, window):
        wanted = live_truth(self.data, window.first, window.last, self.chosen.k)
        for name in self.names:
            table = f"items_{name}"
            found = {"round": number, "method": name, "rows": window.last - window.first}
            found.update(self.change(name, table, window))
            found.update(self.measured(name, table, wanted))
            if name == OURS:
                found["fresh"] = self.fresh(window, wanted)
                if self.chosen.equal == "rounds":
                    found["equal"] = self.equal_recall(table, wanted, found["fresh"]["recall"])
            self.results.add("rounds", found)
            self.tell(found)
        self.note_log()

    def change(self, name, table, window):
        """Deletes and inserts while the clients search; what it took."""
        wal = self.writer.wal()
        with BackgroundCpu(self.server) as background:
            with Searchers(self.database, table, self.data, self.chosen.k, self.settings[name], self.chosen.clients,
                           self.chosen.search_rate) as searchers:
                self.progress.update(f"{name}: changing rows")
                begun = time.time()
                deleted = self.writer.delete(table, window.old_first, window.first)
                singles, entries = self.writer.singles(table, window.old_last, window.middle)
                copied = self.writer.copy(table, window.middle, window.last)
                time.sleep(self.chosen.after_seconds)
                ended = time.time()
            found = {"delete_seconds": deleted, "insert": singles, "copy": copied,
                     "search": searchers.between(begun, ended)}
            if self.chosen.vacuum != "auto":
                found["vacuum"] = self.writer.vacuum(table)
        found["background_cpu"] = background.seconds()
        found["slow_inserts"] = slow_inserts(self.log.read(), entries, SLOW_MS)
        found["slow_searches"] = int((searchers.latencies[:, 0] > SLOW_MS * 1000).sum())
        found["wal_bytes_per_row"] = (self.writer.wal() - wal) / (window.last - window.old_last)
        return found

    def measured(self, name, table, wanted):
        """Recall at the method's setting, size, and its own figures, as they are now."""
        self.progress.update(f"{name}: recall")
        found = recall(self.database, table, self.data, self.chosen.k, self.settings[name], wanted, name == OURS)
        found["index_bytes"] = int(self.database.value(f"SELECT pg_relation_size('{table}_v');"))
        found["figures"] = inspected(self.database, METHODS[name], f"{table}_v")
        return found

    def fresh(self, window, wanted):
        """A build of the same rows."""
        self.writer.fill(FRESH, window.first, window.last)
        taken = build(self.database, METHODS[OURS], self.data, FRESH, {}, self.progress, checkpoints=False)
        return {"build_seconds": taken["seconds"], **self.measured(OURS, FRESH, wanted)}

    def equal_recall(self, table, wanted, target):
        """Entries that the changed and the fresh index scan for the fresh one's recall under default settings."""
        found = {"recall": target}
        for name, searched in (("churned", table), ("fresh", FRESH)):
            known = {}

            def at(value, searched=searched, known=known):
                if value not in known:
                    self.progress.update(f"{searched}: entries at nprobe {value}")
                    known[value] = recall(self.database, searched, self.data, self.chosen.k,
                                           {METHODS[OURS].knob: value}, wanted, True)
                return known[value]

            found[name] = cost_of_recall(at, target, 1, METHODS[OURS].highest(self.data.rows))
        return found

    def tell(self, found):
        name = found["method"]
        text = (f"round {found['round']} of {len(self.windows)}: {name}: recall {found['recall']:.4f}, "
                f"{found['insert']['rows_per_second']:,.0f} inserts/s (max {found['insert']['max_ms']:.0f} ms), "
                f"COPY {found['copy']['rows_per_second']:,.0f} rows/s")
        if found["search"]:
            text += f", search p99 {found['search']['p99_ms']:.2f} ms"
        if name == OURS:
            fresh, ratio = found["fresh"], entries_ratio(found)
            text += (f"; fresh {fresh['recall']:.4f}, size x {found['index_bytes'] / fresh['index_bytes']:.2f}" +
                     (f", entries x {ratio:.3f}" if ratio else ""))
        self.progress.say(text)

    def reached(self, table, first, last, what):
        """What spfresh.target_recall gives on a table that holds these rows."""
        if OURS not in self.names:
            return
        known = live_truth(self.data, first, last, max(self.chosen.ks))
        for found in reached(self.database, table, self.data, self.chosen.ks, known, what, self.progress):
            self.results.add("reached", found)

    # ---- the end ----

    def end(self):
        """Once the background has caught up, and again after spfresh_rebalance."""
        last = self.windows[-1]
        wanted = live_truth(self.data, last.first, last.last, self.chosen.k)
        table = f"items_{OURS}"
        with BackgroundCpu(self.server) as background:
            seconds = wait_idle(self.database, self.chosen.patience)
        self.add_end("caught up", table, wanted, {"seconds": seconds, "background_cpu": background.seconds()})
        self.reached(table, last.first, last.last, "after churn")
        self.reached(FRESH, last.first, last.last, "the same rows, fresh")
        self.equal_all()
        start = time.monotonic()
        lines = self.database.run(f"SELECT row_to_json(r) FROM spfresh_rebalance('{table}_v') r;")
        self.add_end("rebalanced", table, wanted, {"seconds": time.monotonic() - start, "rebalance": lines[0]})
        self.reached(table, last.first, last.last, "after spfresh_rebalance")
        self.results["end_quiet"] = {"churned": self.searched(OURS, table), "fresh": self.searched(OURS, FRESH)}
        self.results["checked"] = checked(self.database, METHODS[OURS], f"{table}_v")

    def add_end(self, what, table, wanted, found):
        """The changed index and the fresh one of the last round, compared once more."""
        rounds = [entry for entry in self.results["rounds"] if entry["method"] == OURS]
        found.update(what=what, **self.measured(OURS, table, wanted), fresh=rounds[-1]["fresh"])
        found["equal"] = self.equal_recall(table, wanted, found["fresh"]["recall"])
        self.results.add("end", found)
        self.progress.say(f"end, {what}: recall {found['recall']:.4f} (fresh {found['fresh']['recall']:.4f}), entries "
                          f"at equal recall {found['equal']['churned']:,.0f} (fresh {found['equal']['fresh']:,.0f}), "
                          f"size x {found['index_bytes'] / found['fresh']['index_bytes']:.2f}")

    def equal_all(self):
        """Pages that each method reads for one recall, in the changed index and in one built of the same rows.

        spfresh comes last: the fresh index that is left is its own.
        """
        last = self.windows[-1]
        wanted = live_truth(self.data, last.first, last.last, self.chosen.k)
        self.writer.fill(FRESH, last.first, last.last)
        for name in sorted(self.names, key=lambda name: name == OURS):
            build(self.database, METHODS[name], self.data, FRESH, {}, self.progress, checkpoints=False)
            found = {"method": name, "knob": METHODS[name].knob, "recall": RIVAL_RECALL}
            for what, table in (("churned", f"items_{name}"), ("fresh", FRESH)):
                self.progress.update(f"{what} {name}: pages at recall {RIVAL_RECALL}")
                found[what] = self.pages_at(name, table, wanted)
            self.results.add("equal", found)
            self.progress.say(f"{name} at recall {RIVAL_RECALL}: " + ", ".join(
                f"{what}: {found[what]['pages'] or 0:,.0f} pages a query" for what in ("churned", "fresh")))

    def pages_at(self, name, table, wanted):
        """The smallest setting with RIVAL_RECALL and, in proportion between two settings, the pages of it."""
        knob, highest, known = METHODS[name].knob, METHODS[name].highest(self.data.rows // 2), {}

        def at(value):
            if value not in known:
                known[value] = recall(self.database, table, self.data, self.chosen.k, {knob: value}, wanted)
            return known[value]

        return {"pages": cost_of_recall(at, RIVAL_RECALL, 1, highest, lambda value: self.pages(table, {knob: value})),
                "value": smallest_value(lambda value: at(value)["recall"], RIVAL_RECALL, 1, highest)}

    def pages(self, table, settings):
        """Pages of index and table that a search touches (mean)."""
        settings, _ = plan_settings(self.database, table, self.data.metric, self.chosen.k, settings)
        return float(np.mean([one["pages"] for one in explained(
            lambda sql: self.database.run(sql, settings), table, self.data, self.chosen.k,
            range(len(self.data.queries)))]))

    def note_log(self):
        """What the server logged so far."""
        self.log.read()
        self.results["log"] = {"problems": self.log.problems, "problem_count": self.log.problem_count,
                               "checkpoints": len(self.log.checkpoints),
                               "vacuums": [vacuum for vacuum in self.log.vacuums if vacuum["table"]]}


def prepare(server, data, extensions):
    """The database with all rows in `pool`, and the queries."""
    database = Database(server, DATABASE)
    create_database(database, extensions)
    load_keyed(database, "queries", "qid", np.arange(len(data.queries)), data.queries, data)
    load_keyed(database, "pool", "id", np.arange(data.rows), data.base, data)
    return database
