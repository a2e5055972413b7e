/*-------------------------------------------------------------------------
 *
 * limit.c
 *	  The LIMIT above a scan, known from the running plan.
 *
 * An index scan is never told how many rows will be asked of it, but the number decides how
 * much to search.  So the executor's run is noted, and a scan that begins looks
 * for its own node in the plan, and for a Limit above it from which every row comes straight
 * from the scan.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "executor/executor.h"
#include "catalog/pg_type.h"
#include "nodes/plannodes.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"

#include "scan.h"

static ExecutorRun_hook_type previous_run_hook = NULL;

/* The innermost query being run; NULL outside the executor. */
static QueryDesc *running = NULL;

static void
run_noted(SPF_EXECUTOR_RUN_ARGS)
{
	QueryDesc  *outer = running;

	running = queryDesc;
	PG_TRY();
	{
		if (previous_run_hook)
			previous_run_hook(SPF_EXECUTOR_RUN_PASS);
		else
			standard_ExecutorRun(SPF_EXECUTOR_RUN_PASS);
	}
	PG_FINALLY();
	{
		running = outer;
	}
	PG_END_TRY();
}

void
spf_limit_init(void)
{
	previous_run_hook = ExecutorRun_hook;
	ExecutorRun_hook = run_noted;
}

/* The value of LIMIT or OFFSET; -1 if it is not known yet. */
static double
limit_value(const Node *node)
{
	if (node == NULL)
		return 0;
	if (IsA(node, Const))
	{
		const Const *value = (const Const *) node;

		return value->constisnull ? -1 : (double) DatumGetInt64(value->constvalue);
	}
	if (IsA(node, Param) && ((const Param *) node)->paramkind == PARAM_EXTERN &&
		running->params != NULL)
	{
		int			id = ((const Param *) node)->paramid;
		ParamListInfo params = running->params;
		ParamExternData space;
		ParamExternData *value;

		if (id < 1 || id > params->numParams)
			return -1;
		value = params->paramFetch ? params->paramFetch(params, id, false, &space) :
			&params->params[id - 1];
		if (value->isnull)
			return -1;
		if (value->ptype == INT8OID)
			return (double) DatumGetInt64(value->value);
		if (value->ptype == INT4OID)
			return (double) DatumGetInt32(value->value);
		if (value->ptype == INT2OID)
			return (double) DatumGetInt16(value->value);
	}

	/* LIMIT wants a bigint: a parameter of a smaller type comes in a cast */
	if (IsA(node, FuncExpr) &&
		(((const FuncExpr *) node)->funcid == F_INT8_INT4 ||
		 ((const FuncExpr *) node)->funcid == F_INT8_INT2))
		return limit_value(linitial(((const FuncExpr *) node)->args));
	return -1;
}

static double find_limit(const Plan *plan, Oid index, double limit);

static double
find_in_list(const List *plans, Oid index, double limit)
{
	double		found = -1;
	ListCell   *lc;

	foreach(lc, plans)
		found = Max(found, find_limit(lfirst(lc), index, limit));
	return found;
}

/*
 * The largest limit over scans of this index: 0 where one is without, -1 if there is no
 * such scan.  `limit` is what is known from above.
 */
static double
find_limit(const Plan *plan, Oid index, double limit)
{
	if (plan == NULL)
		return -1;
	check_stack_depth();
	switch (nodeTag(plan))
	{
		case T_IndexScan:
			return ((const IndexScan *) plan)->indexid == index ? limit : -1;
		case T_Limit:
			{
				double		count = limit_value(((const Limit *) plan)->limitCount);
				double		offset = limit_value(((const Limit *) plan)->limitOffset);

				limit = count > 0 && offset >= 0 ? count + offset : 0;
				return find_limit(plan->lefttree, index, limit);
			}
		case T_Result:
		case T_LockRows:
		case T_Material:
			return find_limit(plan->lefttree, index, limit);
		case T_SubqueryScan:
			return find_limit(((const SubqueryScan *) plan)->subplan, index, limit);
		case T_Append:
			return find_in_list(((const Append *) plan)->appendplans, index, limit);
		case T_MergeAppend:
			return find_in_list(((const MergeAppend *) plan)->mergeplans, index, limit);
		default:
			{
				/* rows may be lost, or multiplied, on their way up from here */
				double		left = find_limit(plan->lefttree, index, 0);

				return Max(left, find_limit(plan->righttree, index, 0));
			}
	}
}

double
spf_limit_of(Oid index)
{
	double		limit;

	if (running == NULL || running->plannedstmt == NULL)
		return 0;
	limit = find_limit(running->plannedstmt->planTree, index, 0);
	limit = Max(limit, find_in_list(running->plannedstmt->subplans, index, 0));
	return Max(limit, 0);
}
