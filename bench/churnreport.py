#!/usr/bin/python3
"""Turns results files (JSON) of bench/churn into Markdown tables on standard output.

    bench/churnreport.py bench/out/churn-*.json ...
"""

from statistics import median

import churnplot
import report
from churning import OURS, entries_ratio
from report import (MB, RIVAL, assembled, at_least, goal, grouped, middle, number, reached_lines, table,
                    times)


def of_method(values, name=OURS):
    return [entry for entry in values["rounds"] if entry["method"] == name]


def size(entry):
    return entry["index_bytes"] / entry["fresh"]["index_bytes"]


def figure(entry, *names):
    """A figure of spfresh_stats by the first name that this version has."""
    figures = entry.get("figures") or {}
    return next((figures[name] for name in names if figures.get(name) is not None), None)


def recall_lines(values):
    """Recall and cost beside a fresh build, round by round, and at the end."""
    rows = []
    for entry in of_method(values) + values["end"]:
        fresh, equal = entry["fresh"], entry.get("equal") or {}
        rows.append([entry.get("round", entry.get("what")), f"{entry['recall']:.4f}", f"{fresh['recall']:.4f}",
                     f"{entry['recall'] - fresh['recall']:+.4f}", number(entry["entries"], 4),
                     number(fresh["entries"], 4), number(equal.get("churned"), 4),
                     number(equal.get("fresh"), 4), number(entries_ratio(entry)), number(size(entry)),
                     number(figure(entry, "postings")), number(figure(fresh, "postings"))])
    return table(["round", "recall", "fresh", "difference", "entries", "fresh", "entries at equal recall", "fresh",
                  "ratio", "size, of fresh", "postings", "fresh"], rows)


def equal_lines(values):
    """Pages that each method reads at equal recall, changed and built anew of the same rows."""
    rows = [[entry["method"], f"{entry['recall']:.2f}", entry["knob"], number(entry["churned"]["value"]),
             number(entry["fresh"]["value"]), number(entry["churned"]["pages"], 4),
             number(entry["fresh"]["pages"], 4), times(entry["churned"]["pages"], entry["fresh"]["pages"])]
            for entry in values.get("equal", [])]
    return table(["at equal recall, end", "recall", "setting", "changed", "fresh", "pages a query", "fresh", "ratio"],
                 rows)


FIGURES = (("splits", "splits"), ("merges", "merges"), ("reassigned", "reassigned_vectors"),
           ("evaluated", "evaluated_entries"), ("reclustered regions", "reclustered_regions"),
           ("swept", "swept_entries"), ("stale", "stale_entries"), ("retired", "retired_postings"),
           ("queue", "queued_items"))


def figure_lines(values):
    """What the index did to itself, as its statistics count it; columns that it has not are left out."""
    entries = of_method(values) + values["end"]
    known = [names for names in FIGURES if any(figure(entry, *names[1:]) is not None for entry in entries)]
    rows = [[entry.get("round", entry.get("what"))] + [number(figure(entry, *names[1:]), 9) for names in known] +
            [number((entry.get("background_cpu") or {}).get("worker"))] for entry in entries]
    return table(["round"] + [names[0] for names in known] + ["worker CPU s"], rows)


def work_lines(values):
    """Work for each inserted row, over all rounds."""
    rounds = of_method(values)
    if not rounds:
        return []
    inserted = sum(entry["insert"]["rows"] + entry["copy"]["rows"] for entry in rounds)
    first, last = values["start"], (values["end"] or rounds)[-1]
    first = next(entry for entry in first if entry["method"] == OURS)
    rows = []
    for names in FIGURES[:6]:
        before, after = figure(first, *names[1:]), figure(last, *names[1:])
        if after is not None:
            rows.append([names[0], number(after - (before or 0), 9), number((after - (before or 0)) / inserted)])
    rows.append(["worker CPU ms", "", number(1000 * sum(entry["background_cpu"]["worker"]
                                                        for entry in rounds + values["end"]
                                                        if "background_cpu" in entry) / inserted)])
    return table([f"over {inserted:,} inserted rows", "in all", "for each row"], rows)


