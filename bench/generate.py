#!/usr/bin/python3
"""Generates clustered vectors of a low intrinsic dimension, for sizes without real data.

A vector is a point of one of many clusters.  Cluster sizes follow a power law.  Each cluster is a curved manifold of
`--intrinsic` dimensions (a random smooth map of a Gaussian, its bends shifted per cluster) around a centre, and the
centres lie on such a manifold themselves; a little isotropic noise is added.  Rows come in random order.
With the defaults, local intrinsic dimension (about 22) and the share of a query's neighbours in its nearest k-means
cells are near those of real SIFT and text embedding data: a little harder, not easier.

Writes base, query (not in the base) and gt.ivecs (exact nearest 100 by L2, nearest first) to a folder.  The base is
written chunk by chunk: memory does not grow with --rows.
"""

import argparse
import json
import os

import numpy as np

from readers import VectorWriter, open_vectors, write_vectors
from truth import exact, normalised

VERSION = 1            # changes whenever the same arguments give other vectors
CHUNK_ROWS = 8192      # part of the format: the random stream of a row depends on it
HIDDEN = 192           # width of the smooth map; more makes manifolds bend in more ways
CURVATURE = 1.2        # how far the map's argument reaches; near 0 the manifolds are flat
CENTRE_SHARE = 0.62    # spread of the centres relative to that of a cluster
NOISE_SHARE = 0.04     # norm of the isotropic noise relative to that of a cluster
SIZE_POWER = 0.7       # cluster j has a share proportional to 1 / (j + 1) ** SIZE_POWER
TRUTH_K = 100


class Clusters:
    """The random shape that all vectors of a data set come from."""

    def __init__(self, dimensions, clusters, intrinsic, seed):
        random = np.random.default_rng([seed, 0])
        self.dimensions, self.intrinsic = dimensions, intrinsic
        self.inward = random.normal(size=(intrinsic, HIDDEN)).astype("f4") * (CURVATURE / intrinsic ** 0.5)
        self.outward = random.normal(size=(HIDDEN, dimensions)).astype("f4") / (HIDDEN * dimensions) ** 0.5
        self.phases = random.uniform(0, 2 * np.pi, size=(clusters, HIDDEN)).astype("f4")
        self.widths = random.lognormal(0, 0.25, size=clusters).astype("f4")
        centres_in = random.normal(size=(intrinsic, HIDDEN)).astype("f4") * (2 * CURVATURE / intrinsic ** 0.5)
        centres_out = random.normal(size=(HIDDEN, dimensions)).astype("f4") / (HIDDEN * dimensions) ** 0.5
        places = random.normal(size=(clusters, intrinsic)).astype("f4")
        self.centres = CENTRE_SHARE * np.sin(places @ centres_in + self.phases[0]) @ centres_out
        shares = (np.arange(clusters) + 1.0) ** -SIZE_POWER
        self.limits = np.cumsum(shares / shares.sum())

    def sample(self, rows, random):
        """A float32 (rows, dimensions) block drawn with the given random generator."""
        which = np.minimum(np.searchsorted(self.limits, random.random(rows)), len(self.limits) - 1)
        inner = random.standard_normal((rows, self.intrinsic), dtype="f4")
        bent = np.sin(inner @ self.inward + self.phases[which]) - np.sin(self.phases[which])
        noise = random.standard_normal((rows, self.dimensions), dtype="f4")
        noise *= NOISE_SHARE * CURVATURE / self.dimensions ** 0.5
        return self.centres[which] + self.widths[which, None] * (bent @ self.outward) + noise


def write_base(path, shape, rows, seed, unit, report):
    """Streams the base to a vector file."""
    with VectorWriter(path, shape.dimensions) as writer:
        for start in range(0, rows, CHUNK_ROWS):
            random = np.random.default_rng([seed, 1, start])
            block = shape.sample(CHUNK_ROWS, random)[:rows - start]
            writer.write(normalised(block) if unit else block)
            report(start + len(block), rows)


def generate(folder, rows, dimensions, queries=1000, clusters=None, intrinsic=30, seed=1, extension="fvecs",
             unit=False, report=lambda what, done, total: None):
    """Makes the data set in `folder` unless it is there already, complete; returns the folder."""
    done_mark = os.path.join(folder, "generated.json")
    clusters = clusters or max(16, min(20000, rows // 50))
    recipe = dict(version=VERSION, rows=rows, dimensions=dimensions, queries=queries, clusters=clusters,
                  intrinsic=intrinsic, seed=seed, extension=extension, unit=unit)
    if os.path.exists(done_mark) and json.load(open(done_mark)) == recipe:
        return folder
    os.makedirs(folder, exist_ok=True)
    shape = Clusters(dimensions, clusters, intrinsic, seed)
    base_path = os.path.join(folder, f"base.{extension}")
    write_base(base_path, shape, rows, seed, unit, lambda done, total: report("vectors", done, total))
    asked = shape.sample(queries, np.random.default_rng([seed, 2]))
    query_path = os.path.join(folder, f"query.{extension}")
    write_vectors(query_path, normalised(asked) if unit else asked)
    truth = exact(open_vectors(base_path), open_vectors(query_path), TRUTH_K, "l2",
                  lambda done, total: report("exact neighbours", done, total))
    write_vectors(os.path.join(folder, "gt.ivecs"), truth)
    with open(done_mark, "w") as file:
        json.dump(recipe, file)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the data set goes")
    parser.add_argument("--rows", type=int, default=100000)
    parser.add_argument("--dim", type=int, default=128, help="dimensions of a vector")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--clusters", type=int, help="default: one for every 50 rows, 16 to 20,000")
    parser.add_argument("--intrinsic", type=int, default=30, help="dimensions of each cluster's manifold")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=["fvecs", "hvecs"], default="fvecs", help="float32 or half precision")
    parser.add_argument("--unit", action="store_true", help="scale every vector to norm 1")
    chosen = parser.parse_args()

    def report(what, done, total):
        print(f"\r{what}: {done:,} of {total:,}   ", end="\n" if done == total else "", flush=True)

    generate(chosen.folder, chosen.rows, chosen.dim, chosen.queries, chosen.clusters, chosen.intrinsic, chosen.seed,
             chosen.format, chosen.unit, report)


if __name__ == "__main__":
    main()
