"""Searches with a WHERE: which rows pass, what is found among them, at what cost, and the tables of it."""

from statistics import median

import numpy as np

import truth
from building import build, prewarm
from client import Database, copy_stream, integer_stream
from command import versions
from loading import create_database, installed_methods, load_keyed
from methods import METHODS, OURS, label
from report import RIVAL, assembled, number, table, times
from searching import answers, generic_plan, graded, scans_index, smallest_value
from throughput import measured_rate, table_scripts

MILLION = 1_000_000
COLUMNS = {"r": "random", "c": "follows the vectors"}
PLANS = {"free": {}, "forced": {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off"}}
SAMPLE = 20000             # rows that the direction of `c` is found with
ORDERS = ("strict_order", "relaxed_order")
ITERATIVE = {"spfresh": "spfresh.iterative_scan", "hnsw": "hnsw.iterative_scan", "ivfflat": "ivfflat.iterative_scan"}
NEEDED_RECALL = 0.95


def random_column(data, seed=11):
    """For each row a number from 0 to a million, evenly spread, in random order."""
    return np.random.default_rng(seed).permutation(data.rows).astype(np.int64) * MILLION // data.rows


def following_column(data):
    """The same in the order of the rows along the direction in which they differ most."""
    step = max(1, data.rows // SAMPLE)
    sample = np.asarray(data.base[::step], dtype=np.float32)
    centre = sample.mean(axis=0)
    direction = np.linalg.svd(sample - centre, full_matrices=False)[2][0]
    along = np.concatenate([np.asarray(data.base[start:start + 8192], np.float32) @ direction
                            for start in range(0, data.rows, 8192)])
    result = np.empty(data.rows, np.int64)
    result[np.argsort(along, kind="stable")] = np.arange(data.rows) * MILLION // data.rows
    return result


def passing_truth(data, passes, k):
    """Exact answers among the rows of a mask, as row numbers; fewer than k where fewer pass."""
    rows = np.flatnonzero(passes)
    return rows[truth.exact(np.asarray(data.base[rows]), data.queries, k, data.metric)]


def plan_name(plan, table_name):
    """What kind of plan it is, from its lines."""
    if scans_index(plan, table_name):
        return "index"
    for mark, name in ((f"Bitmap Heap Scan on {table_name}", "bitmap"), (f"Seq Scan on {table_name}", "seqscan"),
                       (f" on {table_name}", "other index")):
        if any(mark in line for line in plan):
            return f"{name} + sort"
    return "other"


def variants(name):
    """Settings of a method's kinds of iterative scans, with nothing else set."""
    return [{ITERATIVE[name]: order} for order in ORDERS[1 if name == "ivfflat" else 0:]]


class Filters:
    """All filters of all methods on one server."""

    def __init__(self, server, data, chosen, results, progress):
        self.server, self.data, self.chosen = server, data, chosen
        self.results, self.progress = results, progress
        self.database = Database(server, "filters")
        self.columns = {"r": random_column(data), "c": following_column(data)}

    def run(self):
        self.names, extensions = installed_methods(self.server, self.chosen.methods, self.progress)
        self.results["not_installed"] = [name for name in self.chosen.methods if name not in self.names]
        create_database(self.database, extensions)
        self.results["versions"] = versions(self.database)
        load_keyed(self.database, "queries", "qid", np.arange(len(self.data.queries)), self.data.queries, self.data)
        self.load_columns()
        for name in self.names:
            self.load(name)
        prewarm(self.database, "queries")
        for column in self.chosen.columns:
            for share in self.chosen.shares:
                self.measure_filter(column, share)

    def load_columns(self):
        """A table of row numbers and both columns, and one of the vectors."""
        self.database.run("CREATE TABLE numbers (id integer, r integer, c integer);"
                          f"CREATE TABLE vectors (id integer, v {self.data.column_type}({self.data.dimensions}));")
        self.database.copy_in("numbers", integer_stream(np.stack(
            [np.arange(self.data.rows), self.columns["r"], self.columns["c"]], axis=1)))
        self.database.copy_in("vectors", copy_stream(self.data.base, self.data.column_type, report=lambda done:
                              self.progress.update(f"loading {done:,} of {self.data.rows:,} rows")))
        self.database.run("ANALYZE numbers; ANALYZE vectors;")

    def load(self, name):
        """The method's table, in the order of the rows, and its index."""
        items = f"items_{name}"
        self.progress.update(f"loading {items}")
        self.database.run(f"CREATE TABLE {items} AS SELECT id, v, r, c FROM vectors JOIN numbers USING (id) "
                          f"ORDER BY id; VACUUM (ANALYZE, FREEZE) {items};")
        taken = build(self.database, METHODS[name], self.data, items, {}, self.progress)
        self.results.add("builds", taken)
        self.progress.say(f"built {name}: {taken['seconds']:.1f} s")
        if self.chosen.btree:
            self.database.run(f"CREATE INDEX ON {items} (r); CREATE INDEX ON {items} (c); ANALYZE {items};")
        prewarm(self.database, items)

    # ---- a filter ----

    def measure_filter(self, column, share):
        """All methods and plans at one filter."""
        passes = self.columns[column] < share * MILLION
        where = f"{column} < {int(share * MILLION)}"
        if not passes.any():
            self.progress.say(f"{where}: left out, no row passes")
            return
        wanted = passing_truth(self.data, passes, self.chosen.k)
        points = [(name, settings, "as set") for name in self.names for settings in variants(name)]
        if "forced" in self.chosen.plans:      # tuned where the index is used, whatever the planner would do
            points += [(name, tuned, f"tuned to {self.chosen.target:g}") for name in self.names if name != OURS
                       for settings in variants(name) for tuned in self.tuned(name, settings, where, wanted)]
        found = [{"column": column, "share": share, "passing": int(passes.sum()), "plans": plans, "method": name,
                  "settings": settings, "how": how, **self.measured(name, settings, PLANS[plans], where, wanted)}
                 for plans in self.chosen.plans for name, settings, how in points]
        for _ in range(self.chosen.rounds):
            for entry in found:
                entry.setdefault("rates", []).append(self.rate(entry, where))
        for entry in found:
            for figure in ("qps", "p50_ms", "p95_ms", "p99_ms", "cpu_ms"):
                entry[figure] = median(rate[figure] for rate in entry["rates"])
            self.results.add("filters", entry)
            self.tell(entry)

    def tell(self, entry):
        self.progress.say(f"{COLUMNS[entry['column']]}, {entry['share']:.1%}, {entry['plans']}: {entry['method']} at "
                          f"{label(entry['settings'])} by {entry['plan']}: full {entry['full']:.1%}, recall "
                          f"{entry['recall']:.4f}, {entry['qps']:,.0f} queries/s")

    def asked(self, name, settings, where, wanted, queries=None):
        """Of the first queries: share with all rows they can have, and recall among these."""
        k = wanted.shape[1]
        found, _ = answers(self.database, f"items_{name}", self.data, self.chosen.k, settings, where=where,
                           queries=queries)
        each = truth.recall(self.data.base, self.data.queries[:queries], wanted[:queries], found, k, self.data.metric)
        result = graded(each, found, k)
        return {**result, "full": 1 - result.pop("short_answers") / len(found)}

    def measured(self, name, settings, plans, where, wanted):
        """The plan, and what it gives."""
        self.progress.update(f"{where}: {name} at {label(settings)}")
        wanted_settings = {"plan_cache_mode": "force_generic_plan", **plans, **settings}
        plan = generic_plan(self.database, f"items_{name}", self.data.metric, self.chosen.k, wanted_settings, where)
        return {"plan": plan_name(plan, f"items_{name}"), "plan_settings": wanted_settings,
                **self.asked(name, wanted_settings, where, wanted)}

    def rate(self, entry, where):
        """Queries a second and latencies."""
        self.progress.update(f"{where}: {entry['method']} at {label(entry['settings'])}, throughput")
        return measured_rate(self.database, lambda folder: table_scripts(
            f"items_{entry['method']}", self.data, self.chosen.k, folder, where), entry["plan_settings"], 1,
            self.chosen.seconds)

    def tuned(self, name, settings, where, wanted):
        """The smallest setting that reaches the target with the index forced; a list of it, or an empty one.

        Where no value of the knob is enough, the bounds that end an iterative scan early are lifted, too.
        """
        method, lifted = METHODS[name], {}
        if name == "hnsw":
            lifted = {"hnsw.max_scan_tuples": self.data.rows, "hnsw.scan_mem_multiplier": 32}
        elif name == "ivfflat":
            lifted = {"ivfflat.max_probes": method.highest(self.data.rows)}
        for more in ({}, lifted):
            known = {}

            def at(value, more=more, known=known):
                if value not in known:
                    self.progress.update(f"{where}: tuning {name}, {method.knob} {value}")
                    known[value] = self.asked(name, {"plan_cache_mode": "force_generic_plan", **PLANS["forced"],
                                                     **settings, **more, method.knob: value}, where, wanted,
                                              self.chosen.tuning_queries)["recall"]
                return known[value]

            highest = method.highest(self.data.rows)
            # most searching first: where it is not enough, nothing is
            value = smallest_value(at, self.chosen.target, 1, highest) if at(highest) >= self.chosen.target else None
            if value is not None:
                return [{**settings, **more, method.knob: value}]
        self.progress.say(f"{where}: {name} with {label(settings)} does not reach recall {self.chosen.target} at any "
                          "setting")
        return []


# ---- tables ----

def good(entry):
    """Full counts for every query, and the recall that is wanted."""
    return entry["full"] == 1 and entry["recall"] >= NEEDED_RECALL


def best(entries):
    """The fastest entry that is good, or None."""
    return max((entry for entry in entries if good(entry)), key=lambda entry: entry["qps"], default=None)


def of_filter(values):
    """{(column, share): entries} in the order of measuring."""
    found = {}
    for entry in values["filters"]:
        found.setdefault((entry["column"], entry["share"]), []).append(entry)
    return found


def goal_lines(values):
    """Of each filter: spfresh with nothing set beside the fastest good setting of HNSW by its index.

    And beside the fastest plan that uses no vector index, which the planner should choose where it is faster.
    """
    rows = []
    for (column, share), entries in of_filter(values).items():
        rival = best(entry for entry in entries if entry["method"] == RIVAL and entry["plan"] == "index")
        without = max((entry["qps"] for entry in entries if entry["plan"] != "index"), default=None)
        for ours in (entry for entry in entries if entry["method"] == OURS):
            faster = rival is None or ours["qps"] > rival["qps"]
            rows.append([COLUMNS[column], f"{share:.1%}", f"{label(ours['settings'])}, {ours['plans']}: {ours['plan']}",
                         f"{ours['full']:.1%}", f"{ours['recall']:.4f}", number(ours["qps"], 4),
                         label(rival["settings"]) if rival else "none is good",
                         number(rival["qps"], 4) if rival else "-", times(ours["qps"], rival and rival["qps"]),
                         times(rival and rival["cpu_ms"], ours["cpu_ms"]), number(without, 4),
                         "yes" if good(ours) and faster else "NO"])
    return table(["column", "rows that pass", "spfresh", "full", "recall", "queries/s",
                  "fastest HNSW with full counts and recall 0.95", "queries/s", "spfresh x HNSW", "CPU, times less",
                  "without vector index, queries/s", "goal met"], rows)


def filter_lines(values):
    """Everything that was measured."""
    rows = [[COLUMNS[entry["column"]], f"{entry['share']:.1%}", entry["plans"], entry["method"],
             f"{label(entry['settings'])} ({entry['how']})", entry["plan"], f"{entry['full']:.1%}",
             f"{entry['recall']:.4f}", f"{entry['worst_recall']:.3f}", number(entry["qps"], 4),
             *(number(entry[figure]) for figure in ("p50_ms", "p95_ms", "p99_ms", "cpu_ms"))]
            for entry in values["filters"]]
    return table(["column", "rows that pass", "planner", "method", "setting", "plan", "full counts", "recall",
                  "worst 5 %", "queries/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms"], rows)


def markdown(values):
    """All tables of one results file."""
    return assembled(values, (goal_lines, filter_lines))
