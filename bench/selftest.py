#!/usr/bin/python3
"""Tests of the benchmark's own parts that need no server: readers, generator, truth, searching of settings, reports."""

import argparse
import os
import tempfile
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from xml.dom import minidom

import numpy as np

import chilling
import churning
import churnparts
import churnreport
import command
import filtering
import observing
import report
import scaling
import searching
import truth
from client import COPY_HEADER, copy_rows, copy_stream, integer_stream
from dataset import DataSet
from generate import Clusters, generate
from methods import ivfflat_lists
from readers import BadFile, open_vectors, write_vectors
from searching import smallest_value
from throughput import read_log
from writing import split_rows, surviving_truth


class Folder(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)

    def path(self, name):
        return os.path.join(self.temporary.name, name)


class Readers(Folder):
    def test_round_trip_of_every_format(self):
        values = np.random.default_rng(1).integers(0, 200, (7, 5))
        for extension in ("fvecs", "bvecs", "ivecs", "hvecs"):
            write_vectors(self.path("x." + extension), values)
            self.assertTrue((open_vectors(self.path("x." + extension)) == values).all(), extension)

    def test_half_precision_is_exact(self):
        values = np.random.default_rng(1).normal(size=(4, 9)).astype("f2")
        write_vectors(self.path("x.hvecs"), values)
        self.assertTrue((open_vectors(self.path("x.hvecs")) == values).all())

    def test_damaged_files_are_refused(self):
        with open(self.path("x.fvecs"), "wb") as file:
            file.write(b"\x04\0\0\0" + b"\0" * 15)
        open(self.path("empty.fvecs"), "wb").close()
        for name in ("x.fvecs", "empty.fvecs", "x.txt"):
            with self.assertRaises(BadFile):
                open_vectors(self.path(name))


class Flames(unittest.TestCase):
    SAMPLES = """postgres
\t 1 inner (/lib/spfresh.so)
\t 2 outer.part.0 (/lib/spfresh.so)
\t 3 [unknown] (/bin/postgres)
\t 4 PostgresMain (/bin/postgres)
\t 5 main (/bin/postgres)

postgres
\t 2 outer+0x1f (/lib/spfresh.so)
\t 4 PostgresMain (/bin/postgres)

postgres
\t 9 idle<x> ([kernel.kallsyms])
\t 4 PostgresMain (/bin/postgres)
"""

    def setUp(self):
        loader = SourceFileLoader("flame", os.path.join(os.path.dirname(os.path.abspath(__file__)), "flame"))
        self.flame = module_from_spec(spec_from_loader("flame", loader))
        loader.exec_module(self.flame)
        self.root = self.flame.fold(self.flame.read_stacks(self.SAMPLES.splitlines(keepends=True)))

    def test_samples_become_a_tree(self):
        self.assertEqual(self.root.total, 3)
        self.assertEqual(self.flame.shares(self.root), {"outer": ("spfresh", 2, 1), "inner": ("spfresh", 1, 1),
                                                        "idle<x>": ("kernel", 1, 1)})

    def test_the_drawing_is_well_formed(self):
        drawn = minidom.parseString(self.flame.drawing(self.root, "a < b"))
        titles = [node.firstChild.data for node in drawn.getElementsByTagName("title")]
        self.assertEqual(titles, ["outer (spfresh): 66.7 %, itself 33.3 %", "inner (spfresh): 33.3 %, itself 33.3 %",
                                  "idle<x> (kernel): 33.3 %, itself 33.3 %"])


