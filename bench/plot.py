#!/usr/bin/python3
"""Draws recall against queries a second from results files of bench/run.

    bench/plot.py OUT.png RESULTS.json ...
"""

import json
import os
import sys
import tempfile
from statistics import median

os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), f"matplotlib-{os.getuid()}"))

import matplotlib              # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot       # noqa: E402
import matplotlib.ticker       # noqa: E402
import numpy as np             # noqa: E402

STYLES = {"spfresh": ("#c0392b", "o"), "hnsw": ("#1f5fa8", "s"), "ivfflat": ("#5a7d2a", "^")}
NAMES = {"hnsw": "pgvector HNSW", "ivfflat": "pgvector IVFFlat"}
LOWEST_RECALL = 0.7
HIGHEST_RECALL = 1.0005        # the axis is logarithmic in the distance to this, so 0.99 and 0.999 lie well apart
RECALL_TICKS = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


def stretch(recall):
    """Place of a recall on the axis."""
    return -np.log10(np.maximum(HIGHEST_RECALL - np.asarray(recall), 1e-9))


def unstretch(place):
    """The recall at a place of the axis."""
    return HIGHEST_RECALL - 10.0 ** -np.asarray(place)


def knob_value(entry):
    """The value of the swept setting, as text."""
    return str(next(iter(entry["settings"].values()), "default"))


def curve(axes, values, name):
    """One method's sweep, its setting written beside the points."""
    entries = sorted((entry for entry in values["sweep"] if entry["method"] == name), key=lambda e: e["recall"])
    entries = [entry for entry in entries if entry["recall"] >= LOWEST_RECALL]
    if not entries:
        return
    colour, marker = STYLES.get(name, ("#555555", "x"))
    axes.plot([e["recall"] for e in entries], [e["qps"] for e in entries], color=colour, marker=marker, markersize=5,
              linewidth=1.8, label=f"{NAMES.get(name, name)} ({next(iter(entries[0]['settings']))})")
    for entry in entries:
        axes.annotate(knob_value(entry), (entry["recall"], entry["qps"]), textcoords="offset points", xytext=(4, 5),
                      fontsize=7, color=colour)


def preset_stars(axes, values):
    """Settings taken as they stand, where their throughput was measured with one client."""
    groups = {}
    for entry in values["targets"]:
        if entry.get("target") is None and entry.get("clients") == 1 and entry["method"] == "spfresh":
            groups.setdefault(entry["label"], []).append(entry)
    for name, entries in groups.items():
        place = entries[0]["recall"], median(entry["qps"] for entry in entries)
        axes.plot([place[0]], [place[1]], marker="*", markersize=13, color="#c0392b", markeredgecolor="black",
                  linestyle="none")
        axes.annotate(name, place, textcoords="offset points", xytext=(-6, -13), fontsize=7, ha="right")


def scale_axes(axes):
    """Logarithmic scales with plain numbers at the ticks."""
    axes.set_xscale("function", functions=(stretch, unstretch))
    lowest = min((min(line.get_xdata()) for line in axes.get_lines()), default=LOWEST_RECALL)
    axes.set_xlim(lowest - (1 - lowest) * 0.15, 1.0002)
    axes.set_xticks([tick for tick in RECALL_TICKS if tick >= lowest - (1 - lowest) * 0.15])
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def draw(results, path):
    """A PNG with one panel for each results dict."""
    figure, panels = matplotlib.pyplot.subplots(1, len(results), figsize=(8 * len(results), 6), squeeze=False)
    for axes, values in zip(panels[0], results):
        for name in dict.fromkeys(entry["method"] for entry in values["sweep"]):
            curve(axes, values, name)
        preset_stars(axes, values)
        data = values["data"]
        axes.set_title(f"{data['name']}: {data['rows']:,} x {data['dimensions']} {data['column_type']}")
        axes.set_xlabel(f"recall@{values.get('options', {}).get('k', 10)}")
        axes.set_ylabel("queries a second, 1 client, prepared (log scale)")
        scale_axes(axes)
        axes.grid(True, which="major", alpha=0.5)
        axes.grid(True, which="minor", alpha=0.15)
        axes.legend(loc="lower left")
    save(figure, path)


def save(figure, path):
    """Writes a figure to its file, and lets go of it."""
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    matplotlib.pyplot.close(figure)


def draw_files(draw_all, usage):
    """A plot's program: draw_all(results, path) of the files on the command line, the first one being written."""
    if len(sys.argv) < 3:
        sys.exit(usage)
    results = []
    for path in sys.argv[2:]:
        with open(path, encoding="utf-8") as file:
            results.append(json.load(file))
    draw_all(results, sys.argv[1])


if __name__ == "__main__":
    draw_files(draw, __doc__)