def write_lines(values):
    """Rates, WAL, vacuum, and how long single inserts took; medians of the rounds, the longest of all."""
    groups = grouped(values["rounds"], lambda entry: entry["method"])
    rival = groups.get(RIVAL, [])
    rows = []
    for name, entries in groups.items():
        insert, copy = (middle(entries, part, "rows_per_second") for part in ("insert", "copy"))
        slow = [one for entry in entries for one in entry["slow_inserts"]]
        vacuum, told = vacuum_seconds(values, name)
        rival_vacuum, _ = vacuum_seconds(values, RIVAL)
        rows.append([name, number(insert, 4), times(insert, middle(rival, "insert", "rows_per_second")),
                     number(copy, 4), times(copy, middle(rival, "copy", "rows_per_second")),
                     number(middle(entries, "insert", "wal_bytes_per_row")),
                     number(middle(entries, "copy", "wal_bytes_per_row")), number(middle(entries, "wal_bytes_per_row")),
                     number(middle(entries, "insert", "p99_ms")),
                     number(max(entry["insert"]["max_ms"] for entry in entries)), len(slow),
                     sum(one["checkpoint"] for one in slow), number(vacuum), told, times(rival_vacuum, vacuum)])
    return table(["writes", "inserts/s", "x HNSW", "COPY rows/s", "x HNSW", "WAL bytes/insert", "WAL bytes/COPY row",
                  "WAL bytes/row, all", "insert p99 ms", "max ms", "over 50 ms", "of these in a checkpoint",
                  "vacuum s", "which", "times faster than HNSW"], rows)


def vacuum_seconds(values, name):
    """Seconds of a vacuum of the method's table: timed ones where there are, else automatic ones."""
    timed = middle([entry for entry in values["rounds"] if entry["method"] == name], "vacuum", "seconds")
    if timed is not None:
        return timed, "VACUUM"
    found = [vacuum["cpu_seconds"] for vacuum in values.get("log", {}).get("vacuums", [])
             if vacuum["table"] == f"items_{name}" and "cpu_seconds" in vacuum]
    return (median(found), "autovacuum, CPU") if found else (None, "-")


def search_lines(values):
    """Latency of searches while rows change, beside quiet."""
    rows = []
    for start in values["start"]:
        name, quiet = start["method"], start["quiet"]
        rows.append([name, "first half, quiet", *latency_cells(quiet, quiet)])
        for entry in of_method(values, name):
            rows.append([name, f"round {entry['round']}", *latency_cells(entry["search"], quiet)])
    for what, found in (values.get("end_quiet") or {}).items():
        rows.append([OURS, f"end, {what}, quiet", *latency_cells(found, None)])
    return table(["searches", "when", "p50 ms", "p95 ms", "p99 ms", "max ms", "searches", "p99, of quiet"], rows)


def latency_cells(found, quiet):
    if not found:
        return ["-"] * 6
    return [number(found[key]) for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")] + [
        f"{found['queries']:,}", times(found["p99_ms"], quiet["p99_ms"]) if quiet else "-"]


def rival_lines(values):
    """Recall of all methods, round by round."""
    names = list(dict.fromkeys(entry["method"] for entry in values["rounds"]))
    if len(names) < 2:
        return []
    rows = []
    for index in range(max(entry["round"] for entry in values["rounds"])):
        found = {entry["method"]: entry for entry in values["rounds"] if entry["round"] == index + 1}
        rows.append([index + 1] + [f"{found[name]['recall']:.4f}" if name in found else "-" for name in names] +
                    [number(found[name]["index_bytes"] / MB) if name in found else "-" for name in names])
    return table(["round"] + [f"{name}, recall" for name in names] + [f"{name}, MB" for name in names], rows)


def factor(values, *path):
    """How many times HNSW's rate spfresh's is, medians of the rounds."""
    ours, rival = (middle(of_method(values, name), *path) for name in (OURS, RIVAL))
    return ours / rival if ours and rival else None


def goal_lines(values):
    """What the benchmark is to show, and whether it does."""
    rounds = of_method(values)
    if not rounds:
        return []
    quiet = next(entry for entry in values["start"] if entry["method"] == OURS)["quiet"]
    latencies = [entry["search"]["p99_ms"] / quiet["p99_ms"] for entry in rounds if entry["search"] and quiet]
    slow = [one for entry in rounds for one in entry["slow_inserts"] if not one["checkpoint"]]
    ours, rival = (vacuum_seconds(values, name)[0] for name in (OURS, RIVAL))
    last = (values["end"] or rounds)[0] if values["end"] else rounds[-1]
    rows = [goal("recall below fresh, worst round", max(entry["fresh"]["recall"] - entry["recall"]
                                                        for entry in rounds + values["end"]), 0.01),
            goal("entries at equal recall, of fresh, end", entries_ratio(last), 1.1),
            goal("size, of fresh, worst round", max(map(size, rounds)), 1.3),
            goal("p99 of searches, of quiet, median round", median(latencies) if latencies else None, 1.5),
            goal("inserts over 50 ms without a checkpoint", len(slow), 0),
            at_least("inserts/s, x HNSW", factor(values, "insert", "rows_per_second"), 6),
            at_least("COPY, x HNSW", factor(values, "copy", "rows_per_second"), 12),
            at_least("vacuum, times faster than HNSW", rival / ours if rival and ours else None, 50),
            goal("warnings and errors in the server's log", values.get("log", {}).get("problem_count"), 0)]
    return table(["goal", "limit", "measured", "met"], rows)


