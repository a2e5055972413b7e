"""The phases of a measurement, in order; every result goes to the results file at once."""

import numpy as np

import plot
import report
from building import build, prewarm
from client import Database
from command import versions
from loading import create_database, installed_methods, load_keyed, load_rows
from methods import METHODS, OURS, label
from results import wait_quiet
from searching import reached, recall, smallest_value
from throughput import search_rate
from writing import WriteTest

PARTS = ("builds", "sweep", "targets", "points", "reached", "writes")
DATABASE = "bench"
QUICK_SWEEP = 3            # --quick takes every so many-th point


class Measurement:
    """One data set on one server, all methods."""

    def __init__(self, server, data, chosen, results, progress):
        self.server, self.data, self.chosen = server, data, chosen
        self.results, self.progress = results, progress
        self.database = Database(server, DATABASE)
        self.names = []
        self.recalls = {}
        self.presets = []      # (method, settings) measured as they stand
        self.operating = []    # (method, target or None, settings) measured in turn

    def run(self):
        self.names = self.available_methods()
        self.load()
        self.build_all()
        self.measure_presets()
        if OURS in self.names and not self.chosen.skip_reached:
            for found in reached(self.database, f"items_{OURS}", self.data, self.chosen.ks, self.data.truth_ids,
                                 "fresh", self.progress):
                self.results.add("reached", found)
        if not self.chosen.skip_targets:
            self.find_targets()
            self.measure_targets()
        if not self.chosen.skip_sweep:
            self.sweep()
        if not self.chosen.skip_writes:
            self.write()
        self.publish()

    def available_methods(self):
        """The asked methods that this server has installed; raises when none, says which are not."""
        names, self.extensions = installed_methods(self.server, self.chosen.methods, self.progress)
        self.results["not_installed"] = [name for name in self.chosen.methods if name not in names]
        return names

    def load(self):
        create_database(self.database, self.extensions)
        load_keyed(self.database, "queries", "qid", np.arange(len(self.data.queries)), self.data.queries, self.data)
        for name in self.names:
            load_rows(self.database, f"items_{name}", self.data, self.progress)
        self.results["versions"] = versions(self.database)
        self.results["table_bytes"] = int(self.database.value(f"SELECT pg_table_size('items_{self.names[0]}');"))
        self.progress.say("loaded")

    def quiet(self):
        return wait_quiet(self.progress, self.chosen.wait_quiet, self.chosen.patience)

    def build_all(self):
        """Every index, in turn, so many rounds; the last one built is the one that is searched."""
        rounds = self.chosen.build_rounds or self.chosen.rounds
        for number in range(rounds):
            for name in self.names:
                others = self.quiet()
                taken = build(self.database, METHODS[name], self.data, f"items_{name}", {}, self.progress)
                self.results.add("builds", {**taken, "round": number, "others_busy_cores": others})
                self.progress.say(f"build {name}, round {number + 1} of {rounds}: {taken['seconds']:.1f} s, "
                                  f"{taken['index_bytes'] / 1e6:.1f} MB, peak {taken['peak_anonymous_bytes'] / 1e6:.0f}"
                                  f" MB" + (f"; {taken['notices']}" if taken["notices"] else ""))
        for table in ["queries"] + [f"items_{name}" for name in self.names]:
            prewarm(self.database, table)

    def recall_at(self, name, settings):
        """Recall of a method at settings, measured once."""
        key = (name, label(settings))
        if key not in self.recalls:
            self.progress.update(f"recall of {name} at {label(settings)}")
            self.recalls[key] = recall(self.database, f"items_{name}", self.data, self.chosen.k, settings)
        return self.recalls[key]

    def rate(self, name, settings, clients, form, seed):
        """Throughput and latency at settings, with the recall there."""
        others = self.quiet()
        self.progress.update(f"throughput of {name} at {label(settings)}, {clients} clients, {form}")
        return {"method": name, "settings": settings, "label": label(settings), **self.recall_at(name, settings),
                "others_busy_cores": others,
                **search_rate(self.database, f"items_{name}", self.data, self.chosen.k, settings, clients,
                              self.chosen.seconds, form, seed)}

    def measure_presets(self):
        """Recall with nothing set, and at the other settings a user would take as they stand."""
        for name in self.names:
            for settings in METHODS[name].presets:
                found = self.recall_at(name, settings)
                self.operating.append((name, None, settings))
                self.results.add("points", {"method": name, "settings": settings, **found})
                self.progress.say(f"{name} at {label(settings)}: recall@{self.chosen.k} {found['recall']:.4f}, "
                                  f"worst twentieth {found['worst_recall']:.3f}")

    def find_targets(self):
        """The smallest setting of each method that reaches each recall."""
        for name in self.names:
            method = METHODS[name]
            for target in self.chosen.targets:
                value = smallest_value(lambda value: self.recall_at(name, {method.knob: value})["recall"], target, 1,
                                       method.highest(self.data.rows))
                if value is None:
                    self.progress.say(f"{name}: recall {target} is not reached at any {method.knob}")
                    self.results.add("targets", {"method": name, "target": target, "settings": None})
                    continue
                self.operating.append((name, target, {method.knob: value}))
                self.progress.say(f"{name}: recall {target} at {method.knob} = {value}")

    def measure_targets(self):
        """All operating points in turn, so many rounds: noise of the machine meets all of them alike."""
        for number in range(self.chosen.rounds):
            for form in self.chosen.forms:
                for clients in self.chosen.clients:
                    for name, target, settings in sorted(self.operating, key=lambda point: str(point[1])):
                        found = self.rate(name, settings, clients, form, seed=number + 1)
                        self.results.add("targets", {**found, "target": target, "round": number})
                        self.progress.say(f"round {number + 1}: {name} at {label(settings)}: recall "
                                          f"{found['recall']:.4f}, {clients} clients ({form}): {found['qps']:,.0f} "
                                          f"queries/s, p99 {found['p99_ms']:.2f} ms")

    def sweep(self):
        """The recall/throughput curve of each method, one client; stops where more brings no more recall."""
        for name in self.names:
            method = METHODS[name]
            values = [value for value in method.sweep if value <= method.highest(self.data.rows)]
            for value in values[::QUICK_SWEEP] if self.chosen.quick else values:
                found = self.rate(name, {method.knob: value}, 1, self.chosen.forms[0], seed=1)
                self.results.add("sweep", found)
                self.progress.say(f"sweep: {name} at {found['label']}: recall {found['recall']:.4f}, "
                                  f"{found['qps']:,.0f} queries/s")
                if found["recall"] > 0.9995:
                    break

    def write(self):
        """Write rates of every method and of the table without an index, so many rounds in turn."""
        rows = self.data.rows
        test = WriteTest(self.server, self.data, self.names, int(rows * self.chosen.copy_share),
                         min(self.chosen.inserts, rows // 10), {}, self.progress)
        test.prepare(self.extensions)
        for number in range(self.chosen.write_rounds or self.chosen.rounds):
            database = test.start_round()
            for name in test.names:
                others = self.quiet()
                points = [settings for method, target, settings in self.operating if method == name]
                found = test.measure(database, name, self.chosen.k, points)
                self.results.add("writes", {**found, "round": number, "others_busy_cores": others})
                self.progress.say(f"writes, round {number + 1}: {name}: {found['insert']['rows_per_second']:,.0f} "
                                  f"inserts/s, COPY {found['copy']['rows_per_second']:,.0f} rows/s, vacuum "
                                  f"{found['vacuum']['seconds']:.1f} s")

    def publish(self):
        """The table and the plot beside the JSON."""
        report.publish(self.results, report.markdown, plot.draw if self.results["sweep"] else None)
