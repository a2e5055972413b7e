/*-------------------------------------------------------------------------
 *
 * explain.c
 *	  What a search did, in EXPLAIN (ANALYZE, BUFFERS).
 *
 * PostgreSQL 18 asks extensions what they have to say of each node of a plan.  Of a node that
 * scanned a spfresh index: the postings probed at each level, from the root's down, and what
 * else was read, all loops together; why the last search probed no more.  Older ones have
 * spfresh_last_scan().  Of scans by parallel workers the leader knows nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "explain.h"
#include "scan.h"

#ifdef SPF_EXPLAIN_HOOK

static explain_per_node_hook_type previous_hook = NULL;

static int
levels_of(const SpfWork *work)
{
	int			levels = SPF_MAX_LEVELS;

	while (levels > 1 && work->probes[levels - 1] == 0)
		levels--;
	return levels;
}

static void
explain_as_text(ExplainState *es, const SpfLastScan *did)
{
	StringInfo	str = es->str;
	int			levels = levels_of(&did->work);

	ExplainIndentText(es);
	appendStringInfo(str, "Search: levels=%d probes=", levels);
	for (int i = levels - 1; i >= 0; i--)
		appendStringInfo(str, UINT64_FORMAT "%s", did->work.probes[i], i > 0 ? "," : "");
	appendStringInfo(str, " pages=" UINT64_FORMAT " entries=" UINT64_FORMAT
					 " records=" UINT64_FORMAT " rows=" UINT64_FORMAT " rounds=%d",
					 did->work.pages, did->work.entries, did->work.records, did->work.rows,
					 did->rounds);
	if (did->stop != SPF_STOP_NONE)
		appendStringInfo(str, " stop=\"%s\"", spf_stop_name(did->stop));
	appendStringInfoChar(str, '\n');
}

static void
explain_as_group(ExplainState *es, const SpfLastScan *did)
{
	int			levels = levels_of(&did->work);
	List	   *probes = NIL;

	for (int i = levels - 1; i >= 0; i--)
		probes = lappend(probes, psprintf(UINT64_FORMAT, did->work.probes[i]));
	ExplainOpenGroup("Search", "Search", true, es);
	ExplainPropertyInteger("Levels", NULL, levels, es);
	ExplainPropertyList("Probes", probes, es);
	ExplainPropertyUInteger("Pages", NULL, did->work.pages, es);
	ExplainPropertyUInteger("Entries", NULL, did->work.entries, es);
	ExplainPropertyUInteger("Records", NULL, did->work.records, es);
	ExplainPropertyUInteger("Rows", NULL, did->work.rows, es);
	ExplainPropertyInteger("Rounds", NULL, did->rounds, es);
	if (did->stop != SPF_STOP_NONE)
		ExplainPropertyText("Stop", spf_stop_name(did->stop), es);
	ExplainCloseGroup("Search", "Search", true, es);
}

static void
explain_node(PlanState *state, List *ancestors, const char *relationship, const char *name,
			 ExplainState *es)
{
	SpfLastScan did;

	if (previous_hook)
		previous_hook(state, ancestors, relationship, name, es);
	if (!es->analyze || !es->buffers || !IsA(state, IndexScanState) ||
		!spf_scan_report(((IndexScanState *) state)->iss_ScanDesc, &did))
		return;
	if (es->format == EXPLAIN_FORMAT_TEXT)
		explain_as_text(es, &did);
	else
		explain_as_group(es, &did);
}

void
spf_explain_init(void)
{
	previous_hook = explain_per_node_hook;
	explain_per_node_hook = explain_node;
}

#else

void
spf_explain_init(void)
{
}

#endif
