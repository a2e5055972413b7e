/*-------------------------------------------------------------------------
 *
 * inspect.c
 *	  Seeing what an index is like: spfresh_stats, spfresh_postings, spfresh_last_scan.
 *
 * The first two read the whole index, through a small ring of buffers, and
 * for every entry its record (page by page within a posting; built postings
 * lie near their records): about as much as two passes over the index.
 * One page is locked at a time, in share mode; what changes meanwhile is
 * counted before or after, or both.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "calibrate.h"
#include "insert.h"
#include "inspect.h"
#include "meta.h"
#include "posting.h"
#include "record.h"
#include "scan.h"
#include "work.h"

/* ---- opening ---- */

static void
check_right(Oid relid, SpfInspectRight right)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (spf_owns_relation(relid, GetUserId()))
		return;
	if (right == SPF_RIGHT_LOOK && has_privs_of_role(GetUserId(), ROLE_PG_STAT_SCAN_TABLES))
		return;
	aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX, name);
}

static void
check_is_spfresh(Relation rel)
{
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_INDEX)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a partitioned index", RelationGetRelationName(rel)),
				 errhint("Name the index of one of its partitions.")));
	if (rel->rd_rel->relkind != RELKIND_INDEX || rel->rd_indam->aminsert != spf_insert)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a spfresh index", RelationGetRelationName(rel))));
}

static void
check_can_be_read(Relation rel)
{
	if (RELATION_IS_OTHER_TEMP(rel))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot access temporary indexes of other sessions")));
	if (!rel->rd_index->indisvalid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is not valid", RelationGetRelationName(rel)),
				 errhint("Please REINDEX it.")));
	if (RecoveryInProgress() && rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot access unlogged index \"%s\" during recovery",
						RelationGetRelationName(rel))));
}

Relation
spf_inspect_open(Oid relid, SpfInspectRight right, LOCKMODE lockmode, Relation *heap)
{
	Oid			heapid = IndexGetRelation(relid, true);
	Relation	rel;

	check_right(relid, right);

	/* the table first, as everybody does */
	*heap = NULL;
	if (OidIsValid(heapid) && get_rel_relkind(relid) == RELKIND_INDEX)
		*heap = table_open(heapid, lockmode);
	rel = relation_open(relid, *heap != NULL ? lockmode : AccessShareLock);
	check_is_spfresh(rel);
	check_can_be_read(rel);
	return rel;
}

void
spf_inspect_close(Relation rel, Relation heap, LOCKMODE lockmode)
{
	relation_close(rel, lockmode);
	table_close(heap, lockmode);
}

Datum
spf_inspect_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls, int n)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (desc->natts != n)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("function has %d result columns, but the library of spfresh gives %d",
						desc->natts, n),
				 errhint("Update the extension, or create it anew.")));
	desc = BlessTupleDesc(desc);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

void
spf_become_owner(Relation heap, SpfOwnerContext *saved)
{
	GetUserIdAndSecContext(&saved->user, &saved->security);
	SetUserIdAndSecContext(heap->rd_rel->relowner,
						   saved->security | SECURITY_RESTRICTED_OPERATION);
	saved->guc_level = NewGUCNestLevel();
	spf_restrict_search_path();
}

void
spf_become_self(const SpfOwnerContext *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->security);
}

/* ---- one posting ---- */

typedef struct SpfSummary
{
	SpfPageRef	head;
	int			level;
	bool		retired;
	SpfRecordRef centroid;
	uint32		split_at;
	int64		pages;
	int64		entries;
	int64		stale;

	/* of live entries, to the centroid */
	double		min;
	double		max;
	double		sum;
} SpfSummary;

typedef struct SpfInspector
{
	SpfIndex   *index;
	BufferAccessStrategy strategy;
	BlockNumber nblocks;
	bool		distances;		/* wanted */
	bool		has_centroid;	/* of the posting at hand; the root has none: zero */
	float	   *centroid;
	float	   *point;
	SpfRecordRef *refs;			/* of a page */
} SpfInspector;

