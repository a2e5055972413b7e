/*-------------------------------------------------------------------------
 *
 * recall.c
 *	  What searches find with the settings as they are: spfresh_recall.
 *
 * Random rows of the table serve as queries.  Each is answered twice by the executor, as any
 * statement would be: once by this index, once by reading and sorting
 * the whole table.  A row that the index gives counts as found when it is
 * no farther than the last of the exact answer, so equal distances do no harm.
 *
 * Which way a statement goes is settled by hiding other indexes of the table
 * from the planner (get_relation_info_hook) while these are planned.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "catalog/namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "optimizer/plancat.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "inspect.h"
#include "scan.h"

#define MAX_SAMPLES		100000
#define MAX_K			100000

/* ---- the planner's view ---- */

static get_relation_info_hook_type previous_hook;
static Oid	hooked_table = InvalidOid;
static Oid	only_index;			/* the one index to be seen, or InvalidOid */

static void
hide_indexes(PlannerInfo *root, Oid table, bool inhparent, RelOptInfo *rel)
{
	ListCell   *lc;

	if (previous_hook)
		previous_hook(root, table, inhparent, rel);
	if (!OidIsValid(hooked_table) || table != hooked_table)
		return;
	foreach(lc, rel->indexlist)
	{
		if (((IndexOptInfo *) lfirst(lc))->indexoid != only_index)
			rel->indexlist = foreach_delete_current(rel->indexlist, lc);
	}
}

/* ---- the statements ---- */

typedef struct SpfRecall
{
	Relation	rel;
	Relation	heap;
	int			samples;
	int			k;

	/* of the statements' text */
	char	   *table;
	char	   *expression;
	char	   *predicate;		/* "true" where there is none */
	char	   *operator;
	Oid			type;

	SPIPlanPtr	by_index;
	SPIPlanPtr	by_table;

	/* results */
	int			queries;
	double		sum;
	double		min;
	double		probes;
} SpfRecall;

static char *
operator_name(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("OPERATOR(%s.%s)",
					quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return name;
}

static void
describe(SpfRecall *recall)
{
	Relation	heap = recall->heap;
	Relation	rel = recall->rel;
	List	   *predicate = RelationGetIndexPredicate(rel);
	List	   *context = deparse_context_for(RelationGetRelationName(heap),
											  RelationGetRelid(heap));
	Oid			operator;

	recall->type = rel->rd_opcintype[0];
	operator = get_opfamily_member(rel->rd_opfamily[0], recall->type, recall->type, 1);
	if (!OidIsValid(operator))
		elog(ERROR, "operator class of index \"%s\" has no operator",
			 RelationGetRelationName(rel));
	recall->operator = operator_name(operator);
	recall->table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(heap)),
											   RelationGetRelationName(heap));
	recall->expression = pg_get_indexdef_columns(RelationGetRelid(rel), false);
	recall->predicate = "true";
	if (predicate != NIL)
		recall->predicate = deparse_expression((Node *) make_ands_explicit(predicate), context,
											   false, false);
}

