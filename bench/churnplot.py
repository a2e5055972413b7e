#!/usr/bin/python3
"""Draws recall, scanned entries and size round by round from results files of bench/churn.

    bench/churnplot.py OUT.png RESULTS.json ...
"""

from churning import entries_ratio
from plot import NAMES, STYLES, draw_files, matplotlib, save

FRESH = ("#222222", "--")


def points(values, name, of):
    """(rounds, figures) of a method, where there is one."""
    pairs = [(entry["round"], of(entry)) for entry in values["rounds"] if entry["method"] == name]
    return list(zip(*[pair for pair in pairs if pair[1] is not None])) or [(), ()]


def recall_panel(axes, values):
    for name in dict.fromkeys(entry["method"] for entry in values["rounds"]):
        colour, marker = STYLES.get(name, ("#555555", "x"))
        axes.plot(*points(values, name, lambda entry: entry["recall"]), color=colour, marker=marker, markersize=4,
                  label=NAMES.get(name, name))
    axes.plot(*points(values, "spfresh", lambda entry: entry["fresh"]["recall"]), color=FRESH[0], linestyle=FRESH[1],
              label="spfresh, built anew")
    axes.set_ylabel(f"recall@{values.get('options', {}).get('k', 10)}")


def shape_panel(axes, values):
    colour = STYLES["spfresh"][0]
    axes.plot(*points(values, "spfresh", entries_ratio), color=colour, marker="o", markersize=4,
              label="entries scanned for equal recall")
    axes.plot(*points(values, "spfresh", lambda entry: entry["index_bytes"] / entry["fresh"]["index_bytes"]),
              color="#8e44ad", marker="v", markersize=4, label="size")
    axes.axhline(1, color=FRESH[0], linestyle=FRESH[1])
    axes.set_ylabel("spfresh: of a fresh build's")


def draw(results, path):
    """A PNG with a column for each results dict."""
    figure, panels = matplotlib.pyplot.subplots(2, len(results), figsize=(8 * len(results), 8), squeeze=False)
    for (top, bottom), values in zip(panels.T, results):
        recall_panel(top, values)
        shape_panel(bottom, values)
        data = values["data"]
        top.set_title(f"{data['name']}: {data['rows'] // 2:,} live rows x {data['dimensions']} {data['column_type']}, "
                      f"{values['options']['share']:.0%} replaced each round")
        for axes in (top, bottom):
            axes.set_xlabel("round")
            axes.grid(True, alpha=0.4)
            axes.legend()
    save(figure, path)


if __name__ == "__main__":
    draw_files(draw, __doc__)
