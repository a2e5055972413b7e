/*-------------------------------------------------------------------------
 *
 * junk.c
 *	  The distance that a plan computes for nobody.
 *
 * In SELECT id ... ORDER BY v <-> $1 LIMIT 10 the distance is an output of the scan, as sorting would
 * need it ("resjunk"), though the index gives the rows in order and nobody looks at it.  The executor computes it
 * all the same for each row given, and for that fetches the row's vector a second time.  So it is taken out of
 * finished plans: a NULL stands in its place.
 *
 * Only where a scan of ours is at the top of a query or subquery, or below a Limit, which is: nothing outside can
 * refer to an output that is junk there.  Not with WITH TIES, for that compares it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/amapi.h"
#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "utils/syscache.h"

#include "junk.h"
#include "scan.h"

static planner_hook_type previous_planner_hook = NULL;

/* Is this an index of ours? */
static bool
is_ours(Oid index)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(index));
	Oid			method = InvalidOid;
	IndexAmRoutine *routine;

	if (HeapTupleIsValid(tuple))
	{
		method = ((Form_pg_class) GETSTRUCT(tuple))->relam;
		ReleaseSysCache(tuple);
	}
	routine = OidIsValid(method) ? GetIndexAmRoutineByAmId(method, true) : NULL;
	return routine != NULL && routine->amgettuple == spf_get_tuple;
}

/*
 * The number of the scan's output that an entry at the top shows; 0 if it is something else.  With a Limit
 * in between it is a reference to it.
 */
static AttrNumber
output_of(const TargetEntry *entry, bool below_limit)
{
	const Var  *var = (const Var *) entry->expr;

	if (!below_limit)
		return entry->resno;
	return IsA(var, Var) && var->varno == OUTER_VAR ? var->varattno : 0;
}

static void
drop_distance(IndexScan *scan, const List *top, bool below_limit)
{
	ListCell   *lc;

	foreach(lc, top)
	{
		TargetEntry *entry = lfirst(lc);
		AttrNumber	number = output_of(entry, below_limit);
		TargetEntry *output;

		if (!entry->resjunk || number < 1 || number > list_length(scan->scan.plan.targetlist))
			continue;
		output = list_nth(scan->scan.plan.targetlist, number - 1);
		if (equal(output->expr, linitial(scan->indexorderbyorig)))
			output->expr = (Expr *) makeNullConst(exprType((Node *) output->expr), -1,
												  exprCollation((Node *) output->expr));
	}
}

/* A scan, maybe of ours, whose output is seen at the `top` only. */
static void
look_at_scan(Plan *plan, const Plan *top)
{
	if (IsA(plan, IndexScan) && list_length(((IndexScan *) plan)->indexorderbyorig) == 1 &&
		is_ours(((IndexScan *) plan)->indexid))
		drop_distance((IndexScan *) plan, top->targetlist, plan != top);
}

static void look_at_plan(Plan *plan, bool top);

static void
look_at_plans(List *plans, bool top)
{
	ListCell   *lc;

	foreach(lc, plans)
		look_at_plan(lfirst(lc), top);
}

/* A Limit is at the top of its query or subquery, wherever it is found; what else is, is known by its place. */
static void
look_at_plan(Plan *plan, bool top)
{
	if (plan == NULL)
		return;
	check_stack_depth();
	if (top)
		look_at_scan(plan, plan);
	if (IsA(plan, Limit) && ((Limit *) plan)->limitOption == LIMIT_OPTION_COUNT)
		look_at_scan(plan->lefttree, plan);
	if (IsA(plan, SubqueryScan))
		look_at_plan(((SubqueryScan *) plan)->subplan, true);
	else if (IsA(plan, Append))
		look_at_plans(((Append *) plan)->appendplans, false);
	else if (IsA(plan, MergeAppend))
		look_at_plans(((MergeAppend *) plan)->mergeplans, false);
	else if (IsA(plan, CustomScan))
		look_at_plans(((CustomScan *) plan)->custom_plans, false);
	look_at_plan(plan->lefttree, false);
	look_at_plan(plan->righttree, false);
}

static PlannedStmt *
plan_without_junk(Query *parse, const char *query_string, int options, ParamListInfo params)
{
	PlannedStmt *stmt = previous_planner_hook != NULL ?
		previous_planner_hook(parse, query_string, options, params) :
		standard_planner(parse, query_string, options, params);

	look_at_plan(stmt->planTree, true);
	look_at_plans(stmt->subplans, true);
	return stmt;
}

void
spf_junk_init(void)
{
	previous_planner_hook = planner_hook;
	planner_hook = plan_without_junk;
}