def empty_lines(values):
    rows = [[entry["method"], entry["what"], f"{entry['rows']:,}", f"{entry['recall']:.4f}",
             f"{entry['built']['recall']:.4f}", number(entry["index_bytes"] / entry["built"]["index_bytes"]),
             number(entry["insert"]["rows_per_second"], 4), number(entry["insert"]["max_ms"]),
             number(entry["insert"]["wal_bytes_per_row"])]
            for entry in values["parts"] if entry["part"] == "empty"]
    return table(["born empty", "when", "rows", "recall", "built", "size, of built", "inserts/s", "max ms",
                  "WAL bytes/insert"], rows)


def update_lines(values):
    entries = [entry for entry in values["parts"] if entry["part"] == "update"]
    plain = next((entry for entry in entries if entry["method"] == "none"), None)
    rows = [["no index" if entry["method"] == "none" else entry["method"], f"{entry['updated']:,}",
             number(entry["seconds"]), times(entry["seconds"], plain and plain["seconds"]),
             number(entry["cpu_seconds"]), times(entry["cpu_seconds"], plain and plain["cpu_seconds"]),
             number(entry["wal_bytes"] / entry["updated"]), number(entry["hot"])] for entry in entries]
    return table(["update of another column", "rows", "seconds", "x no index", "CPU s", "x no index", "WAL bytes/row",
                  "of these HOT"], rows)


def rate_lines(values):
    """Latencies of searches at set rates of changes."""
    rows = [[f"{entry['rate']:,.0f}" if entry["rate"] else "as fast as one client can", entry["method"],
             f"{entry['changes']['rows_per_second']:,.0f}", number(entry["changes"]["p99_ms"]),
             number(entry["quiet"]["p50_ms"]), number(entry["quiet"]["p99_ms"]),
             *latency_cells(entry["search"], entry["quiet"])]
            for entry in values["parts"] if entry["part"] == "rate" and entry["search"] and entry["quiet"]]
    return table(["rows replaced a second", "in a table with", "reached", "their p99 ms", "quiet p50 ms", "quiet p99 ms",
                  "p50 ms", "p95 ms", "p99 ms", "max ms", "searches", "p99, of quiet"], rows)


def cycle_lines(values):
    rows = []
    for entry in values["parts"]:
        if entry["part"] in ("refill", "window"):
            sizes = [step["index_bytes"] / entry["fresh_bytes"] for step in entry["steps"]]
            rows.append([{"refill": "all deleted, and refilled", "window": "rolling window"}[entry["part"]],
                         f"{entry['rows']:,}", len(sizes), " ".join(number(one) for one in sizes[:3]),
                         " ".join(number(one) for one in sizes[-3:]), number(max(sizes)),
                         number(entry.get("live_share"))])
    return table(["cycles", "rows", "cycles", "first sizes, of fresh", "last", "largest", "not free, last"], rows)


def log_lines(values):
    """What the server complained of."""
    log = values.get("log") or {}
    errors = {figure(entry, "last_error") for entry in of_method(values) + values["end"]} - {None}
    lines = [f"**The index kept an error of background work**: {error}\n" for error in sorted(errors)]
    if not log.get("problem_count"):
        return lines + ["The server logged no warning and no error.", ""]
    return lines + [f"**The server logged {log['problem_count']} warnings and errors**, of which:", ""] + \
        [f"    {line}" for line in log["problems"][:20]] + [""]


def markdown(values):
    """All tables of one results file."""
    return assembled(values, (goal_lines, recall_lines, equal_lines, reached_lines, figure_lines, work_lines,
                              write_lines, search_lines, rival_lines, rate_lines, empty_lines, update_lines,
                              cycle_lines, log_lines))


def publish(results):
    """The tables and, where there were rounds, the plot."""
    report.publish(results, markdown, churnplot.draw if results["rounds"] else None)


if __name__ == "__main__":
    report.print_files(markdown, __doc__)