class Generator(Folder):
    def test_same_seed_same_data_and_truth_is_exact(self):
        first = generate(self.path("a"), 9000, 24, queries=20)
        second = generate(self.path("b"), 9000, 24, queries=20)
        for name in ("base.fvecs", "query.fvecs", "gt.ivecs"):
            with open(os.path.join(first, name), "rb") as one, open(os.path.join(second, name), "rb") as other:
                self.assertEqual(one.read(), other.read(), name)
        base, queries = (open_vectors(os.path.join(first, name)) for name in ("base.fvecs", "query.fvecs"))
        told = open_vectors(os.path.join(first, "gt.ivecs"))
        for query, ids in zip(queries, told):
            wide = ((base.astype("f8") - query.astype("f8")) ** 2).sum(axis=1)
            self.assertTrue((np.argsort(wide, kind="stable")[:100] == ids).all())

    def test_low_intrinsic_dimension(self):
        shape = Clusters(200, 40, 30, 1)
        base, asked = (shape.sample(rows, np.random.default_rng(rows)) for rows in (20000, 50))
        near = np.stack([np.sort(np.linalg.norm(base - query, axis=1))[:100] for query in asked])
        local = -1 / np.log(near[:, :-1] / near[:, -1:]).mean(axis=1)
        self.assertTrue(12 < np.median(local) < 35, np.median(local))


class Truth(unittest.TestCase):
    def test_every_metric_against_the_plain_formula(self):
        random = np.random.default_rng(3)
        base, queries = random.normal(size=(500, 12)).astype("f4"), random.normal(size=(5, 12)).astype("f4")
        plain = {"l2": lambda q: ((base - q) ** 2).sum(1), "ip": lambda q: -(base @ q),
                 "cosine": lambda q: -(base @ q) / np.linalg.norm(base, axis=1)}
        for metric, distance in plain.items():
            ids = truth.exact(base, queries, 10, metric)
            for query, row in zip(queries, ids):
                self.assertEqual(list(np.argsort(distance(query), kind="stable")[:10]), list(row), metric)

    def test_recall_counts_ties_once_and_repeats_never(self):
        base = np.array([[0.0], [1], [1], [5]], "f4")
        queries = np.zeros((1, 1), "f4")
        ids = truth.exact(base, queries, 2, "l2")
        self.assertEqual(list(ids[0]), [0, 1])
        for found, share in (([0, 2], 1), ([0, 0], 0.5), ([0, 3], 0.5), ([0, -1], 0.5)):
            self.assertEqual(truth.recall(base, queries, ids, np.array([found]), 2, "l2")[0], share)

    def test_fewer_rows_than_asked(self):
        self.assertEqual(truth.exact(np.eye(3, dtype="f4"), np.eye(3, dtype="f4"), 10, "l2").shape, (3, 3))


class Settings(unittest.TestCase):
    def test_smallest_value(self):
        for wanted in range(1, 60):
            self.assertEqual(smallest_value(lambda value, w=wanted: value >= w, True, 1, 59), wanted)
        self.assertIsNone(smallest_value(lambda value: 0.5, 0.9, 1, 1000))

    def test_lists(self):
        self.assertEqual([ivfflat_lists(rows) for rows in (100, 300_000, 4_000_000)], [10, 300, 2000])


class Writes(unittest.TestCase):
    def test_rows_are_split_without_overlap(self):
        there, batch, step = split_rows(1003, 100, 50)
        singles = np.zeros(1003, bool)
        singles[np.arange(50) * step] = True
        self.assertTrue((there.astype(int) + batch + singles == 1).all())
        self.assertEqual(batch.sum(), 100)

    def test_surviving_truth(self):
        ids, k = surviving_truth(np.array([[1, 2, 5, 4, 8], [3, 9, 6, 7, 0]]), 2)
        self.assertEqual((ids.tolist(), k), ([[2, 4], [3, 6]], 2))


