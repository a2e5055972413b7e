#!/usr/bin/python3
"""Turns results files (JSON) of bench/run and bench/memory into Markdown tables on standard output.

    bench/report.py bench/out/sift-*.json ...

Every figure is the median of the rounds in the file; `x HNSW` is the ratio to HNSW's figure in the same file.
"""

import json
import os
import sys
from statistics import median

from methods import BASELINE, label

RIVAL = "hnsw"
MB = 1e6


def table(head, rows):
    """Markdown lines of a table; the first column is text, the others numbers."""
    if not rows:
        return []
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows] + [""]


def number(value, digits=3):
    """A figure with `digits` significant digits and thousands separated; a dash for None."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def times(value, rival):
    """A ratio, or a dash where one is missing."""
    return "-" if not value or not rival else number(value / rival)


def middle(entries, *path):
    """The median over entries of a value found by following keys; None when there is none."""
    values = []
    for entry in entries:
        for key in path:
            entry = entry.get(key) if entry is not None else None
        if entry is not None:
            values.append(entry)
    return median(values) if values else None


def grouped(entries, key):
    """{key(entry): entries}, in order of appearance."""
    found = {}
    for entry in entries:
        found.setdefault(key(entry), []).append(entry)
    return found


def heading(values):
    """What was measured, on what, by which command."""
    data, machine, options = values["data"], values["machine"], values.get("options", {})
    versions = ", ".join(f"{name} {version}" for name, version in values.get("versions", {}).items()
                         if name not in ("plpgsql", "pg_prewarm"))
    return [f"### {data['name']}: {data['rows']:,} rows, {data['dimensions']} dimensions, {data['column_type']}, "
            f"{data['metric']}", "",
            f"{values['started']}, {machine['cpu']}, {machine['cores']} cores; {versions}; k = {options.get('k', 10)}; "
            f"`{values['command']}`", ""] + [f"**NOT MEASURED: {name}** (not installed for this server)\n"
                                             for name in values.get("not_installed", [])]


def build_lines(values):
    """Build seconds, memory, sizes and WAL."""
    groups = grouped(values["builds"], lambda entry: entry["method"])
    rival = groups.get(RIVAL, [])
    rows = []
    for name, entries in groups.items():
        seconds, size = middle(entries, "seconds"), middle(entries, "index_bytes")
        rows.append([name, number(seconds), times(middle(rival, "seconds"), seconds),
                     number(middle(entries, "cpu_seconds")),
                     number(middle(entries, "peak_anonymous_bytes") / MB), number(size / MB),
                     times(size, middle(rival, "index_bytes")), number(middle(entries, "wal_bytes") / MB),
                     number(middle(entries, "temporary_bytes") / MB), len(entries)])
    return table(["build", "seconds", "times faster than HNSW", "CPU seconds", "peak memory MB", "index MB",
                  "of HNSW's bytes", "WAL MB", "temporary files MB", "rounds"], rows)


def target_lines(values):
    """Throughput at equal recall, and of settings taken as they stand."""
    measured = [entry for entry in values["targets"] if entry.get("settings") is not None]
    rates = grouped(measured, lambda entry: (entry["target"], entry["clients"], entry["form"], entry["method"],
                                             entry["label"]))
    rows = []
    for (target, clients, form, name, setting), entries in sorted(rates.items(), key=lambda item: (
            str(item[0][0]), item[0][1], item[0][2])):
        rival = [entry for key, found in rates.items() if key[:4] == (target, clients, form, RIVAL) and target
                 for entry in found]
        rows.append([target or "as set", name, setting, f"{entries[0]['recall']:.4f}",
                     f"{entries[0]['worst_recall']:.3f}", clients, form, number(middle(entries, "qps"), 4),
                     times(middle(entries, "qps"), middle(rival, "qps")), number(middle(entries, "p50_ms")),
                     number(middle(entries, "p95_ms")), number(middle(entries, "p99_ms")),
                     number(middle(entries, "cpu_ms"))])
    lines = table(["recall asked", "method", "setting", "recall", "worst 5 %", "clients", "query as", "queries/s",
                   "x HNSW", "p50 ms", "p95 ms", "p99 ms", "CPU ms"], rows)
    missed = [f"{entry['method']} does not reach recall {entry['target']} at any setting."
              for entry in values["targets"] if entry.get("settings") is None]
    return lines + missed + ([""] if missed else [])


def point_lines(values):
    """Recall of settings taken as they stand, where no throughput was measured."""
    if any(entry.get("target") is None and entry.get("settings") is not None for entry in values["targets"]):
        return []
    rows = [[entry["method"], label(entry["settings"]), f"{entry['recall']:.4f}", f"{entry['worst_recall']:.3f}"]
            for entry in values["points"]]
    return table(["as set", "setting", "recall", "worst 5 %"], rows)


def reached_lines(values):
    """What spfresh.target_recall promises, and what is reached."""
    rows = [[entry["what"], entry["k"], f"{entry['target']:g}", f"{entry['recall']:.4f}",
             f"{entry['recall'] - entry['target']:+.4f}", f"{entry['worst_recall']:.3f}",
             f"{100 * entry['far_below']:.1f} %", "yes" if reached_well(entry) else "NO", number(entry["nprobe"]),
             number(entry["entries"], 4), number(entry["pages"])] for entry in values.get("reached", [])]
    return table(["target_recall", "k", "target", "recall", "difference", "worst 5 %", "queries over 0.2 below it",
                  "goal met", "probes", "entries", "pages"], rows)


def reached_well(entry):
    """Recall within -0.01 and +0.02 of the target, and fewer than 3 % of the queries more than 0.2 below it.

    The latter not for k = 1, where each query has all or nothing: the mean says it already.
    """
    near = -0.01 <= round(entry["recall"] - entry["target"], 6) <= 0.02
    return near and (entry["k"] == 1 or entry["far_below"] < 0.03)


def goal(what, value, limit, text=None):
    """A line of a table of goals (goal, limit, measured, met); smaller is better."""
    met = "-" if value is None else "yes" if value <= limit else "NO"
    return [what, number(limit, 4), (text or number)(value) if value is not None else "-", met]


def at_least(what, value, limit):
    """The same where larger is better."""
    met = "-" if value is None else "yes" if value >= limit else "NO"
    return [what, number(limit, 4), number(value), met]


def write_lines(values):
    """Rates of inserts, COPY and vacuum."""
    groups = grouped(values["writes"], lambda entry: entry["method"])
    rival = groups.get(RIVAL, [])
    rows = []
    for name, entries in groups.items():
        insert, copy = (middle(entries, part, "rows_per_second") for part in ("insert", "copy"))
        vacuum = middle(entries, "vacuum", "seconds")
        rows.append(["no index" if name == BASELINE else name, number(insert, 4),
                     times(insert, middle(rival, "insert", "rows_per_second")),
                     number(middle(entries, "insert", "p99_ms")), number(middle(entries, "insert", "cpu_ms")),
                     number(middle(entries, "insert", "wal_bytes_per_row")), number(copy, 4),
                     times(copy, middle(rival, "copy", "rows_per_second")), number(middle(entries, "copy", "cpu_ms")),
                     number(vacuum), times(middle(rival, "vacuum", "seconds"), vacuum),
                     number(middle(entries, "vacuum", "cpu_seconds")), len(entries)])
    return table(["writes", "inserts/s", "x HNSW", "insert p99 ms", "CPU ms", "WAL bytes/insert", "COPY rows/s",
                  "x HNSW", "CPU ms/row", "vacuum s", "times faster than HNSW", "CPU s", "rounds"], rows)


def after_lines(values):
    """Recall at the same settings after the inserts, and after delete and vacuum."""
    rows = []
    for name, entries in grouped(values["writes"], lambda entry: entry["method"]).items():
        for index, point in enumerate(entries[0].get("recall_after_inserts", [])):
            rows.append([name, label(point["settings"]), f"{point['recall']:.4f}",
                         f"{entries[0]['recall_after_vacuum'][index]['recall']:.4f}"])
    return table(["recall after writes", "setting", "after COPY and inserts", "after delete and vacuum"], rows)


def sweep_lines(values):
    """The recall/throughput curve."""
    rows = [[entry["method"], entry["label"], f"{entry['recall']:.4f}", number(entry["qps"], 4),
             number(entry["p50_ms"]), number(entry["p99_ms"])] for entry in values["sweep"]]
    return table(["sweep", "setting", "recall", "queries/s (1 client)", "p50 ms", "p99 ms"], rows)


def noise_lines(values):
    """How busy other processes kept the machine while this was measured."""
    busy = [entry["others_busy_cores"] for part in ("builds", "targets", "sweep", "writes", "points")
            for entry in values.get(part, [])
            if "others_busy_cores" in entry]
    if not busy:
        return []
    return [f"Other processes kept {median(busy):.2f} cores busy before a measurement (median; at most "
            f"{max(busy):.2f}).", ""]


def markdown(values):
    """All tables of one results file."""
    return assembled(values, (build_lines, target_lines, point_lines, reached_lines, write_lines,
                              after_lines, sweep_lines, noise_lines))


def assembled(values, parts):
    """The heading and the lines of each part as one text."""
    lines = heading(values)
    for part in parts:
        lines += part(values)
    return "\n".join(lines)


def print_files(make, usage):
    """A report's program: the tables that `make` gives of the results files on the command line."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(usage)
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            print(make(json.load(file)))


def publish(results, make, draw=None):
    """The tables beside the JSON and on the screen, and the plot that draw([values], path) makes."""
    stem = os.path.splitext(results.path)[0]
    text = make(results.values)
    with open(stem + ".md", "w", encoding="utf-8") as file:
        file.write(text)
    print(text)
    if draw:
        draw([results.values], stem + ".png")


if __name__ == "__main__":
    print_files(markdown, __doc__)
