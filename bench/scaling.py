"""What a build and a search cost at growing sizes: measuring them, and their tables and plots."""

import os
from statistics import median

import numpy as np

from building import build, checked, prewarm
from client import Database
from command import generated, versions
from dataset import open_data
from loading import create_database, installed_methods, load_keyed, load_rows
from methods import METHODS, OURS, label
from plot import NAMES, STYLES, matplotlib, save
from report import MB, grouped, number, table, times
from searching import explained, plan_settings, recall, smallest_value
from throughput import search_rate

FIGURES = ("seconds", "cpu_seconds", "peak_memory_bytes", "temporary_bytes", "wal_bytes", "index_bytes")
K = 10


class Scale:
    """All sizes on one server, one after the other."""

    def __init__(self, server, chosen, results, progress):
        self.server, self.chosen = server, chosen
        self.results, self.progress = results, progress
        self.database = Database(server, "scale")

    def measure(self, rows, dimensions):
        """Builds of one size by all methods, and searches with the last build of each."""
        data = self.data_set(rows, dimensions)
        names, extensions = installed_methods(self.server, self.chosen.methods, self.progress)
        create_database(self.database, extensions)
        self.results["versions"] = versions(self.database)
        load_rows(self.database, "items", data, self.progress)
        # as many workers as asked for, however small the table
        self.database.run("ALTER TABLE items SET (parallel_workers = 64);")
        if self.chosen.search:
            load_keyed(self.database, "queries", "qid", np.arange(len(data.queries)), data.queries, data)
        for name in names:
            for number_of_round in range(self.chosen.rounds):
                for workers in self.chosen.workers:
                    self.build(name, data, workers, number_of_round)
            if self.chosen.search:
                self.search(name, data)

    def data_set(self, rows, dimensions):
        folder = generated(self.chosen.out, rows, dimensions, self.progress)
        return open_data(folder, None, self.chosen.type, os.path.join(self.chosen.out, "truth"), self.chosen.queries,
                         self.progress.say)

    def build(self, name, data, workers, number_of_round):
        settings = {"max_parallel_maintenance_workers": str(workers)}
        measured = build(self.database, METHODS[name], data, "items", settings, self.progress)
        measured.update(rows=data.rows, dimensions=data.dimensions, workers=workers, round=number_of_round)
        if self.chosen.check:
            measured["checked"] = checked(self.database, METHODS[name], "items_v")
        self.results.add("builds", measured)
        self.progress.say(f"{name}, {data.rows:,} x {data.dimensions}, {workers} workers: {measured['seconds']:.2f} s, "
                          f"peak {measured['peak_memory_bytes'] / MB:,.0f} MB, temporary files "
                          f"{measured['temporary_bytes'] / MB:,.0f} MB, WAL {measured['wal_bytes'] / MB:,.0f} MB")

    # ---- searches ----

    def search(self, name, data):
        """Recall and cost with nothing set, and at the smallest setting for each target."""
        for relation in ("queries", "items"):
            prewarm(self.database, relation)
        points = [(None, {})] + [(target, self.tuned(name, data, target)) for target in self.chosen.targets]
        for target, settings in points:
            if settings is None:
                self.progress.say(f"{name}, {data.rows:,} rows: recall {target} is not reached at any setting")
                continue
            self.progress.update(f"searches of {name}, {data.rows:,} rows, {label(settings)}")
            found = recall(self.database, "items", data, K, settings, reads=name == OURS)
            rates = [search_rate(self.database, "items", data, K, settings, 1, self.chosen.seconds, seed=seed)
                     for seed in range(1, self.chosen.search_rounds + 1)]
            entry = {"method": name, "rows": data.rows, "dimensions": data.dimensions, "target": target,
                     "settings": settings, **found, "pages_touched": self.pages(data, settings),
                     **{key: median(rate[key] for rate in rates)
                        for key in ("qps", "cpu_ms", "p50_ms", "p99_ms", "blocks_read")}}
            self.results.add("searches", entry)
            self.progress.say(f"{name}, {data.rows:,} rows, {label(settings)}: recall {entry['recall']:.4f}, "
                              f"{entry['cpu_ms']:.3f} ms CPU, {entry['pages_touched']:.0f} pages a search")

    def tuned(self, name, data, target):
        """The smallest setting that reaches a recall, or None."""
        method = METHODS[name]
        value = smallest_value(lambda value: recall(self.database, "items", data, K, {method.knob: value})["recall"],
                               target, 1, method.highest(data.rows))
        return None if value is None else {method.knob: value}

    def pages(self, data, settings):
        """Pages of index and table that a search touches (mean)."""
        wanted, _ = plan_settings(self.database, "items", data.metric, K, settings)
        told = explained(lambda sql: self.database.run(sql, wanted), "items", data, K, range(len(data.queries)))
        return float(np.mean([one["pages"] for one in told]))


# ---- tables ----