class ChurnOrder(Folder):
    def test_windows_move_on_and_end_with_the_rows(self):
        found = churning.windows(1000, 30, 0.05)
        self.assertEqual(len(found), 20)
        self.assertEqual((found[-1].first, found[-1].last), (500, 1000))
        for before, after in zip(found, found[1:]):
            self.assertEqual((before.first, before.last), (after.old_first, after.old_last))
        self.assertEqual((found[0].old_last, found[0].middle, found[0].last), (500, 512, 525))
        self.assertEqual(len(churning.windows(1000, 3, 0.05)), 3)

    def test_rows_come_in_the_order_of_the_file(self):
        base = np.arange(12, dtype="f4").reshape(6, 2)
        data = DataSet("x", base, base[:1], None, "l2", "vector")
        write_vectors(self.path("drift.ivecs"), np.array([[5, 3, 1, 0, 2, 4]]))
        self.assertEqual(churning.in_order(data, self.temporary.name, "drift", None).base[:, 0].tolist(),
                         [10, 6, 2, 0, 4, 8])
        self.assertEqual(churning.in_order(data, self.temporary.name, "drift", 2).base[:, 0].tolist(), [10, 8])
        self.assertEqual(churning.in_order(data, self.temporary.name, "file", None).base[:, 0].tolist(),
                         base[:, 0].tolist())
        write_vectors(self.path("drift.ivecs"), np.array([[5, 3, 1, 0, 2, 2]]))
        for order in ("drift", "other"):
            with self.assertRaises(BadFile):
                churning.in_order(data, self.temporary.name, order, None)

    def test_truth_of_live_rows(self):
        random = np.random.default_rng(5)
        base, queries = random.normal(size=(300, 6)).astype("f4"), random.normal(size=(4, 6)).astype("f4")
        data = DataSet("x", base, queries, None, "l2", "vector")
        for query, row in zip(queries, churning.live_truth(data, 100, 200, 5)):
            wide = ((base[100:200] - query) ** 2).sum(axis=1)
            self.assertEqual((np.argsort(wide, kind="stable")[:5] + 100).tolist(), row.tolist())

    def test_numbers_in_turn(self):
        for first in range(0, 25, 3):
            wanted = {number % 10 for number in range(first, first + 4)}
            sql = churnparts.in_turn("x", first, 4, 10).replace("AND", "and").replace("OR", "or")
            self.assertEqual({x for x in range(12) if eval(sql, {"x": x})}, wanted)


class Watching(Folder):
    LOG = ("100.000 7 LOG:  checkpoint starting: time\n"
           "101.500 7 LOG:  checkpoint complete: wrote 3 buffers (0.1%); sync=0.001 s, total=1.5 s\n"
           '103.000 8 LOG:  automatic vacuum of table "churn.public.items_spfresh": index scans: 1\n'
           "\tsystem usage: CPU: user: 0.02 s, system: 0.01 s, elapsed: 0.50 s\n"
           "104.000 9 WARNING:  something odd\n"
           "\tof two lines\n"
           "105.000 7 LOG:  checkpoint starting: immediate\n")

    def test_log(self):
        class Place:
            folder = self.temporary.name
        with open(self.path("server.log"), "w", encoding="utf-8") as file:
            file.write(self.LOG + "106.000 9 ERROR:  half a li")
        log = observing.Log(Place).read()
        self.assertEqual(log.checkpoints, [[100.0, 101.5], [105.0, float("inf")]])
        self.assertEqual(log.vacuums, [{"table": "items_spfresh", "end": 103.0, "cpu_seconds": 0.03, "seconds": 0.5}])
        self.assertEqual((log.problems, log.problem_count), (["WARNING: something odd"], 1))
        with open(self.path("server.log"), "a", encoding="utf-8") as file:
            file.write("ne\n")
        self.assertEqual(log.read().problem_count, 2)

    def test_slow_inserts_are_set_against_the_log(self):
        class Place:
            folder = self.temporary.name
        with open(self.path("server.log"), "w", encoding="utf-8") as file:
            file.write(self.LOG)
        entries = np.array([[60_000, 99_990_000], [60_000, 100_020_000], [49_000, 100_500_000], [70_000, 102_800_000]])
        found = observing.slow_inserts(observing.Log(Place).read(), entries, 50)
        self.assertEqual([(one["ms"], one["checkpoint"], one["autovacuum"]) for one in found],
                         [(60, False, False), (60, True, False), (70, False, True)])

    def test_pgbench_log(self):
        for name, lines in (("log.1", "0 1 900 0 50 300\n0 2 800 0 51 5\n"), ("log.1.1", "1 1 700 0 50 400 12\n"),
                            ("log.1.2", "")):
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write(lines)
        self.assertEqual(read_log(self.path("log")).tolist(),
                         [[900, 50000300], [700, 50000400], [800, 51000005]])
        self.assertEqual(os.listdir(self.temporary.name), [])

    def test_cost_of_a_recall_lies_between_two_settings(self):
        known = {1: (0.5, 10), 2: (0.7, 30), 3: (0.9, 50)}

        def at(value):
            return dict(zip(("recall", "entries"), known[value]))
        self.assertAlmostEqual(observing.cost_of_recall(at, 0.8, 1, 3), 40)
        self.assertEqual(observing.cost_of_recall(at, 0.4, 1, 3), 10)
        asked = []
        self.assertAlmostEqual(observing.cost_of_recall(at, 0.8, 1, 3, lambda value: asked.append(value) or value), 2.5)
        self.assertEqual(asked, [3, 2])
        self.assertIsNone(observing.cost_of_recall(at, 0.95, 1, 3))


