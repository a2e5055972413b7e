"""Queries a second and latency, by pgbench with prepared statements."""

import glob
import os
import re
import subprocess
import tempfile

import numpy as np

from client import SqlError
from methods import OPERATORS
from searching import plan_settings, search_statement

PERCENTILES = (50, 95, 99)
TEXT_SCRIPTS = 100               # pgbench takes 128 scripts
TEXT_BYTES = 1_200_000           # of query text on its command line, which the kernel limits


def table_scripts(table, data, k, folder, where=""):
    """One script: a random query number, its vector looked up inside the statement."""
    path = os.path.join(folder, "search.sql")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"\\set q random(0, {len(data.queries) - 1})\n")
        file.write(search_statement(table, data.metric, k, ":q", where=where) + ";\n")
    return ["-f", path]


def text_scripts(table, data, k, folder):
    """Up to 100 scripts chosen at random, each with its query vector as a text parameter."""
    kind = np.float16 if data.column_type == "halfvec" else np.float32
    arguments, used = [], 0
    for number, query in enumerate(data.queries[:TEXT_SCRIPTS]):
        text = "[" + ",".join(f"{value:.9g}" if kind is np.float32 else str(value)
                              for value in query.astype(kind)) + "]"
        used += len(text)
        if used > TEXT_BYTES:
            break
        path = os.path.join(folder, f"search{number}.sql")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"SELECT id FROM {table} ORDER BY v {OPERATORS[data.metric]} :v{number} LIMIT {k};\n")
        arguments += ["-f", path, "-D", f"v{number}={text}"]
    return arguments


FORMS = {"table": table_scripts, "text": text_scripts}


def read_log(prefix):
    """Takes pgbench's logs away: an array of (latency in microseconds, end in microseconds since 1970), by end."""
    parts = [np.empty((0, 2), np.int64)]
    for path in glob.glob(prefix + ".*"):
        with open(path, encoding="utf-8") as file:
            columns = len(file.readline().split())      # one more with --rate
        if columns:
            values = np.fromfile(path, dtype=np.int64, sep=" ").reshape(-1, columns)
            parts.append(np.stack([values[:, 2], values[:, 4] * 1_000_000 + values[:, 5]], axis=1))
        os.remove(path)
    values = np.concatenate(parts)
    return values[np.argsort(values[:, 1], kind="stable")]


def run_pgbench(database, arguments, folder, settings=None):
    """Runs pgbench with a log; (transactions a second, latencies in microseconds, server CPU seconds)."""
    prefix = os.path.join(folder, "log")
    command = database.arguments("pgbench") + ["-n", "-M", "prepared", "--log", f"--log-prefix={prefix}"]
    cpu_before = database.server.finished_cpu()
    answer = subprocess.run(command + arguments + [database.name], capture_output=True, text=True,
                            env=database.environment(settings))
    cpu = database.server.finished_cpu() - cpu_before
    rate = re.search(r"^tps = ([0-9.]+)", answer.stdout, re.MULTILINE)
    if answer.returncode or not rate or "ERROR" in answer.stderr:
        raise SqlError(f"pgbench failed: {answer.stderr.strip()[-2000:]}\n{database.server.log_tail()}")
    return float(rate.group(1)), read_log(prefix)[:, 0], cpu


def latencies(microseconds):
    """Percentiles, mean and maximum of latencies, in milliseconds; None where there are none."""
    if not len(microseconds):
        return None
    found = {f"p{percent}_ms": float(np.percentile(microseconds, percent)) / 1000 for percent in PERCENTILES}
    return {**found, "mean_ms": float(microseconds.mean()) / 1000, "max_ms": float(microseconds.max()) / 1000,
            "queries": len(microseconds)}


BLOCKS_READ = "SELECT blks_read FROM pg_stat_database WHERE datname = current_database();"


def search_rate(database, table, data, k, settings, clients, seconds, form="table", seed=1):
    """Queries a second at the given settings; a dict with latencies and blocks that were not in shared buffers."""
    settings, _ = plan_settings(database, table, data.metric, k, settings)
    return {**measured_rate(database, lambda folder: FORMS[form](table, data, k, folder), settings, clients, seconds,
                            seed), "form": form}


def measured_rate(database, scripts, settings, clients, seconds, seed=1):
    """Transactions a second of scripts that `scripts(folder)` writes and gives as arguments of pgbench."""
    before = int(database.value(BLOCKS_READ))
    with tempfile.TemporaryDirectory(prefix="spfresh-pgbench-") as folder:
        arguments = scripts(folder)
        arguments += ["-c", str(clients), "-j", str(clients), "-T", str(seconds), f"--random-seed={seed}"]
        rate, microseconds, cpu = run_pgbench(database, arguments, folder, settings)
    return {"qps": rate, "clients": clients, "seconds": seconds, "cpu_ms": 1000 * cpu / len(microseconds),
            **latencies(microseconds), "blocks_read": int(database.value(BLOCKS_READ)) - before}
