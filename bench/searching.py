"""Recall of an index method at given settings, and the smallest setting that reaches a recall."""

import numpy as np

import truth
from methods import OPERATORS

# The form every rival is asked in: the query vector is looked up by its number inside the statement (an InitPlan,
# about 10 microseconds), so that nobody pays for parsing text and one prepared statement serves all queries.
SEARCH = "SELECT {columns} FROM {table} ORDER BY v {operator} (SELECT v FROM queries WHERE qid = {query}) LIMIT {k}"


def search_statement(table, metric, k, query, columns="id"):
    return SEARCH.format(columns=columns, table=table, operator=OPERATORS[metric], query=query, k=k)


def plan_settings(database, table, metric, k, settings):
    """Settings under which the plan is a scan of the table's vector index; True if the planner needed no help.

    Raises RuntimeError when no plan uses the index.
    """
    for extra in ({}, {"enable_seqscan": "off"}):
        wanted = {"plan_cache_mode": "force_generic_plan", **extra, **settings}
        prepare = f"PREPARE s(int) AS {search_statement(table, metric, k, '$1')};"
        plan = database.run(f"{prepare} EXPLAIN (COSTS off) EXECUTE s(0);", wanted)
        if any(f"Index Scan using {table}_v on {table}" in line for line in plan):
            return wanted, not extra
    raise RuntimeError(f"no plan for {table} uses its vector index:\n" + "\n".join(plan))


AFTER = "after"        # first column of what a query asked after each search returns


def answers(database, table, data, k, settings, after=""):
    """Ids (queries, k) an index returns, -1 where it returned fewer; and the numbers that the query `after` gave."""
    script = [f"PREPARE s(int) AS {search_statement(table, data.metric, k, '$1', '$1, id')};"]
    script += [f"EXECUTE s({number});{after}" for number in range(len(data.queries))]
    found = np.full((len(data.queries), k), -1, np.int64)
    filled = np.zeros(len(data.queries), np.int64)
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


def recall(database, table, data, k, settings, truth_ids=None):
    """A dict of mean recall@k, its worst twentieth (mean over the worst 5 % of queries), and short answers."""
    settings, chosen = plan_settings(database, table, data.metric, k, settings)
    found, _ = answers(database, table, data, k, settings)
    wanted = data.truth_ids if truth_ids is None else truth_ids
    each = np.sort(truth.recall(data.base, data.queries, wanted, found, k, data.metric))
    worst = each[:max(1, len(each) // 20)]
    return {"recall": float(each.mean()), "worst_recall": float(worst.mean()),
            "short_answers": int((found[:, -1] < 0).sum()), "planner_chose_index": chosen}


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