class Commands(unittest.TestCase):
    def test_lists_of_options(self):
        self.assertEqual(command.whole_numbers("1,20,"), [1, 20])
        self.assertEqual(command.shares("0.5,0.001"), [0.5, 0.001])
        self.assertEqual(command.method_names("hnsw,spfresh"), ["hnsw", "spfresh"])
        with self.assertRaises(argparse.ArgumentTypeError):
            command.method_names("hnsw,other")

    def test_places_are_not_told(self):
        told = command.told_command(["/x/bench/run", "--data", "/y/sift/", "--pg-config=/z", "--keep", "--k", "5",
                                     "--port", "7"])
        self.assertEqual(told, "bench/run --data sift --k 5")


class Searches(unittest.TestCase):
    def test_statement(self):
        plain, filtered = (searching.search_statement("t", "l2", 5, "$1", where=where) for where in ("", "r < 9"))
        self.assertIn("FROM t ORDER BY v <-> (", plain)
        self.assertIn("FROM t WHERE r < 9 ORDER BY v <-> (", filtered)

    def test_values_one_after_the_other(self):
        self.assertEqual(list(searching.json_values('[1]\n[\n{"a": 2}\n]\n ')), [[1], [{"a": 2}]])
        self.assertEqual(list(searching.json_values("")), [])

    def test_explained(self):
        plan = '[{"Plan": {"Shared Hit Blocks": 7, "Shared Read Blocks": 3}, "Execution Time": 1.5}]'
        asked = []
        data = DataSet("x", np.zeros((1, 1)), np.zeros((1, 1)), None, "l2", "vector")
        told = searching.explained(lambda sql: asked.append(sql) or [plan, plan], "t", data, 5, [3, 4])
        self.assertEqual(told, 2 * [{"ms": 1.5, "read": 3, "pages": 10}])
        self.assertEqual((asked[0].count("PREPARE"), asked[0].count("EXECUTE")), (1, 2))

    def test_graded(self):
        found = np.array([[1, 2], [3, -1]])
        self.assertEqual(searching.graded(np.array([1, 0.5]), found, 2),
                         {"recall": 0.75, "worst_recall": 0.5, "short_answers": 1})
        self.assertEqual(searching.graded(np.array([1, 1]), found, 1)["short_answers"], 0)

    def test_what_reaches_its_target(self):
        def entry(recall, far_below, k=10):
            return {"recall": recall, "target": 0.95, "far_below": far_below, "k": k}
        self.assertEqual([report.reached_well(one) for one in (
            entry(0.94, 0.02), entry(0.97, 0), entry(0.939, 0), entry(0.971, 0), entry(0.95, 0.03),
            entry(0.95, 0.05, 1))], [True, True, False, False, False, True])


