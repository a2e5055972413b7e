/*-------------------------------------------------------------------------
 *
 * above.c
 *	  What the running plan wants of a scan: its LIMIT, filter and radius.
 *
 * An index scan is never told how many rows will be asked of it, nor which of them will pass
 * the conditions of its plan node; but how much to search depends on both.  So the
 * executor's run is noted, and a scan that begins looks for its own node among the running
 * ones, and for
 *
 * - a Limit above it, to which every row comes straight from the scan;
 * - conditions of the node, which are evaluated for rows that the scan reads, so that it knows how
 *   many of them will be given.  They are evaluated again by the node itself, for the rows that
 *   pass: hence not if they are volatile or contain subqueries;
 * - among these, one that the distance be less than something: a radius.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"

#include "above.h"

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
spf_above_init(void)
{
	previous_run_hook = ExecutorRun_hook;
	ExecutorRun_hook = run_noted;
}

/* ---- the scan's node ---- */

typedef struct SpfSearch
{
	IndexScanDesc desc;
	SpfAbove   *above;
} SpfSearch;

/* What lies above, on the way down. */
typedef struct SpfWay
{
	LimitState *limit;			/* or NULL */
	bool		lossless;		/* all rows come to it */
} SpfWay;

static const SpfWay no_limit = {NULL, false};

static bool find_node(PlanState *state, SpfSearch *search, SpfWay way);

static bool
find_without_limit(PlanState *state, void *search)
{
	return find_node(state, search, no_limit);
}

static bool
find_in_array(PlanState **states, int n, SpfSearch *search, SpfWay way)
{
	for (int i = 0; i < n; i++)
	{
		if (find_node(states[i], search, way))
			return true;
	}
	return false;
}

static bool
find_in_subplans(List *subplans, SpfSearch *search)
{
	ListCell   *lc;

	foreach(lc, subplans)
	{
		if (find_node(((SubPlanState *) lfirst(lc))->planstate, search, no_limit))
			return true;
	}
	return false;
}

/* Below a node that gives all rows on as they are; *through is unset for any other. */
static bool
find_below(PlanState *state, SpfSearch *search, SpfWay way, bool *through)
{
	/* what has conditions of its own loses rows */
	if (state->plan->qual != NIL)
		way.lossless = false;
	*through = true;
	switch (nodeTag(state))
	{
		case T_LimitState:
			way.limit = (LimitState *) state;
			way.lossless = true;
			return find_node(outerPlanState(state), search, way);
		case T_ResultState:
		case T_LockRowsState:
		case T_MaterialState:
			return find_node(outerPlanState(state), search, way);
		case T_SubqueryScanState:
			return find_node(((SubqueryScanState *) state)->subplan, search, way);
		case T_AppendState:
			return find_in_array(((AppendState *) state)->appendplans,
								 ((AppendState *) state)->as_nplans, search, way);
		case T_MergeAppendState:
			return find_in_array(((MergeAppendState *) state)->mergeplans,
								 ((MergeAppendState *) state)->ms_nplans, search, way);
		default:
			*through = false;
			return false;
	}
}

static bool
find_node(PlanState *state, SpfSearch *search, SpfWay way)
{
	bool		through;

	if (state == NULL)
		return false;
	check_stack_depth();
	if (IsA(state, IndexScanState) &&
		((IndexScanState *) state)->iss_ScanDesc == search->desc)
	{
		search->above->node = (IndexScanState *) state;
		search->above->limit = way.limit;
		search->above->lossless = way.lossless;
		return true;
	}
	if (find_below(state, search, way, &through))
		return true;
	if (through)
		return find_in_subplans(state->initPlan, search) ||
			find_in_subplans(state->subPlan, search);

	/* rows may be lost, or multiplied, on their way up */
	return planstate_tree_walker(state, find_without_limit, search);
}

/* ---- conditions ---- */

