"""Talking to the server through psql: single statements, sessions that stay open, and binary COPY."""

import os
import subprocess
import tempfile

import numpy as np

from readers import blocks

END_MARK = "end of answer 7f3c"
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
COPY_TRAILER = b"\xff\xff"
PAYLOAD = {"vector": np.dtype(">f4"), "halfvec": np.dtype(">f2")}


class SqlError(Exception):
    """A statement failed; the message is the server's."""


class Database:
    """One database of the throw-away server."""

    def __init__(self, server, name):
        self.server, self.name = server, name

    def arguments(self, program):
        """The start of a command line for psql or pgbench on this database."""
        return [self.server.program(program), "-h", self.server.socket, "-p", str(self.server.port), "-U", "postgres"]

    def psql(self):
        return self.arguments("psql") + ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.name]

    def environment(self, settings=None):
        """The environment of a client, with server settings for its session."""
        options = " ".join(f"-c {name}={value}" for name, value in (settings or {}).items())
        return {**os.environ, "PGOPTIONS": options, "PGCLIENTENCODING": "UTF8"}

    def run(self, sql, settings=None):
        """Runs SQL; returns the output lines."""
        answer = subprocess.run(self.psql() + ["-f", "-"], input=sql, capture_output=True, text=True,
                                env=self.environment(settings))
        if answer.returncode:
            raise SqlError(answer.stderr.strip() or self.server.log_tail())
        return answer.stdout.splitlines()

    def value(self, sql, settings=None):
        """The one value a query returns, as text."""
        lines = self.run(sql, settings)
        return lines[0] if lines else None

    def exists(self):
        query = f"SELECT count(*) FROM pg_database WHERE datname = '{self.name}';"
        return Database(self.server, "postgres").value(query) == "1"

    def create(self, template="template1", strategy="wal_log"):
        Database(self.server, "postgres").run(f"CREATE DATABASE {self.name} TEMPLATE {template} STRATEGY {strategy};")

    def drop(self):
        Database(self.server, "postgres").run(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE);")

    def copy_in(self, table, pieces):
        """COPY ... FROM STDIN in binary; `pieces` yields bytes of the COPY stream."""
        command = self.psql() + ["-c", f"COPY {table} FROM STDIN (FORMAT binary)"]
        with tempfile.TemporaryFile() as errors:
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors, env=self.environment()) as process:
                try:
                    for piece in pieces:
                        process.stdin.write(piece)
                    process.stdin.close()
                except BrokenPipeError:
                    pass
            if process.returncode:
                errors.seek(0)
                raise SqlError(errors.read().decode(errors="replace").strip())


class Session:
    """One open connection: statements go to the same backend, whose process id is `pid`."""

    def __init__(self, database, settings=None):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(database.psql(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=database.environment(settings))
        self.pid = int(self.run("SELECT pg_backend_pid();")[0])

    def run(self, sql):
        """Runs SQL (ending in a semicolon); returns the output lines."""
        try:
            self.process.stdin.write(f"{sql}\n\\echo {END_MARK}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise SqlError(self.messages()) from None
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n") == END_MARK:
                return lines
            lines.append(line.rstrip("\n"))
        self.process.wait()
        raise SqlError(self.messages())

    def messages(self):
        """Notices and errors of the session so far."""
        self.errors.flush()
        self.errors.seek(0)
        return self.errors.read().strip()

    def close(self):
        if self.process.poll() is None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def copy_rows(ids, block, column_type):
    """Bytes of binary COPY for rows (id integer, v vector or halfvec)."""
    payload = PAYLOAD[column_type]
    dimensions = block.shape[1]
    row = np.dtype([("fields", ">i2"), ("id_bytes", ">i4"), ("id", ">i4"), ("v_bytes", ">i4"),
                    ("dimensions", ">i2"), ("unused", ">i2"), ("v", payload, (dimensions,))])
    rows = np.zeros(len(block), row)
    rows["fields"] = 2
    rows["id_bytes"] = 4
    rows["id"] = ids
    rows["v_bytes"] = 4 + dimensions * payload.itemsize
    rows["dimensions"] = dimensions
    rows["v"] = block
    return rows.tobytes()


def integer_stream(values, rows=65536):
    """Yields the binary COPY stream of an array (rows, columns) of whole numbers."""
    columns = values.shape[1]
    record = np.dtype([("fields", ">i2"), ("cells", [("bytes", ">i4"), ("value", ">i4")], (columns,))])
    yield COPY_HEADER
    for start in range(0, len(values), rows):
        part = values[start:start + rows]
        out = np.zeros(len(part), record)
        out["fields"], out["cells"]["bytes"], out["cells"]["value"] = columns, 4, part
        yield out.tobytes()
    yield COPY_TRAILER


def copy_stream(vectors, column_type, wanted=None, report=lambda done: None):
    """Yields the binary COPY stream of an array, row number = id; `wanted` is a mask of the rows to send."""
    yield COPY_HEADER
    for start, block in blocks(vectors):
        ids = np.arange(start, start + len(block))
        if wanted is not None:
            chosen = wanted[start:start + len(block)]
            ids, block = ids[chosen], block[chosen]
        yield copy_rows(ids, block, column_type)
        report(start + len(block))
    yield COPY_TRAILER