def medians(builds):
    """One build for each method, size and number of workers: the one of median seconds."""
    groups = grouped(builds, lambda one: (one["method"], one["rows"], one["dimensions"], one["workers"]))
    return [sorted(group, key=lambda one: one["seconds"])[len(group) // 2] for group in groups.values()]


def build_lines(values):
    rows = []
    for one in medians(values["builds"]):
        figures = [one[name] for name in FIGURES]
        rows.append([one["method"], f"{one['rows']:,}", one["dimensions"], one["workers"], f"{figures[0]:.2f}",
                     f"{1e6 * figures[0] / one['rows']:.1f}", f"{figures[1]:.2f}",
                     *(f"{figure / MB:,.0f}" for figure in figures[2:])])
    return table(["method", "rows", "dimensions", "workers", "seconds", "us a row", "CPU s", "peak MB", "temporary MB",
                  "WAL MB", "index MB"], rows)


def lines_of_growth(searches):
    """{(method, target, dimensions): searches by rows} of what was measured at more than one size or at one."""
    groups = grouped(searches, lambda one: (one["method"], one["target"], one["dimensions"]))
    return {key: sorted(group, key=lambda one: one["rows"]) for key, group in groups.items()}


def exponent(small, large, figure):
    """The power of the number of rows that a figure grows with between two sizes; 0.5 is the square root."""
    return float(np.log(large[figure] / small[figure]) / np.log(large["rows"] / small["rows"]))


def search_lines(values):
    rows = []
    for (name, target, dimensions), group in lines_of_growth(values.get("searches", [])).items():
        for place, one in enumerate(group):
            first = group[0]
            grown = [f"{exponent(first, one, figure):.2f}" if place else "-" for figure in ("cpu_ms", "pages_touched")]
            rows.append([name, target or "as set", label(one["settings"]), f"{one['rows']:,}", dimensions,
                         f"{one['recall']:.4f}", number(one["qps"], 4), number(one["cpu_ms"]), *grown[:1],
                         times(one["cpu_ms"], first["cpu_ms"] * (one["rows"] / first["rows"]) ** 0.5),
                         number(one["p99_ms"]), number(one.get("entries"), 4), number(one["pages_touched"], 4),
                         *grown[1:]])
    return table(["searches", "recall asked", "setting", "rows", "dimensions", "recall", "queries/s", "CPU ms",
                  "its exponent", "of the square root's", "p99 ms", "entries", "pages", "their exponent"], rows)


def markdown(values):
    """All tables of one results file."""
    machine = values["machine"]
    return "\n".join([f"{values['started']}, {machine['cpu']}, {machine['cores']} cores; `{values['command']}`", ""] +
                     build_lines(values) + search_lines(values))


# ---- plots ----

def build_panel(axes, builds, across, other, figure, scale, text):
    lines = {}
    for one in builds:
        lines.setdefault((one["method"], one[other], one["workers"]), []).append((one[across], one[figure] * scale))
    for (method, fixed, workers), points in sorted(lines.items()):
        if len(points) > 1:
            axes.plot(*zip(*sorted(points)), marker="o", label=f"{method}, {fixed:,} {other}, {workers} workers")
    axes.set_xlabel(across)
    axes.set_ylabel(text)


def search_panel(axes, searches, figure, text):
    """Cost against rows, and for each line how it would grow as the square root."""
    for (name, target, dimensions), group in lines_of_growth(searches).items():
        colour, marker = STYLES.get(name, ("#555555", "x"))
        rows, costs = np.array([one["rows"] for one in group]), np.array([one[figure] for one in group])
        what = f"recall {target}" if target else "as set"
        axes.plot(rows, costs, color=colour, marker=marker, linestyle="-" if target else ":",
                  label=f"{NAMES.get(name, name)}, {what}, {dimensions} dimensions")
        axes.plot(rows, costs[0] * (rows / rows[0]) ** 0.5, color=colour, linestyle="--", linewidth=0.8, alpha=0.6)
    axes.plot([], [], color="#555555", linestyle="--", linewidth=0.8, label="as the square root")
    axes.set_xlabel("rows")
    axes.set_ylabel(text)


def draw(results, path):
    """A PNG with builds above and, where there are any, searches below; of one results dict."""
    values, = results
    builds, searches = medians(values["builds"]), values.get("searches", [])
    figure, panels = matplotlib.pyplot.subplots(2 if searches else 1, 3, figsize=(18, 10 if searches else 5),
                                                squeeze=False)
    for axes, *what in ((panels[0][0], "rows", "dimensions", "seconds", 1, "seconds"),
                        (panels[0][1], "dimensions", "rows", "seconds", 1, "seconds"),
                        (panels[0][2], "rows", "dimensions", "peak_memory_bytes", 1 / MB,
                         "peak memory beyond shared buffers, MB")):
        build_panel(axes, builds, *what)
    if searches:
        for axes, *what in ((panels[1][0], "cpu_ms", "CPU ms a search"), (panels[1][1], "pages_touched",
                            "pages a search"), (panels[1][2], "p99_ms", "p99 ms")):
            search_panel(axes, searches, *what)
    for axes in panels.flat:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(True, which="both", alpha=0.3)
        if axes.get_lines():
            axes.legend(fontsize=8)
    save(figure, path)
