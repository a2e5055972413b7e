"""Tables of vectors in the throw-away server."""

import numpy as np

from client import Database, copy_rows, copy_stream, COPY_HEADER, COPY_TRAILER

INLINE_BYTES = 8000     # a row of the query table up to this size stays in its page, so looking it up costs little


EXTENSIONS = {"hnsw": "vector", "ivfflat": "vector", "spfresh": "spfresh"}


def installed_methods(server, wanted, progress):
    """Those of the methods that this server has installed, and their extensions; raises when there is none."""
    present = Database(server, "postgres").run("SELECT name FROM pg_available_extensions;")
    names = [name for name in wanted if EXTENSIONS[name] in present]
    for name in wanted:
        if name not in names:
            progress.say(f"NOT MEASURED: {name}: extension {EXTENSIONS[name]} is not installed for this server "
                         "(make install PG_CONFIG=...)")
    if not names or "vector" not in present:
        raise RuntimeError("nothing to measure: install pgvector (and spfresh) for this server first")
    return names, sorted({EXTENSIONS[name] for name in names} | {"vector"})


def create_database(server_database, extensions):
    """A fresh database with the extensions that are installed; pg_prewarm only where it is there."""
    server_database.drop()
    server_database.create()
    for extension in extensions:
        server_database.run(f"CREATE EXTENSION IF NOT EXISTS {extension} CASCADE;")
    available = server_database.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_prewarm';")
    if available == "1":
        server_database.run("CREATE EXTENSION pg_prewarm;")


def create_table(database, table, data):
    """The table that is searched: an id without an index, and the vector as the type stores it by default."""
    database.run(f"CREATE TABLE {table} (id integer NOT NULL, v {data.column_type}({data.dimensions}));")


def load_rows(database, table, data, progress, wanted=None):
    """Fills a table with the base rows (those of the mask `wanted`), in file order."""
    create_table(database, table, data)
    database.copy_in(table, copy_stream(data.base, data.column_type, wanted, lambda done: progress.update(
        f"loading {table}: {done:,} of {data.rows:,} rows")))
    database.run(f"VACUUM (ANALYZE, FREEZE) {table};")


def load_keyed(database, table, key, ids, vectors, data):
    """A table with a primary key and its vectors kept inline where they fit a page: queries, rows to insert."""
    bytes_each = data.dimensions * (2 if data.column_type == "halfvec" else 4)
    database.run(f"CREATE TABLE {table} ({key} integer PRIMARY KEY, v {data.column_type}({data.dimensions}));")
    if bytes_each < INLINE_BYTES:
        database.run(f"ALTER TABLE {table} ALTER v SET STORAGE PLAIN;")
    database.copy_in(table, keyed_stream(ids, vectors, data.column_type))
    database.run(f"VACUUM (ANALYZE, FREEZE) {table};")


def keyed_stream(ids, vectors, column_type, rows=8192):
    """Yields binary COPY of chosen vectors under chosen ids."""
    yield COPY_HEADER
    for start in range(0, len(ids), rows):
        part = slice(start, start + rows)
        yield copy_rows(ids[part], np.asarray(vectors[part], dtype=np.float32), column_type)
    yield COPY_TRAILER
