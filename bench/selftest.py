#!/usr/bin/python3
"""Tests of the benchmark's own parts that need no server: readers, generator, truth, searching of settings, reports."""

import os
import tempfile
import unittest

import numpy as np

import report
import truth
from client import COPY_HEADER, copy_rows, copy_stream
from generate import Clusters, generate
from methods import ivfflat_lists
from readers import BadFile, open_vectors, write_vectors
from searching import smallest_value
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


class Copy(unittest.TestCase):
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


if __name__ == "__main__":
    unittest.main()
