"""A data set to measure on: base rows, queries that are no rows, and the exact answers."""

import glob
import os
from dataclasses import dataclass

import numpy as np

import truth
from readers import BadFile, open_hdf5, open_vectors, write_vectors

TRUTH_K = 100          # answers kept per query, where the base has as many rows
CHECKED_QUERIES = 10   # of a truth file that came with the data: so many are checked by brute force


@dataclass
class DataSet:
    """Arrays of one data set; `base` may be memory-mapped or HDF5, row number = id."""
    name: str
    base: object
    queries: np.ndarray
    truth_ids: np.ndarray
    metric: str            # l2, ip or cosine
    column_type: str       # vector or halfvec

    @property
    def rows(self):
        return self.base.shape[0]

    @property
    def dimensions(self):
        return self.base.shape[1]

    def describe(self):
        """What the results file says of the data."""
        return {"name": self.name, "rows": self.rows, "dimensions": self.dimensions, "queries": len(self.queries),
                "metric": self.metric, "column_type": self.column_type}


def find_file(folder, *patterns):
    """The first file in a folder that matches one of the patterns, or None."""
    for pattern in patterns:
        found = sorted(glob.glob(os.path.join(folder, pattern)))
        if found:
            return found[0]
    return None


def open_folder(folder):
    """(base, queries, truth or None) of a folder of TEXMEX files."""
    base = find_file(folder, "base.[fbh]vecs", "*_base.[fbh]vecs")
    queries = find_file(folder, "query.[fbh]vecs", "*_query.[fbh]vecs")
    answers = find_file(folder, "gt.ivecs", "*_groundtruth.ivecs")
    if base is None or queries is None:
        raise BadFile(f"{folder}: need base.fvecs (or .bvecs, .hvecs) and query.fvecs (or .bvecs, .hvecs)")
    return open_vectors(base), open_vectors(queries), open_vectors(answers) if answers else None


def open_data(path, metric=None, column_type=None, cache=None, max_queries=None, report=print):
    """Opens a folder of vector files or an HDF5 file; truth that is missing, or of another metric, is computed."""
    path = os.path.abspath(path)
    name = os.path.basename(path)
    if os.path.isdir(path):
        base, queries, answers = open_folder(path)
        metric_of_truth = "l2"
    else:
        parts = open_hdf5(path)
        name = os.path.splitext(name)[0]
        base, queries, answers = parts["base"], parts["queries"], parts["truth"]
        metric_of_truth = {"angular": "cosine", "dot": "ip"}.get(parts["distance"], "l2")
    if base.shape[1] != queries.shape[1]:
        raise BadFile(f"{path}: rows have {base.shape[1]} dimensions, queries {queries.shape[1]}")
    metric = metric or metric_of_truth
    column_type = column_type or ("halfvec" if base.dtype == np.float16 else "vector")
    queries = np.asarray(queries[:max_queries], dtype=np.float32)
    data = DataSet(name, base, queries, None, metric, column_type)
    if answers is not None and metric == metric_of_truth and answers.shape[1] >= min(TRUTH_K, data.rows):
        data.truth_ids = np.asarray(answers[:len(queries)], dtype=np.int32)
        check_truth(data, path)
    else:
        data.truth_ids = computed_truth(data, cache, report)
    return data


def check_truth(data, path):
    """Raises when the truth that came with the data is not that of its first queries."""
    few = slice(0, CHECKED_QUERIES)
    mine = truth.exact(data.base, data.queries[few], 10, data.metric)
    share = truth.recall(data.base, data.queries[few], mine, data.truth_ids[few], mine.shape[1], data.metric).mean()
    if share < 1:
        raise BadFile(f"{path}: the exact answers that came with it are wrong for its first {CHECKED_QUERIES} queries "
                      f"(share right: {share:.3f}); remove that file to have them computed")


def computed_truth(data, cache, report):
    """Exact answers by brute force, kept in the folder `cache`."""
    kept = None
    if cache:
        os.makedirs(cache, exist_ok=True)
        kept = os.path.join(cache, f"{data.name}-{data.rows}x{data.dimensions}-{len(data.queries)}-{data.metric}.ivecs")
        if os.path.exists(kept):
            return np.asarray(open_vectors(kept))
    report(f"computing exact answers of {len(data.queries):,} queries by brute force")
    answers = truth.exact(data.base, data.queries, TRUTH_K, data.metric)
    if kept:
        write_vectors(kept, answers)
    return answers
