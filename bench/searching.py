"""Recall of an index method at given settings, and the smallest setting that reaches a recall."""

import json

import numpy as np

import truth
from methods import OPERATORS

# The form every rival is asked in: the query vector is looked up by its number inside the statement (an InitPlan,
# about 10 microseconds), so that nobody pays for parsing text and one prepared statement serves all queries.
SEARCH = ("SELECT {columns} FROM {table}{where} ORDER BY v {operator} "
          "(SELECT v FROM queries WHERE qid = {query}) LIMIT {k}")


AFTER = "after"        # first column of what a query asked after each search returns
SCAN_FIGURES = ("entries", "pages", "nprobe", "records", "rows", "gone")
SCAN_NAMES = {"rows": "rows_read", "records": "records_read"}      # where a result has rows and records of its own
LAST_SCAN = f"SELECT '{AFTER}', {', '.join(SCAN_FIGURES)} FROM spfresh_last_scan();"


def search_statement(table, metric, k, query, columns="id", where=""):
    """The search as SQL; `where` is a condition, or empty."""
    return SEARCH.format(columns=columns, table=table, operator=OPERATORS[metric], query=query, k=k,
                         where=f" WHERE {where}" if where else "")


def generic_plan(database, table, metric, k, settings, where=""):
    """Lines of the plan of a prepared search."""
    prepare = f"PREPARE s(int) AS {search_statement(table, metric, k, '$1', where=where)};"
    return database.run(f"{prepare} EXPLAIN (COSTS off) EXECUTE s(0);",
                        {"plan_cache_mode": "force_generic_plan", **settings})


def scans_index(plan, table):
    """Whether a plan is a scan of the table's vector index."""
    return any(f"Index Scan using {table}_v on {table}" in line for line in plan)


def plan_settings(database, table, metric, k, settings):
    """Settings under which the plan is a scan of the table's vector index; True if the planner needed no help.

    Raises RuntimeError when no plan uses the index.
    """
    for extra in ({}, {"enable_seqscan": "off"}):
        wanted = {"plan_cache_mode": "force_generic_plan", **extra, **settings}
        plan = generic_plan(database, table, metric, k, wanted)
        if scans_index(plan, table):
            return wanted, not extra
    raise RuntimeError(f"no plan for {table} uses its vector index:\n" + "\n".join(plan))


def answers(database, table, data, k, settings, after="", where="", queries=None):
    """Ids (queries, k) an index returns, -1 where it returned fewer; and the numbers that the query `after` gave."""
    queries = len(data.queries) if queries is None else queries
    script = [f"PREPARE s(int) AS {search_statement(table, data.metric, k, '$1', '$1, id', where)};"]
    script += [f"EXECUTE s({number});{after}" for number in range(queries)]
    found = np.full((queries, k), -1, np.int64)
    filled = np.zeros(queries, np.int64)
    told = []
    for line in database.run("\n".join(script), settings):
        first, *rest = line.split("|")
        if first == AFTER:
            told.append([int(value) for value in rest])
            continue
        number, row = int(first), int(rest[0])
        found[number, filled[number]] = row
        filled[number] += 1
    return found, told


EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, COSTS OFF, FORMAT JSON) "


def explained(run, table, data, k, numbers, prepare=True):
    """What the server tells of searches, one for each number of a query: milliseconds, pages touched, pages read.

    `run(sql)` gives output lines; without `prepare` the statement s is there already.
    """
    script = [f"PREPARE s(int) AS {search_statement(table, data.metric, k, '$1')};"] if prepare else []
    text = "\n".join(run("\n".join(script + [f"{EXPLAIN} EXECUTE s({number});" for number in numbers])))
    return [{"ms": told["Execution Time"], "read": told["Plan"]["Shared Read Blocks"],
             "pages": told["Plan"]["Shared Read Blocks"] + told["Plan"]["Shared Hit Blocks"]}
            for (told,) in json_values(text)]


def json_values(text):
    """Yields the JSON values that a text holds one after the other."""
    decoder, place, text = json.JSONDecoder(), 0, text.strip()
    while place < len(text):
        value, end = decoder.raw_decode(text, place)
        yield value
        place = end
        while text[place:place + 1].isspace():
            place += 1


def graded(each, found, k):
    """Of recalls of each query and the ids found: the mean, that of the worst twentieth, and short answers."""
    each = np.sort(each)
    return {"recall": float(each.mean()), "worst_recall": float(each[:max(1, len(each) // 20)].mean()),
            "short_answers": int((found[:, k - 1] < 0).sum())}


def recall(database, table, data, k, settings, truth_ids=None, reads=False, target=None):
    """A dict of recall@k over all queries; with `reads` what spfresh read for a query (means).

    With a target also the share of queries that stay more than 0.2 below it.
    """
    settings, chosen = plan_settings(database, table, data.metric, k, settings)
    found, told = answers(database, table, data, k, settings, LAST_SCAN if reads else "")
    wanted = data.truth_ids if truth_ids is None else truth_ids
    each = truth.recall(data.base, data.queries, wanted, found, k, data.metric)
    result = {**graded(each, found, k), "planner_chose_index": chosen}
    if target is not None:
        result["far_below"] = float((each < target - FAR_BELOW - 1e-9).mean())
    if reads:
        result.update(zip([SCAN_NAMES.get(name, name) for name in SCAN_FIGURES],
                          np.asarray(told, dtype=float).mean(axis=0).tolist()))
    return result


FAR_BELOW = 0.2
REACHED_TARGETS = (0.9, 0.95, 0.99)


def reached(database, table, data, ks, truth_ids, what, progress):
    """Yields, for each k and spfresh.target_recall, the recall that is reached, and what it cost."""
    for k in ks:
        if k > truth_ids.shape[1]:
            progress.say(f"recall reached at k = {k}: left out, for only {truth_ids.shape[1]} exact answers are known")
            continue
        for target in REACHED_TARGETS:
            progress.update(f"recall reached, {what}, k = {k}, target {target}")
            found = recall(database, table, data, k, {"spfresh.target_recall": target}, truth_ids, True, target)
            progress.say(f"{what}, k = {k}: target {target}, recall {found['recall']:.4f}, far below it "
                         f"{found['far_below']:.1%} of the queries")
            yield {"what": what, "k": k, "target": target, **found}


def smallest_value(recall_at, target, low, high):
    """The smallest whole value of a knob whose recall is at least the target, or None; doubling, then bisection."""
    value = low
    while recall_at(value) < target:
        if value == high:
            return None
        low, value = value + 1, min(value * 2, high)
    high = value
    while low < high:
        middle = (low + high) // 2
        if recall_at(middle) >= target:
            high = middle
        else:
            low = middle + 1
    return high
