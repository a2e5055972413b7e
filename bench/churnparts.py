"""Further parts of the churn benchmark: an index born empty, updates of another column, cycles of delete and refill."""

from statistics import median

from building import ProgressWatch, build, inspected, timed_statement
from churning import OURS, live_truth, wait_idle
from loading import create_table
from methods import BASELINE, METHODS
from observing import Searchers
from searching import recall

UPDATED = 10000
UPDATE_ROUNDS = 3
CYCLES = 10
WINDOW_STEPS = 40
WINDOW_SHARE = 0.1
SETTLE_SECONDS = 60        # that background work may take between two cycles


def part_rows(churn):
    return min(churn.chosen.part_rows, churn.data.rows)


def index_bytes(churn, table):
    return int(churn.database.value(f"SELECT pg_relation_size('{table}_v');"))


def settle(churn, table):
    """VACUUM, and what the background then still does; whether it came to an end."""
    churn.database.run(f"VACUUM {table};")
    if wait_idle(churn.database, SETTLE_SECONDS) is None:
        churn.progress.say(f"{table}: background workers are still there after {SETTLE_SECONDS} seconds")
        return False
    return True


# ---- an index on an empty table ----

def measure_empty(churn):
    """An index that was there before the first row, filled by single inserts, beside a built one."""
    if OURS not in churn.names:
        return
    rows, data, database = part_rows(churn), churn.data, churn.database
    wanted = live_truth(data, 0, rows, churn.chosen.k)
    for table in ("items_empty", "items_built"):
        create_table(database, table, data)
    churn.writer.fill("items_built", 0, rows)
    build(database, METHODS[OURS], data, "items_built", {}, churn.progress)
    built = asked(churn, "items_built", wanted)
    database.run(METHODS[OURS].create_statement("items_empty", data, "items_empty_v"))
    churn.progress.say(f"{rows:,} single inserts into an index born empty")
    inserted, _ = churn.writer.singles("items_empty", 0, rows)
    entry = {"part": "empty", "method": OURS, "rows": rows, "insert": inserted, "built": built}
    churn.results.add("parts", {**entry, "what": "at once", **asked(churn, "items_empty", wanted)})
    settle(churn, "items_empty")
    churn.results.add("parts", {**entry, "what": "caught up", **asked(churn, "items_empty", wanted)})
    database.run("DROP TABLE items_empty, items_built;")
    churn.note_log()


def asked(churn, table, wanted):
    """Recall under default settings, size, figures."""
    return {**recall(churn.database, table, churn.data, churn.chosen.k, {}, wanted, True),
            "index_bytes": index_bytes(churn, table), "figures": inspected(churn.database, METHODS[OURS], f"{table}_v")}


# ---- updates of another column ----