static void
inspector_init(SpfInspector *in, Relation rel, bool distances)
{
	in->index = spf_index_open(rel);
	in->strategy = GetAccessStrategy(BAS_BULKREAD);
	in->nblocks = RelationGetNumberOfBlocks(rel);
	in->distances = distances;
	in->centroid = palloc0((in->index->padded + 1) * sizeof(float));
	in->point = palloc0((in->index->padded + 1) * sizeof(float));
	in->refs = NULL;
	if (in->index->dim > 0)
		in->refs = palloc(spf_posting_page_entries(in->index) * sizeof(SpfRecordRef));
}

static void
load_centroid(SpfInspector *in, const SpfSummary *summary)
{
	SpfVector	vector;

	memset(in->centroid, 0, in->index->padded * sizeof(float));
	in->has_centroid = true;
	if (!in->distances || !BlockNumberIsValid(summary->centroid.block))
		return;
	vector.code = palloc(in->index->padded);
	in->has_centroid = spf_record_fetch(in->index, summary->centroid, summary->level + 1,
										&vector, NULL);
	if (in->has_centroid)
		spf_record_decode(vector.code, vector.numbers.scale, in->index->padded, in->centroid);
	pfree(vector.code);
}

/* Look up n references of a posting, in order of their blocks. */
static void
look_up(SpfInspector *in, SpfSummary *summary, int n)
{
	const SpfIndex *index = in->index;

	qsort(in->refs, n, sizeof(SpfRecordRef), spf_record_ref_cmp);
	for (int i = 0; i < n;)
	{
		BlockNumber block = in->refs[i].block;
		Buffer		buf = spf_record_page(index->rel, block, BUFFER_LOCK_SHARE);

		for (; i < n && in->refs[i].block == block; i++)
		{
			SpfRecordView view;
			double		distance;

			if (!BufferIsValid(buf) ||
				!spf_record_view(index, buf, in->refs[i].offset, in->refs[i].version,
								 summary->level, &view))
			{
				summary->stale++;
				continue;
			}
			if (!in->distances || !in->has_centroid)
				continue;
			spf_record_decode(view.code, view.numbers.scale, index->padded, in->point);
			distance = sqrt(spf_kernels->l2sq(in->point, in->centroid, index->padded));
			summary->min = Min(summary->min, distance);
			summary->max = Max(summary->max, distance);
			summary->sum += distance;
		}
		if (BufferIsValid(buf))
			UnlockReleaseBuffer(buf);
	}
}

/* What the head at this block is like; the posting may change or go while it is read. */
static void
summarize(SpfInspector *in, SpfPageRef head, SpfSummary *summary)
{
	SpfPageRef	page = head;

	memset(summary, 0, sizeof(SpfSummary));
	summary->head = head;
	summary->min = INFINITY;
	while (BlockNumberIsValid(page.block))
	{
		Buffer		buf = spf_page_follow(in->index->rel, page, SPF_PAGE_POSTING,
										  BUFFER_LOCK_SHARE);
		SpfPostingView view;
		int			n = 0;

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf))
			return;
		spf_posting_view(in->index, buf, &view);
		if (summary->pages == 0)
		{
			summary->level = view.level;
			summary->retired = view.retired;
			summary->centroid = view.centroid;
			summary->split_at = view.split_at;
		}
		for (int i = 0; i < view.used; i++)
		{
			const uint8_t *block = spf_posting_block(in->index, &view,
													 i / in->index->shape.lanes);

			if (spf_posting_superseded(in->index, block, i % in->index->shape.lanes))
				summary->stale++;
			else
				in->refs[n++] = spf_posting_ref(in->index, block, i % in->index->shape.lanes);
		}
		summary->entries += view.used;
		page = view.next;
		UnlockReleaseBuffer(buf);

		if (summary->pages++ > in->nblocks)
			spf_page_corrupted(in->index->rel, head.block, "A posting's pages have no end.");
		if (summary->pages == 1)
			load_centroid(in, summary);
		look_up(in, summary, n);
	}
}

