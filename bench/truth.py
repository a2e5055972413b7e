"""Exact nearest neighbours by brute force, and recall against them.

Metrics: `l2` (Euclidean), `ip` (negative inner product), `cosine` (1 - cosine).  Candidates are found with float32
matrix products, block by block, and ranked by float64 distances, so rounding of the products decides nothing.
"""

import numpy as np

from readers import blocks

MARGIN = 32            # candidates kept beyond k, so that float32 rounding cannot lose a true neighbour
TIE_TOLERANCE = 1e-6   # relative: a distance this close to the k-th true one is as good


def normalised(vectors):
    """Rows scaled to norm 1; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms == 0, 1, norms)


def rough_distances(block, queries, metric):
    """Float32 (queries, rows) values that order as the metric does; `queries` prepared by the caller."""
    if metric == "cosine":
        return -(queries @ normalised(block).T)
    products = queries @ block.T
    if metric == "ip":
        return -products
    return np.einsum("ij,ij->i", block, block) - 2 * products


def merge_nearest(best, best_ids, values, first_row, keep):
    """The `keep` smallest of the best so far and a new block of values, unordered."""
    ids = np.broadcast_to(np.arange(first_row, first_row + values.shape[1], dtype=np.int64), values.shape)
    values = np.concatenate([best, values], axis=1)
    ids = np.concatenate([best_ids, ids], axis=1)
    if values.shape[1] <= keep:
        return values, ids
    chosen = np.argpartition(values, keep - 1, axis=1)[:, :keep]
    return np.take_along_axis(values, chosen, 1), np.take_along_axis(ids, chosen, 1)


def distances(base, queries, ids, metric):
    """Float64 distances of each query to the rows `ids` (queries, n); an id of -1 gives infinity."""
    result = np.full(ids.shape, np.inf)
    for number, row in enumerate(ids):
        found = np.flatnonzero(row >= 0)
        if len(found) == 0:
            continue
        unique, back = np.unique(row[found].astype(np.int64), return_inverse=True)
        vectors = np.asarray(base[unique], dtype=np.float64)[back]
        result[number, found] = row_distances(vectors, np.asarray(queries[number], dtype=np.float64), metric)
    return result


def row_distances(vectors, query, metric):
    """Float64 distances of one query to rows of vectors."""
    if metric == "l2":
        return np.sqrt(((vectors - query) ** 2).sum(axis=1))
    if metric == "ip":
        return -(vectors @ query)
    return 1 - normalised(vectors) @ normalised(query[None])[0]


def exact(base, queries, k, metric, report=lambda done, total: None):
    """Ids (queries, k) of the exact nearest rows, nearest first, ties by id."""
    queries = np.asarray(queries, dtype=np.float32)
    prepared = normalised(queries) if metric == "cosine" else queries
    keep = min(k + MARGIN, len(base))
    best = np.empty((len(queries), 0), np.float32)
    best_ids = np.empty((len(queries), 0), np.int64)
    for start, block in blocks(base):
        best, best_ids = merge_nearest(best, best_ids, rough_distances(block, prepared, metric), start, keep)
        report(start + len(block), len(base))
    exact_values = distances(base, queries, best_ids, metric)
    order = np.lexsort((best_ids, exact_values), axis=1)[:, :min(k, len(base))]
    return np.take_along_axis(best_ids, order, 1).astype(np.int32)


def recall(base, queries, truth_ids, found_ids, k, metric):
    """Recall@k of each query: the share of k filled by distinct rows no farther than the true k-th nearest."""
    limit = distances(base, queries, truth_ids[:, k - 1:k], metric)[:, 0]
    limit = limit + TIE_TOLERANCE * np.abs(limit)
    found = without_repeats(found_ids[:, :k])
    return (distances(base, queries, found, metric) <= limit[:, None]).sum(axis=1) / k


def without_repeats(ids):
    """A copy where a row id that comes again in the same answer is -1."""
    result = ids.copy()
    for row in result:
        _, first = np.unique(row, return_index=True)
        again = np.ones(len(row), bool)
        again[first] = False
        row[again] = -1
    return result