/* The bound that a condition sets to what the scan orders by; NULL if it is another condition. */
static Expr *
bound_of(const OpExpr *op, const Node *distance)
{
	Node	   *left;
	Node	   *right;

	if (!IsA(op, OpExpr) || list_length(op->args) != 2)
		return NULL;
	left = linitial(op->args);
	right = lsecond(op->args);
	if ((op->opfuncid == F_FLOAT8LT || op->opfuncid == F_FLOAT8LE) && equal(left, distance))
		return (Expr *) right;
	if ((op->opfuncid == F_FLOAT8GT || op->opfuncid == F_FLOAT8GE) && equal(right, distance))
		return (Expr *) left;
	return NULL;
}

static bool
can_be_evaluated(Node *node)
{
	return !contain_volatile_functions(node) && !contain_subplans(node);
}

static void
find_conditions(SpfAbove *above, IndexScanDesc desc)
{
	const IndexScan *plan = (const IndexScan *) above->node->ss.ps.plan;
	double		rows = Max(desc->heapRelation->rd_rel->reltuples,
						   desc->indexRelation->rd_rel->reltuples);
	ListCell   *lc;

	if (plan->scan.plan.qual == NIL)
		return;
	above->filters = can_be_evaluated((Node *) plan->scan.plan.qual);
	if (rows > 0)
		above->share = Min(1, plan->scan.plan.plan_rows / rows);
	above->econtext = CreateExprContext(above->node->ss.ps.state);
	foreach(lc, plan->scan.plan.qual)
	{
		Expr	   *bound;

		if (list_length(plan->indexorderbyorig) != 1)
			break;
		bound = bound_of(lfirst(lc), linitial(plan->indexorderbyorig));
		if (bound != NULL && can_be_evaluated((Node *) bound) &&
			!contain_var_clause((Node *) bound))
		{
			above->radius = ExecInitExpr(bound, &above->node->ss.ps);
			break;
		}
	}
}

void
spf_above_find(SpfAbove *above, IndexScanDesc desc)
{
	SpfSearch	search = {desc, above};
	MemoryContext old;

	memset(above, 0, sizeof(SpfAbove));
	above->share = 1;
	if (running == NULL || running->planstate == NULL ||
		!find_node(running->planstate, &search, no_limit))
		return;
	old = MemoryContextSwitchTo(running->estate->es_query_cxt);
	find_conditions(above, desc);
	MemoryContextSwitchTo(old);
}

void
spf_above_forget(SpfAbove *above)
{
	if (above->econtext != NULL)
		FreeExprContext(above->econtext, true);
	above->econtext = NULL;
}

/* ---- their values ---- */

double
spf_above_wants(const SpfAbove *above)
{
	const LimitState *limit = above->limit;

	/* it has made up its mind before it asks for the first row */
	if (limit == NULL || limit->noCount || limit->lstate == LIMIT_INITIAL)
		return 0;
	return (double) limit->count + (double) limit->offset;
}

double
spf_above_limit(const SpfAbove *above)
{
	return above->lossless ? spf_above_wants(above) : 0;
}

double
spf_above_radius(const SpfAbove *above)
{
	bool		isnull;
	double		radius;

	if (above->radius == NULL)
		return INFINITY;
	ResetExprContext(above->econtext);
	radius = DatumGetFloat8(ExecEvalExprSwitchContext(above->radius, above->econtext, &isnull));

	/* nothing is less than NULL, but the node itself will see to that */
	return isnull || isnan(radius) ? INFINITY : radius;
}

void
spf_above_count_filtered(const SpfAbove *above)
{
	InstrCountFiltered1(above->node, 1);
}

bool
spf_above_passes(const SpfAbove *above, TupleTableSlot *slot)
{
	ResetExprContext(above->econtext);
	above->econtext->ecxt_scantuple = slot;
	return ExecQual(above->node->ss.ps.qual, above->econtext);
}