class Filtered(unittest.TestCase):
    def setUp(self):
        random = np.random.default_rng(2)
        base = (random.normal(size=(2000, 4)) * [1, 5, 1, 1]).astype("f4")
        self.data = DataSet("x", base, base[:3] + 0.01, None, "l2", "vector")

    def test_columns_are_evenly_spread(self):
        for column in (filtering.random_column(self.data), filtering.following_column(self.data)):
            self.assertEqual(sorted(column), [row * 500 for row in range(2000)])
        along = self.data.base[filtering.following_column(self.data).argsort(), 1]
        self.assertGreater(abs(np.corrcoef(along, np.arange(2000))[0, 1]), 0.9)
        self.assertLess(abs(np.corrcoef(filtering.random_column(self.data), np.arange(2000))[0, 1]), 0.1)

    def test_truth_among_the_rows_that_pass(self):
        passes = np.arange(2000) % 3 == 0
        for query, ids in zip(self.data.queries, filtering.passing_truth(self.data, passes, 5)):
            wide = ((self.data.base - query) ** 2).sum(axis=1)
            self.assertEqual([row for row in np.argsort(wide) if passes[row]][:5], list(ids))
        self.assertEqual(filtering.passing_truth(self.data, np.arange(2000) < 3, 5).shape, (3, 3))

    def test_plans(self):
        for lines, name in ((["  ->  Index Scan using items_x_v on items_x"], "index"),
                            (["Sort", "  ->  Seq Scan on items_x", "Index Scan using queries_pkey on queries"],
                             "seqscan + sort"),
                            (["Sort", "  ->  Index Scan using items_x_r on items_x"], "other index + sort"),
                            (["Sort", "  ->  Bitmap Heap Scan on items_x"], "bitmap + sort")):
            self.assertEqual(filtering.plan_name(lines, "items_x"), name)

    def test_goals(self):
        def entry(method, full, recall, qps):
            return {"column": "r", "share": 0.1, "method": method, "settings": {}, "plans": "free", "plan": "index",
                    "full": full, "recall": recall, "qps": qps, "cpu_ms": 1000 / qps}
        whole = {**entry("hnsw", 1, 1, 30), "plan": "seqscan + sort"}
        rivals = [entry("hnsw", 1, 0.96, 10), entry("hnsw", 1, 0.94, 50), entry("hnsw", 0.9, 0.99, 40), whole]
        for ours, met in ((entry("spfresh", 1, 0.95, 11), "yes"), (entry("spfresh", 1, 0.95, 9), "NO"),
                          (entry("spfresh", 0.99, 0.95, 99), "NO"), (entry("spfresh", 1, 0.9, 99), "NO")):
            line = filtering.goal_lines({"filters": rivals + [ours]})[2]
            self.assertEqual(line.split(" | ")[-2:], ["30", met + " |"])
        self.assertIn("none is good", filtering.goal_lines({"filters": rivals[1:] + [ours]})[2])


class Chilled(Folder):
    def test_cached_share(self):
        with open(self.path("x"), "wb") as file:
            file.write(b"x" * 100000)
        open(self.path("empty"), "wb").close()
        self.assertTrue(0 < chilling.cached_share(self.path("x")) <= 1)
        self.assertEqual(chilling.cached_share(self.path("empty")), 0)
        self.assertEqual(chilling.files_below(self.temporary.name, 1), [self.path("x")])

    def test_figures(self):
        def batch(method, setting, base, read):
            searches = [{"ms": base * (number + 1), "read": 10 - number, "pages": 20} for number in range(3)]
            return {"method": method, "settings": setting, "searches": searches, "read_bytes": read}
        batches = [batch("spfresh", {"spfresh.io": io}, base, 3000)
                   for io, base in (("auto", 1), ("sync", 3), ("io_uring", 1))] + [batch("hnsw", {}, 4, None)]
        found = chilling.summaries({"batches": batches})
        ours = found["spfresh", "io sync"]
        self.assertEqual((ours["p50"], ours["first"], ours["read"], ours["pages"], ours["bytes"], ours["searches"]),
                         (6, 3, 9, 20, 1000, 3))
        self.assertIsNone(found["hnsw", "default"]["bytes"])
        lines = chilling.goal_lines({"batches": batches})[2:4]
        self.assertEqual([line.split(" | ")[2:] for line in lines], [["0.25", "yes |"], ["3", "yes |"]])


