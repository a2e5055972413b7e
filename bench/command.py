"""What all commands of the benchmark share: options, the data set, the results file, and how they end."""

import argparse
import datetime
import os
import signal
import sys

from client import SqlError
from dataset import open_data
from generate import generate
from methods import METHODS
from readers import BadFile
from results import Progress, Results, machine
from server import Server, ServerError

HERE = os.path.dirname(os.path.abspath(__file__))
DEFAULT_PG_CONFIG = "/usr/lib/postgresql/15/bin/pg_config"
# options that name places of the machine, and how many words of the command line each takes
PLACES = {"--data": 1, "--out": 1, "--pg-config": 1, "--server-dir": 1, "--port": 1, "--keep": 0}
HIDDEN = tuple(option.strip("-").replace("-", "_") for option in PLACES)


def whole_numbers(text):
    """Whole numbers from a comma-separated text."""
    return [int(value) for value in text.split(",") if value]


def shares(text):
    """Numbers from a comma-separated text."""
    return [float(value) for value in text.split(",") if value]


def method_names(text):
    """Names of methods from a comma-separated text; for argparse, which tells of the error."""
    names = text.split(",")
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown method {unknown[0]}; there are {', '.join(METHODS)}")
    return names


def add_server_options(parser, port, shared_buffers="4GB", maintenance_work_mem="1GB"):
    """Where the server comes from, where it lives, and where results go."""
    parser.add_argument("--maintenance-work-mem", default=maintenance_work_mem, help="default %(default)s")
    parser.add_argument("--shared-buffers", default=shared_buffers, help="default %(default)s")
    parser.add_argument("--pg-config", default=os.environ.get("PG_CONFIG", DEFAULT_PG_CONFIG))
    parser.add_argument("--port", type=int, default=port, help="names the unix socket; no TCP port is opened")
    parser.add_argument("--server-dir", help="where the throw-away server lives; default: a new folder in /var/tmp")
    parser.add_argument("--keep", action="store_true", help="leave the server's folder behind")
    parser.add_argument("--out", default=os.path.join(HERE, "out"), help="folder for results, default bench/out")
    parser.add_argument("--name", help="name of the result files; default: data set and time")


def add_data_options(parser, queries=None):
    """Which vectors: files, or generated ones."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="PATH", help="folder with base/query/gt vector files, or an HDF5 file")
    source.add_argument("--generate", metavar="ROWS,DIM", help="a generated data set of this size")
    parser.add_argument("--type", choices=["vector", "halfvec"], help="column type; default: halfvec for .hvecs")
    parser.add_argument("--metric", choices=["l2", "ip", "cosine"], help="default: that of the data")
    parser.add_argument("--queries", type=int, default=queries,
                        help="use the first so many queries; default " + (str(queries) if queries else "all"))


def generated(out, rows, dimensions, progress):
    """The folder of a generated data set, made in the results folder where it is not there yet."""
    path = os.path.join(out, "data", f"clustered-{rows}x{dimensions}")
    return generate(path, rows, dimensions, report=lambda what, done, total: progress.update(
        f"generating {what} of {rows:,} x {dimensions}: {done:,} of {total:,}"))


def find_data(chosen, progress):
    """The data set to measure on; generated into the results folder (and kept there) where asked."""
    path = chosen.data
    if chosen.generate:
        path = generated(chosen.out, *whole_numbers(chosen.generate), progress)
    data = open_data(path, chosen.metric, chosen.type, os.path.join(chosen.out, "truth"), chosen.queries, progress.say)
    progress.say(f"{data.name}: {data.rows:,} rows of {data.dimensions} dimensions as {data.column_type}, "
                 f"{len(data.queries):,} queries, {data.metric}")
    return data


def told_command(arguments):
    """A command line without places of this machine, but with the data set's name."""
    words, rest = ["bench/" + os.path.basename(arguments[0])], iter(arguments[1:])
    for word in rest:
        option, equals, value = word.partition("=")
        if option not in PLACES:
            words.append(word)
            continue
        if PLACES[option] and not equals:
            value = next(rest, "")
        if option == "--data":
            words += [option, os.path.basename(os.path.normpath(value))]
    return " ".join(words)


def start_results(chosen, data, parts, prefix=""):
    """The results file with what is measured, and on what."""
    started = datetime.datetime.now()
    os.makedirs(chosen.out, exist_ok=True)
    kind = f"{data.name}-{data.column_type}-" if data else ""
    name = chosen.name or f"{prefix}{kind}{started:%Y%m%d-%H%M%S}"
    results = Results(os.path.join(chosen.out, f"{name}.json"), parts)
    results["started"] = started.isoformat(timespec="seconds")
    results["machine"] = machine()
    results["command"] = told_command(sys.argv)
    if data:
        results["data"] = data.describe()
    results["options"] = {key: value for key, value in vars(chosen).items() if key not in HIDDEN}
    return results


def start_server(chosen, settings=None):
    """The throw-away server of the options, to be entered."""
    return Server(chosen.pg_config, chosen.port, chosen.server_dir, chosen.keep,
                  {"shared_buffers": chosen.shared_buffers, "maintenance_work_mem": chosen.maintenance_work_mem,
                   **(settings or {})})


def versions(database):
    """Of the server, and of the extensions in a database."""
    return {"server": database.value("SHOW server_version;"),
            **dict(line.split("|") for line in database.run("SELECT extname, extversion FROM pg_extension;"))}


def run_command(measure):
    """Runs measure(progress) and ends the program: errors as one line, an interruption as one as well."""
    program = "bench/" + os.path.basename(sys.argv[0])
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    try:
        measure(Progress())
    except (BadFile, ServerError, SqlError, RuntimeError, OSError) as error:
        sys.exit(f"{program}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{program}: interrupted; what was measured so far is in the results file")