/* Plan for one set of visible indexes; run the same way each time. */
static SPIPlanPtr
prepare(SpfRecall *recall, const char *condition)
{
	char	   *text = psprintf("SELECT (%s %s $1)::pg_catalog.float8 FROM ONLY %s WHERE %s%s"
								" ORDER BY %s %s $1 LIMIT %d",
								recall->expression, recall->operator, recall->table,
								recall->predicate, condition, recall->expression,
								recall->operator, recall->k);
	SPIPlanPtr	plan = SPI_prepare(text, 1, &recall->type);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* Run one; distances[k] gets what are numbers, in order.  Returns how many. */
static int
run(SpfRecall *recall, SPIPlanPtr plan, Oid visible, Datum query, double *distances)
{
	int			n = 0;

	hooked_table = RelationGetRelid(recall->heap);
	only_index = visible;
	if (SPI_execute_plan(plan, &query, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan failed");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
										  &isnull);

		if (!isnull && !isnan(DatumGetFloat8(value)))
			distances[n++] = DatumGetFloat8(value);
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

static void
measure(SpfRecall *recall, Datum query, double *exact, double *found)
{
	Oid			index = RelationGetRelid(recall->rel);
	int			nexact = run(recall, recall->by_table, InvalidOid, query, exact);
	int			nfound;
	int			hits = 0;

	/* nothing is at any distance from, say, a zero vector by cosine */
	if (nexact == 0)
		return;
	spf_last_scan.valid = false;
	nfound = run(recall, recall->by_index, index, query, found);
	if (!spf_last_scan.valid || spf_last_scan.index != index)
		elog(ERROR, "the planner does not use index \"%s\"",
			 RelationGetRelationName(recall->rel));
	for (int i = 0; i < nfound; i++)
		hits += found[i] <= exact[nexact - 1];
	hits = Min(hits, nexact);
	recall->queries++;
	recall->sum += (double) hits / nexact;
	recall->min = Min(recall->min, (double) hits / nexact);
	recall->probes += spf_last_scan.nprobe;
}

/* Random rows' vectors, copied to context; returns how many. */
static int
draw_samples(SpfRecall *recall, MemoryContext context, Datum *queries)
{
	char	   *text = psprintf("SELECT %s FROM ONLY %s WHERE %s AND (%s) IS NOT NULL"
								" ORDER BY pg_catalog.random() LIMIT %d",
								recall->expression, recall->table, recall->predicate,
								recall->expression, recall->samples);
	MemoryContext old;
	int			n = 0;

	hooked_table = InvalidOid;
	if (SPI_execute(text, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute failed");
	old = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
										  &isnull);

		if (!isnull)
			queries[n++] = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	}
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
	return n;
}

static void
set_for_now(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

static void
measure_all(SpfRecall *recall, MemoryContext context)
{
	Datum	   *queries = palloc(recall->samples * sizeof(Datum));
	double	   *exact = palloc(recall->k * sizeof(double));
	double	   *found = palloc(recall->k * sizeof(double));
	int			n;

	/* even where the table is so small that reading it costs less */
	set_for_now("enable_seqscan", "off");
	set_for_now("enable_indexscan", "on");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	n = draw_samples(recall, context, queries);
	recall->by_index = prepare(recall, "");
	recall->by_table = prepare(recall, psprintf(" AND (%s) IS NOT NULL", recall->expression));
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		measure(recall, queries[i], exact, found);
	}
	SPI_finish();
}

static void
check_arguments(int samples, int k)
{
	if (samples < 1 || samples > MAX_SAMPLES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("samples must be between 1 and %d", MAX_SAMPLES)));
	if (k < 1 || k > MAX_K)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("k must be between 1 and %d", MAX_K)));
}

#define RECALL_COLUMNS	5

PG_FUNCTION_INFO_V1(spfresh_recall);
Datum
spfresh_recall(PG_FUNCTION_ARGS)
{
	SpfRecall	recall = {.samples = PG_GETARG_INT32(1),.k = PG_GETARG_INT32(2),.min = 1};
	SpfOwnerContext owner;
	Datum		values[RECALL_COLUMNS];
	bool		nulls[RECALL_COLUMNS] = {0};
	int			n = 0;

	check_arguments(recall.samples, recall.k);
	recall.rel = spf_inspect_open(PG_GETARG_OID(0), SPF_RIGHT_MAINTAIN, AccessShareLock,
								  &recall.heap);
	spf_become_owner(recall.heap, &owner);
	describe(&recall);
	previous_hook = get_relation_info_hook;
	get_relation_info_hook = hide_indexes;
	PG_TRY();
	{
		measure_all(&recall, CurrentMemoryContext);
	}
	PG_FINALLY();
	{
		get_relation_info_hook = previous_hook;
		hooked_table = InvalidOid;
	}
	PG_END_TRY();
	spf_become_self(&owner);

	nulls[0] = nulls[1] = nulls[4] = recall.queries == 0;
	values[n++] = Float8GetDatum(recall.sum / Max(recall.queries, 1));
	values[n++] = Float8GetDatum(recall.min);
	values[n++] = Int32GetDatum(recall.queries);
	values[n++] = Int32GetDatum(recall.k);
	values[n++] = Float8GetDatum(recall.probes / Max(recall.queries, 1));
	spf_inspect_close(recall.rel, recall.heap, AccessShareLock);
	return spf_inspect_row(fcinfo, values, nulls, lengthof(values));
}