class Growth(unittest.TestCase):
    def test_exponent_of_the_square_root(self):
        small, large = {"rows": 100, "cpu_ms": 1}, {"rows": 10000, "cpu_ms": 10}
        self.assertAlmostEqual(scaling.exponent(small, large, "cpu_ms"), 0.5)

    def test_lines_are_in_order_of_rows(self):
        searches = [{"method": "spfresh", "target": None, "dimensions": 8, "rows": rows} for rows in (300, 100)]
        self.assertEqual([[one["rows"] for one in group] for group in scaling.lines_of_growth(searches).values()],
                         [[100, 300]])


class Copy(unittest.TestCase):
    def test_whole_numbers(self):
        stream = list(integer_stream(np.array([[7, -1], [0, 2]])))
        self.assertEqual(stream[1].hex(), "0002" "00000004" "00000007" "00000004" "ffffffff"
                         "0002" "00000004" "00000000" "00000004" "00000002")

    def test_row_bytes(self):
        row = copy_rows(np.array([7]), np.array([[1.0, -2.0]], "f4"), "vector")
        self.assertEqual(row.hex(), "0002" "00000004" "00000007" "0000000c" "0002" "0000" "3f800000" "c0000000")

    def test_mask(self):
        stream = list(copy_stream(np.ones((3, 1), "f4"), "halfvec", np.array([True, False, True])))
        self.assertEqual(len(stream[1]), 2 * (2 + 4 + 4 + 4 + 4 + 2))
        self.assertEqual(stream[0], COPY_HEADER)


class Report(unittest.TestCase):
    def test_numbers(self):
        self.assertEqual([report.number(value) for value in (None, 0, 0.01234, 12.34, 1234.5)],
                         ["-", "0", "0.0123", "12.3", "1,234"])
        self.assertEqual([report.times(6, 2), report.times(None, 2), report.times(9000, 2)], ["3", "-", "4,500"])

    def test_goals_are_judged(self):
        quiet = {"p50_ms": 1, "p95_ms": 1, "p99_ms": 2, "max_ms": 3, "queries": 9}
        entry = {"round": 1, "method": "spfresh", "recall": 0.93, "entries": 50, "index_bytes": 120,
                 "fresh": {"recall": 0.95, "entries": 40, "index_bytes": 100}, "figures": {"postings": 5, "new": 1},
                 "equal": {"churned": 44, "fresh": 40}, "search": {**quiet, "p99_ms": 2.5}, "slow_inserts": [],
                 "insert": {"rows_per_second": 700}, "copy": {"rows_per_second": 900}}
        rival = {"round": 1, "method": "hnsw", "insert": {"rows_per_second": 100}, "copy": {"rows_per_second": 100}}
        values = {"rounds": [entry, rival], "end": [], "start": [{"method": "spfresh", "quiet": quiet}],
                  "log": {"problem_count": 1, "problems": ["ERROR: x"], "vacuums": []}}
        met = {line.split(" | ")[0][2:]: line.split(" | ")[-1][:-2] for line in churnreport.goal_lines(values)[2:-1]}
        self.assertEqual([word for word in met.values()], ["NO", "yes", "yes", "yes", "yes", "yes", "NO", "-", "NO"])


if __name__ == "__main__":
    unittest.main()