/* ---- spfresh_stats ---- */

typedef struct SpfStats
{
	SpfMeta		meta;
	int64		pages[SPF_PAGE_FREE + 1];	/* by kind; [0]: new ones */
	int64		postings[SPF_MAX_LEVELS];
	int64		most;			/* entries of a posting of level 0 */
	int64		overflowing;
	int64		retired;
	int64		entries;		/* of level 0 */
	int64		stale;
	int64		upper_entries;
	int64		upper_stale;
	int64		level_entries[SPF_MAX_LEVELS];
	double		level_squares[SPF_MAX_LEVELS];	/* of entries of postings */
	SpfWorkList work;
	int64		records;		/* of level 0 */
	int64		centroids;
	int64		rows;
} SpfStats;

static void
count_records(SpfInspector *in, Buffer buf, SpfStats *stats)
{
	int			maxoff = spf_record_offsets(buf);

	for (uint16 off = FirstOffsetNumber; off <= maxoff; off++)
	{
		uint16		version = spf_record_version_at(in->index, buf, off);
		SpfRecordView view;

		if (version == 0 || !spf_record_view(in->index, buf, off, version, -1, &view) ||
			view.level == SPF_ORIGIN_LEVEL)
			continue;
		if (view.level > 0)
			stats->centroids++;
		else
			stats->records++;
		stats->rows += view.ntids;
	}
}

static void
count_posting(SpfInspector *in, SpfPageRef head, SpfStats *stats)
{
	SpfSummary	summary;

	summarize(in, head, &summary);
	if (summary.retired)
	{
		stats->retired++;
		return;
	}
	stats->postings[summary.level]++;
	stats->level_entries[summary.level] += summary.entries;
	stats->level_squares[summary.level] += (double) summary.entries * summary.entries;
	if (summary.level > 0)
	{
		stats->upper_entries += summary.entries;
		stats->upper_stale += summary.stale;
		return;
	}
	stats->entries += summary.entries;
	stats->stale += summary.stale;
	stats->most = Max(stats->most, summary.entries);
	if (summary.pages > 1)
		stats->overflowing++;
}

static void
count_block(SpfInspector *in, BlockNumber block, SpfStats *stats)
{
	Buffer		buf = spf_page_read_strategy(in->index->rel, block, BUFFER_LOCK_SHARE,
											 in->strategy);
	SpfPageRef	head = {block, 0};
	bool		is_head = false;
	int			kind;

	if (!BufferIsValid(buf))
	{
		stats->pages[0]++;
		return;
	}
	kind = SpfPageOpaque(BufferGetPage(buf))->kind;
	stats->pages[kind]++;
	if (in->index->dim > 0 && kind == SPF_PAGE_RECORD)
		count_records(in, buf, stats);
	else if (in->index->dim > 0 && kind == SPF_PAGE_TIDS)
	{
		SpfTidsView view;

		spf_tids_view(in->index, buf, &view);
		stats->rows += view.ntids;
	}
	else if (in->index->dim > 0 && kind == SPF_PAGE_POSTING)
	{
		SpfPostingView view;

		spf_posting_view(in->index, buf, &view);
		head.generation = SpfPageOpaque(BufferGetPage(buf))->generation;
		is_head = view.head;
	}
	UnlockReleaseBuffer(buf);
	if (is_head)
		count_posting(in, head, stats);
}