def measure_update(churn):
    """Updates that change no vector but move the row: with no index, and with each method's."""
    rows = part_rows(churn)
    updated = min(UPDATED, rows // UPDATE_ROUNDS)
    for name in [BASELINE] + [name for name in churn.names if name in (OURS, "hnsw")]:
        table = f"items_update_{name}"
        create_table(churn.database, table, churn.data)
        churn.database.run(f"ALTER TABLE {table} ADD note integer DEFAULT 0, SET (autovacuum_enabled = off, "
                           "fillfactor = 100);")
        churn.writer.fill(table, 0, rows)
        if name != BASELINE:
            build(churn.database, METHODS[name], churn.data, table, {}, churn.progress)
        taken = [update(churn, table, number * updated, updated) for number in range(UPDATE_ROUNDS)]
        entry = {"part": "update", "method": name, "rows": rows, "updated": updated,
                 **{key: median(one[key] for one in taken) for key in ("seconds", "cpu_seconds", "wal_bytes")},
                 "hot": sum(one["hot"] for one in taken)}
        churn.results.add("parts", entry)
        churn.progress.say(f"update of {updated:,} rows, {name}: {entry['seconds']:.2f} s")
        churn.database.run(f"DROP TABLE {table};")
    churn.note_log()


def update(churn, table, first, count):
    """One UPDATE of rows whose pages are full, so that their new versions go elsewhere; `hot`: those that did not."""
    hot = f"SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = '{table}';"
    before = int(churn.database.value(hot))
    taken = timed_statement(churn.database, f"UPDATE {table} SET note = note + 1 WHERE id >= {first} AND "
                            f"id < {first + count};", {}, ProgressWatch.VACUUM, f"update of {table}", churn.progress)
    return {"seconds": taken["seconds"], "cpu_seconds": taken["cpu_seconds"], "wal_bytes": taken["wal_bytes"],
            "hot": int(churn.database.value(hot)) - before}


# ---- sizes over time ----

def measure_refill(churn):
    """All rows are deleted, and other rows come, again and again."""
    if OURS not in churn.names:
        return
    half = min(part_rows(churn), churn.data.rows // 2)
    table = started(churn, half)
    steps = []
    for number in range(CYCLES):
        first = half * ((number + 1) % 2)
        churn.database.run(f"DELETE FROM {table};")
        settle(churn, table)
        emptied = index_bytes(churn, table)
        churn.writer.copy(table, first, first + half)
        settled = settle(churn, table)
        steps.append({"emptied_bytes": emptied, "settled": settled, "index_bytes": index_bytes(churn, table)})
        churn.progress.update(f"refill {number + 1} of {CYCLES}: {steps[-1]['index_bytes'] / 1e6:.1f} MB")
    finished(churn, "refill", table, steps)


def measure_window(churn):
    """Rows come at one end and go at the other; vacuum after each step."""
    if OURS not in churn.names:
        return
    rows = part_rows(churn)
    live = rows // 2
    step = max(1, int(live * WINDOW_SHARE))
    table = started(churn, live)
    steps, first = [], 0
    for number in range(WINDOW_STEPS):
        # past the last row it goes on with the first
        churn.database.run(f"INSERT INTO {table} (id, v) SELECT id, v FROM pool "
                           f"WHERE {in_turn('id', first + live, step, rows)};")
        churn.database.run(f"DELETE FROM {table} WHERE {in_turn('id', first, step, rows)};")
        settled = settle(churn, table)
        first += step
        steps.append({"settled": settled, "index_bytes": index_bytes(churn, table)})
        churn.progress.update(f"window {number + 1} of {WINDOW_STEPS}: {steps[-1]['index_bytes'] / 1e6:.1f} MB")
    finished(churn, "window", table, steps)


def in_turn(column, first, count, rows):
    """SQL for the numbers from `first` on, counted round the `rows`."""
    first, last = first % rows, (first + count - 1) % rows
    operator = "AND" if first <= last else "OR"
    return f"({column} >= {first} {operator} {column} <= {last}) AND {column} < {rows}"


def started(churn, rows):
    """A table with the first rows and spfresh's index, without autovacuum."""
    table = "items_cycle"
    create_table(churn.database, table, churn.data)
    churn.database.run(f"ALTER TABLE {table} SET (autovacuum_enabled = off);")
    churn.writer.fill(table, 0, rows)
    build(churn.database, METHODS[OURS], churn.data, table, {}, churn.progress)
    return table


def finished(churn, part, table, steps):
    """Notes the sizes beside that of a fresh index of the rows that are there now."""
    figures = inspected(churn.database, METHODS[OURS], f"{table}_v")
    grown = churn.database.value(f"SELECT count(*) FROM {table};")
    build(churn.database, METHODS[OURS], churn.data, table, {}, churn.progress)
    fresh = index_bytes(churn, table)
    churn.results.add("parts", {"part": part, "rows": int(grown), "steps": steps, "fresh_bytes": fresh,
                                "figures": figures,
                                "live_share": 1 - figures["free_bytes"] / figures["total_bytes"]})
    churn.progress.say(f"{part}: after {len(steps)} cycles size x {steps[-1]['index_bytes'] / fresh:.2f} of fresh, "
                       f"at most x {max(step['index_bytes'] for step in steps) / fresh:.2f}")
    churn.database.run(f"DROP TABLE {table};")
    churn.note_log()


# ---- latency at a set rate of changes ----

RATE_SECONDS = 10
CONTROL = "no vector index"


def measure_rate(churn):
    """Searches while so many rows a second are replaced: in the table that is searched, and, for what the machine
    itself does to latencies, in another one that has no vector index."""
    if OURS not in churn.names or not churn.chosen.clients:
        return
    rows = part_rows(churn)
    live = rows // 2
    table, other = started(churn, live), "items_other"
    create_table(churn.database, other, churn.data)
    churn.writer.fill(other, 0, live)
    for name in (table, other):
        churn.database.run(f"CREATE INDEX ON {name} (id); ALTER TABLE {name} SET (autovacuum_enabled = on);")
    churn.settings.setdefault(OURS, {})
    came = {table: live, other: live}
    for rate in churn.chosen.change_rates:
        for changed in (other, table):
            settle(churn, table)
            quiet = churn.searched(OURS, table)
            with Searchers(churn.database, table, churn.data, churn.chosen.k, {}, churn.chosen.clients,
                           churn.chosen.search_rate) as searchers:
                taken = churn.writer.replaced(changed, came[changed], live, rows, rate, RATE_SECONDS)
            came[changed] += taken["rows"]
            entry = {"part": "rate", "method": OURS if changed == table else CONTROL, "rate": rate, "changes": taken,
                     "quiet": quiet, "search": searchers.between(taken["begun"], taken["ended"]),
                     "index_bytes": index_bytes(churn, table)}
            churn.results.add("parts", entry)
            churn.progress.say(f"{taken['rows_per_second']:,.0f} rows/s into a table with {entry['method']}: search p99 "
                               f"{entry['search']['p99_ms']:.2f} ms, in quiet {quiet['p99_ms']:.2f} ms")
    churn.database.run(f"DROP TABLE {table}, {other};")
    churn.note_log()


PARTS = {"rate": measure_rate, "empty": measure_empty, "update": measure_update, "refill": measure_refill,
         "window": measure_window}
