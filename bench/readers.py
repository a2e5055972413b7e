"""Vector files as numpy arrays.

TEXMEX files (`.fvecs`, `.bvecs`, `.ivecs`, and `.hvecs` for IEEE half precision): every vector is a little-endian
int32 dimension followed by its values.  HDF5 files as ann-benchmarks lays them out, where h5py is present.
Arrays are memory-mapped: a file larger than memory can be read in blocks.
"""

import os

import numpy as np

VALUE_TYPES = {
    ".fvecs": np.dtype("<f4"),
    ".bvecs": np.dtype("u1"),
    ".ivecs": np.dtype("<i4"),
    ".hvecs": np.dtype("<f2"),
}
HEADER_BYTES = 4


class BadFile(Exception):
    """The file is not what its name says; the message names the file."""


def value_type(path):
    """The numpy type of the values of a vector file, by the end of its name."""
    extension = os.path.splitext(path)[1]
    if extension not in VALUE_TYPES:
        raise BadFile(f"{path}: unknown vector format, expected one of {' '.join(VALUE_TYPES)}")
    return VALUE_TYPES[extension]


def open_vectors(path):
    """A read-only (rows, dimensions) view of a vector file, in the type the file has."""
    kind = value_type(path)
    size = os.path.getsize(path)
    if size == 0:
        raise BadFile(f"{path}: empty file")
    dimensions = int(np.fromfile(path, "<i4", 1)[0])
    row_bytes = HEADER_BYTES + dimensions * kind.itemsize
    if dimensions < 1 or size % row_bytes:
        raise BadFile(f"{path}: {size} bytes are no whole number of vectors of {dimensions} dimensions")
    raw = np.memmap(path, np.uint8, "r").reshape(-1, row_bytes)
    last = int(raw[-1, :HEADER_BYTES].view("<i4")[0])
    if last != dimensions:
        raise BadFile(f"{path}: the first vector has {dimensions} dimensions, the last {last}")
    return raw[:, HEADER_BYTES:].view(kind)


def blocks(vectors, rows=8192):
    """Yields (first row number, float32 block) over an array of any value type."""
    for start in range(0, len(vectors), rows):
        yield start, np.asarray(vectors[start:start + rows], dtype=np.float32)


class VectorWriter:
    """Appends blocks of vectors to a vector file; the format is the end of the file's name."""

    def __init__(self, path, dimensions):
        self.kind = value_type(path)
        self.dimensions = dimensions
        self.file = open(path, "wb")

    def write(self, block):
        """Appends a (rows, dimensions) block, converted to the file's value type."""
        record = np.dtype([("dimensions", "<i4"), ("values", self.kind, (self.dimensions,))])
        rows = np.empty(len(block), record)
        rows["dimensions"] = self.dimensions
        rows["values"] = block
        self.file.write(rows.tobytes())

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.file.close()


def write_vectors(path, array):
    """Writes a whole array as one vector file."""
    with VectorWriter(path, array.shape[1]) as writer:
        writer.write(array)


def open_hdf5(path):
    """An ann-benchmarks file: dict of base, queries, truth (ids, nearest first) and its distance's name."""
    try:
        import h5py
    except ImportError as missing:
        raise BadFile(f"{path}: reading HDF5 needs h5py (Debian: apt-get install python3-h5py)") from missing
    file = h5py.File(path, "r")
    for name in ("train", "test"):
        if name not in file:
            raise BadFile(f"{path}: no data set {name!r}: not an ann-benchmarks file")
    return {
        "base": file["train"],
        "queries": np.asarray(file["test"], dtype=np.float32),
        "truth": np.asarray(file["neighbors"], dtype=np.int32) if "neighbors" in file else None,
        "distance": str(file.attrs.get("distance", "euclidean")),
    }