static Datum
postings_by_level(const SpfStats *stats, int levels)
{
	Datum		counts[SPF_MAX_LEVELS];

	for (int i = 0; i < levels; i++)
		counts[i] = Int64GetDatum(stats->postings[i]);
	return PointerGetDatum(construct_array(counts, levels, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * How evenly entries are spread over the postings of each level: mean size over the mean size that an
 * entry sees; 1 when all are equal.
 */
static Datum
balance_by_level(const SpfStats *stats, int levels)
{
	Datum		balance[SPF_MAX_LEVELS];

	for (int i = 0; i < levels; i++)
	{
		double		entries = stats->level_entries[i];

		balance[i] = Float8GetDatum(entries == 0 ? 1 :
									entries * entries /
									(stats->level_squares[i] * Max(stats->postings[i], 1)));
	}
	return PointerGetDatum(construct_array(balance, levels, FLOAT8OID, sizeof(float8),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* The list of work: four columns. */
static int
put_work(const SpfWorkList *list, Datum *values, bool *nulls, int n)
{
	uint32		oldest = PG_UINT32_MAX;

	for (int i = 0; i < list->nitems; i++)
		oldest = Min(oldest, list->items[i].queued);
	values[n++] = Int32GetDatum(list->nitems);
	nulls[n] = list->nitems == 0;
	values[n++] = TimestampTzGetDatum((TimestampTz) oldest * USECS_PER_SEC);
	nulls[n] = nulls[n + 1] = list->failed_at == 0;
	values[n++] = CStringGetTextDatum(pnstrdup(list->failure, SPF_WORK_ERROR));
	values[n++] = TimestampTzGetDatum(list->failed_at);
	return n;
}

/* "name": {"k": [...], ...} */
static void
append_table(StringInfo text, const char *name, const float (*table)[SPF_CAL_TARGETS])
{
	appendStringInfo(text, ", \"%s\": {", name);
	for (int i = 0; i < SPF_CAL_KS; i++)
	{
		appendStringInfo(text, "%s\"%d\": [", i > 0 ? ", " : "", spf_calibration_k(i));
		for (int t = 0; t < SPF_CAL_TARGETS; t++)
			appendStringInfo(text, "%s%g", t > 0 ? ", " : "",
							 isfinite(table[i][t]) ? table[i][t] : 0);
		appendStringInfoChar(text, ']');
	}
	appendStringInfoChar(text, '}');
}

/* {"recall": [...], "probes": {"k": [...], ...}, "margins": {likewise}} */
static Datum
calibration_json(const SpfCalibration *calibration)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, "{\"recall\": [");
	for (int t = 0; t < SPF_CAL_TARGETS; t++)
		appendStringInfo(&text, "%s%g", t > 0 ? ", " : "", spf_calibration_target(t));
	appendStringInfoChar(&text, ']');
	append_table(&text, "probes", calibration->nprobe);
	append_table(&text, "margins", calibration->margin);
	appendStringInfoChar(&text, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data));
}

static const char *
metric_name(SpfMetric metric)
{
	switch (metric)
	{
		case SPF_L2:
			return "l2";
		case SPF_IP:
			return "ip";
		case SPF_COSINE:
			return "cosine";
	}
	return "unknown";
}

#define STATS_COLUMNS	43

static Datum
stats_row(FunctionCallInfo fcinfo, const SpfIndex *index, const SpfStats *stats)
{
	const SpfMeta *meta = &stats->meta;
	int			levels = meta->dim > 0 ? meta->root_level + 1 : 0;
	int64		all = 0;
	Datum		values[STATS_COLUMNS];
	bool		nulls[STATS_COLUMNS] = {0};
	int			n = 0;

	values[n++] = Int32GetDatum(meta->version);
	values[n++] = CStringGetTextDatum(index->type->type_name);
	values[n++] = CStringGetTextDatum(metric_name(index->type->metric));
	values[n++] = Int32GetDatum(meta->dim);
	values[n++] = Int32GetDatum(meta->bits);
	values[n++] = Int32GetDatum(meta->replicas);
	values[n++] = Int32GetDatum(meta->lanes);
	values[n++] = Int32GetDatum(meta->split_limit);
	values[n++] = Int32GetDatum(meta->merge_limit);
	values[n++] = Int32GetDatum(levels);
	values[n++] = Int64GetDatum(stats->postings[0]);
	values[n++] = postings_by_level(stats, levels);
	values[n++] = Int64GetDatum(stats->most);
	nulls[n] = stats->postings[0] == 0;
	values[n++] = Float8GetDatum((double) stats->entries / Max(stats->postings[0], 1));
	values[n++] = Int64GetDatum(stats->overflowing);
	values[n++] = Int64GetDatum(stats->retired);
	values[n++] = Int64GetDatum(stats->entries);
	values[n++] = Int64GetDatum(stats->stale);
	values[n++] = Int64GetDatum(stats->upper_entries);
	values[n++] = Int64GetDatum(stats->records);
	values[n++] = Int64GetDatum(stats->centroids);
	values[n++] = Int64GetDatum(stats->rows);
	for (int kind = SPF_PAGE_RECORD; kind <= SPF_PAGE_TIDS; kind++)
		values[n++] = Int64GetDatum(stats->pages[kind] * BLCKSZ);
	values[n++] = Int64GetDatum((stats->pages[SPF_PAGE_FREE] + stats->pages[0]) * BLCKSZ);
	for (int kind = 0; kind <= SPF_PAGE_FREE; kind++)
		all += stats->pages[kind];
	values[n++] = Int64GetDatum(all * BLCKSZ);
	values[n++] = Int64GetDatum((int64) meta->counters.splits);
	values[n++] = Int64GetDatum((int64) meta->counters.swept);
	values[n++] = Int64GetDatum(meta->counters.merges);
	values[n++] = Int64GetDatum(meta->counters.evaluated);
	values[n++] = Int64GetDatum(meta->counters.reassigned);
	values[n++] = Int64GetDatum(meta->counters.reclusters);
	values[n++] = Int64GetDatum(meta->counters.reclustered);
	nulls[n] = stats->entries + stats->upper_entries == 0;
	values[n++] = Float8GetDatum((double) (stats->stale + stats->upper_stale) /
								 Max(stats->entries + stats->upper_entries, 1));
	values[n++] = balance_by_level(stats, levels);
	n = put_work(&stats->work, values, nulls, n);
	values[n++] = Int32GetDatum(meta->calibration.samples);
	values[n++] = Int64GetDatum(meta->calibration.postings);
	nulls[n] = meta->calibration.samples == 0;
	values[n] = calibration_json(&meta->calibration);
	return spf_inspect_row(fcinfo, values, nulls, lengthof(values));
}

PG_FUNCTION_INFO_V1(spfresh_stats);
Datum
spfresh_stats(PG_FUNCTION_ARGS)
{
	Relation	heap;
	Relation	rel = spf_inspect_open(PG_GETARG_OID(0), SPF_RIGHT_LOOK, AccessShareLock, &heap);
	SpfInspector in;
	SpfStats	stats = {0};
	Datum		row;

	inspector_init(&in, rel, false);
	spf_meta_read(rel, &stats.meta);
	spf_work_read(in.index, &stats.work);
	for (BlockNumber block = 0; block < in.nblocks; block++)
	{
		CHECK_FOR_INTERRUPTS();
		count_block(&in, block, &stats);
	}
	row = stats_row(fcinfo, in.index, &stats);
	spf_inspect_close(rel, heap, AccessShareLock);
	return row;
}

/* ---- spfresh_postings ---- */

#define POSTINGS_COLUMNS	13

static void
put_posting(ReturnSetInfo *result, const SpfSummary *summary)
{
	Datum		values[POSTINGS_COLUMNS];
	bool		nulls[POSTINGS_COLUMNS] = {0};
	int64		live = summary->entries - summary->stale;
	bool		no_distance = !(summary->min < INFINITY);
	int			n = 0;

	values[n++] = Int32GetDatum(summary->level);
	values[n++] = Int64GetDatum(summary->head.block);
	values[n++] = Int64GetDatum(summary->head.generation);
	values[n++] = Int64GetDatum(summary->pages);
	values[n++] = Int64GetDatum(summary->entries);
	values[n++] = Int64GetDatum(summary->stale);
	values[n++] = BoolGetDatum(summary->retired);
	nulls[n] = nulls[n + 1] = !BlockNumberIsValid(summary->centroid.block);
	values[n++] = Int64GetDatum(summary->centroid.block);
	values[n++] = Int32GetDatum(summary->centroid.offset);
	values[n++] = Int64GetDatum(summary->split_at);
	nulls[n] = nulls[n + 1] = nulls[n + 2] = no_distance;
	values[n++] = Float8GetDatum(summary->min);
	values[n++] = Float8GetDatum(summary->sum / Max(live, 1));
	values[n++] = Float8GetDatum(summary->max);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* The head at a block; false if there is none. */
static bool
find_head(SpfInspector *in, BlockNumber block, SpfPageRef *head)
{
	SpfPostingView view;

	return spf_posting_look_at(in->index, block, in->strategy, head, &view) && view.head;
}

PG_FUNCTION_INFO_V1(spfresh_postings);
Datum
spfresh_postings(PG_FUNCTION_ARGS)
{
	Relation	heap;
	Relation	rel = spf_inspect_open(PG_GETARG_OID(0), SPF_RIGHT_LOOK, AccessShareLock, &heap);
	SpfInspector in;

	InitMaterializedSRF(fcinfo, 0);
	inspector_init(&in, rel, true);
	for (BlockNumber block = SPF_META_BLOCK + 1; in.index->dim > 0 && block < in.nblocks; block++)
	{
		SpfPageRef	head;
		SpfSummary	summary;

		CHECK_FOR_INTERRUPTS();
		if (!find_head(&in, block, &head))
			continue;
		summarize(&in, head, &summary);
		if (summary.pages > 0)
			put_posting((ReturnSetInfo *) fcinfo->resultinfo, &summary);
	}
	spf_inspect_close(rel, heap, AccessShareLock);
	return (Datum) 0;
}

/* ---- spfresh_last_scan ---- */

#define LAST_SCAN_COLUMNS	12

PG_FUNCTION_INFO_V1(spfresh_last_scan);
Datum
spfresh_last_scan(PG_FUNCTION_ARGS)
{
	const SpfLastScan *last = &spf_last_scan;
	Datum		probes[SPF_MAX_LEVELS];
	Datum		values[LAST_SCAN_COLUMNS];
	bool		nulls[LAST_SCAN_COLUMNS] = {0};
	int			levels = SPF_MAX_LEVELS;
	int			n = 0;

	if (!last->valid)
		PG_RETURN_NULL();
	while (levels > 1 && last->work.probes[levels - 1] == 0)
		levels--;
	for (int i = 0; i < levels; i++)
		probes[i] = Int64GetDatum((int64) last->work.probes[i]);

	values[n++] = ObjectIdGetDatum(last->index);
	values[n++] = Int32GetDatum(last->nprobe);
	values[n++] = Int32GetDatum(last->rounds);
	values[n++] = PointerGetDatum(construct_array(probes, levels, INT8OID, sizeof(int64),
												  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[n++] = Int64GetDatum((int64) last->work.pages);
	values[n++] = Int64GetDatum((int64) last->work.entries);
	values[n++] = Int64GetDatum((int64) last->work.records);
	values[n++] = Int64GetDatum((int64) last->work.rows);
	values[n++] = Int64GetDatum((int64) last->work.gone);
	values[n++] = Int64GetDatum((int64) last->emitted);
	values[n++] = Int64GetDatum((int64) last->work.skipped);
	nulls[n] = last->stop == SPF_STOP_NONE;
	if (!nulls[n])
		values[n] = CStringGetTextDatum(spf_stop_name(last->stop));
	return spf_inspect_row(fcinfo, values, nulls, lengthof(values));
}
