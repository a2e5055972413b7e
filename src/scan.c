/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  A query goes through: the index scan.
 *
 * Multi-step nearest neighbour search (Seidl and Kriegel, SIGMOD 1998), lazily: one queue holds
 * candidates by lower bound of their distance.  A popped entry has its record read and goes
 * back with its true bound; a popped record has its rows read, which go
 * back with their exact distance; a popped row is nearer than all that is
 * left, and is emitted.
 *
 * A round probes a number of postings for k rows.  While it does, entries whose
 * bound cannot be among the best k are passed over.  When the executor wants more than
 * the round gave (a filter above, rows it cannot see), the next round wants four
 * times as many, of twice the postings; the postings of earlier rounds are scanned again,
 * for what was passed over.
 *
 * Locks: one page at a time, share mode, released before a row is read.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "access/relscan.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "insert.h"
#include "posting.h"
#include "record.h"
#include "scan.h"

/* By what each further round grows. */
#define ROUND_ROWS		4
#define ROUND_PROBES	2

/* A record that was read. */
typedef struct SpfFound
{
	SpfRecordRef ref;
	BlockNumber more;			/* further rows */
	BlockNumber pages;			/* of such rows, read so far */
	float		bound;			/* what it is queued with */
	int			ntids;
	uint32		first_tid;		/* number in scan->tids */
} SpfFound;

/* A row whose distance is known. */
typedef struct SpfRow
{
	ItemPointerData tid;
	double		distance;
} SpfRow;

/* How rows are read: the scan's own view of the table. */
typedef struct SpfHeapAccess
{
	IndexFetchTableData *fetch;
	TupleTableSlot *slot;
	IndexInfo  *info;
	EState	   *estate;			/* for expressions */
	ExprState  *predicate;		/* of a partial index */
	AttrNumber	attnum;			/* of a plain column, else 0 */
} SpfHeapAccess;

typedef struct SpfScan
{
	SpfIndex   *index;
	MemoryContext context;		/* of one rescan */
	MemoryContext row_context;	/* of one row's distance */
	SpfHeapAccess heap;
	bool		started;
	bool		finished;

	SpfMeta		meta;
	Datum		value;			/* the query, detoasted */
	bool		any_order;		/* the query is NULL: nothing is nearer than anything */
	SpfQuery   *query;
	SpfStream  *stream;			/* NULL when the root is at level 0 */
	SpfProbe	probe;
	SpfBest		best;
	SpfRoute   *routes;			/* probed so far */
	int			nroutes;
	int			routes_space;

	double		k;				/* rows wanted by this round */
	int			nprobe;			/* postings probed by this round */
	int			rounds;
	bool		all_probed;
	uint64		emitted;
	double		last_distance;

	SpfQueue	queue;
	struct spf_seen_hash *seen;
	struct spf_seen_hash *seen_rows;
	SpfFound   *found;
	int			nfound;
	int			found_space;
	ItemPointerData *tids;
	uint32		ntids;
	uint32		tids_space;
	SpfRow	   *rows;
	uint32		nrows;
	uint32		rows_space;
	BlockNumber heap_blocks;
	SpfWork		work;
} SpfScan;

SpfLastScan spf_last_scan;

/* Make room for n more elements of an array. */
#define ENSURE(array, n, space, more) \
	do { \
		if ((n) + (more) > (space)) \
		{ \
			(space) = Max((space) * 2, (n) + (more)); \
			(array) = repalloc_huge((array), (space) * sizeof(*(array))); \
		} \
	} while (0)

/* ---- memory ---- */

/*
 * A scan needs some 100 kB.  Taken from the operating system and given back for every query, they cost
 * a fifth of its time; so the context of the last scan is kept, with
 * its first block, for the next.
 */
#define KEPT_BYTES		(192 * 1024)

static MemoryContext spare_context = NULL;

static MemoryContext
take_context(void)
{
	MemoryContext context = spare_context;

	if (context == NULL)
		return AllocSetContextCreate(CurrentMemoryContext, "spfresh scan",
									 KEPT_BYTES, KEPT_BYTES, ALLOCSET_DEFAULT_MAXSIZE);
	spare_context = NULL;
	MemoryContextSetParent(context, CurrentMemoryContext);
	return context;
}

static void
give_context(MemoryContext context)
{
	if (spare_context != NULL)
	{
		MemoryContextDelete(context);
		return;
	}
	MemoryContextReset(context);
	MemoryContextSetParent(context, TopMemoryContext);
	spare_context = context;
}

/* ---- what is worth keeping of a posting ---- */

/* A block has lanes below the threshold. */
static void
found_in_block(void *state, const uint8_t *block, uint32 mask, const float *est,
			   const float *lower)
{
	SpfScan    *scan = state;

	while (mask != 0)
	{
		int			lane = pg_rightmost_one_pos32(mask);

		mask &= mask - 1;
		if (!(lower[lane] < scan->probe.threshold))
			continue;
		spf_queue_push(&scan->queue, lower[lane], SPF_ITEM_ENTRY,
					   spf_posting_ref(scan->index, block, lane));
		scan->probe.threshold = spf_best_add(&scan->best, 2 * est[lane] - lower[lane]);
	}
}

/* Routes for up to `want` more postings; returns how many there are. */
static int
more_routes(SpfScan *scan, int want)
{
	int			n;

	ENSURE(scan->routes, scan->nroutes, scan->routes_space, want);
	if (scan->stream == NULL)
	{
		/* the root is the only posting there is */
		spf_route_root(&scan->meta, scan->query, &scan->routes[0]);
		scan->all_probed = true;
		return 1;
	}
	n = spf_stream_next(scan->stream, scan->routes + scan->nroutes, want);
	scan->all_probed = n == 0;
	return n;
}

/* Probe postings until the round has its share, or there are no more. */
static void
probe_more(SpfScan *scan)
{
	while (scan->nroutes < scan->nprobe && !scan->all_probed)
	{
		int			n = more_routes(scan, Min(scan->nprobe - scan->nroutes, SPF_PORTION));

		spf_probe_postings(&scan->probe, scan->routes + scan->nroutes, n);
		scan->nroutes += n;
	}
	spf_queue_trim(&scan->queue, scan->probe.threshold);
}

static Size
scan_memory(SpfScan *scan)
{
	return scan->queue.memory + spf_seen_memory(scan->seen) + spf_seen_memory(scan->seen_rows) +
		scan->found_space * sizeof(SpfFound) + scan->tids_space * sizeof(ItemPointerData) +
		scan->rows_space * sizeof(SpfRow) + scan->routes_space * sizeof(SpfRoute);
}

/*
 * The next round.  False when there is nothing more to be found, or settings
 * do not allow to look for it.
 */
static bool
next_round(SpfScan *scan)
{
	int			old = scan->nroutes;
	bool		iterative = spf_setting_iterative_scan != SPF_ITERATIVE_OFF;
	bool		had_all = isinf(scan->k);

	if (had_all && (scan->all_probed || !iterative))
		return false;
	if (iterative && (scan->work.rows >= (uint64) spf_setting_max_scan_tuples ||
					  scan_memory(scan) > (Size) work_mem * 1024))
		return false;

	scan->rounds++;
	if (iterative)
	{
		scan->nprobe = scan->nprobe > INT_MAX / ROUND_PROBES ? INT_MAX :
			scan->nprobe * ROUND_PROBES;
		scan->k *= ROUND_ROWS;
	}
	if (!iterative || scan->k > SPF_MAX_BEST)
		scan->k = INFINITY;

	/* scanning their postings again brings entries back */
	spf_queue_trim(&scan->queue, -INFINITY);
	spf_best_free(&scan->best);
	spf_best_init(&scan->best, scan->k * scan->index->replicas);
	scan->probe.threshold = INFINITY;
	spf_probe_postings(&scan->probe, scan->routes, old);
	probe_more(scan);
	return true;
}

/* ---- entries become records ---- */

static void
take_record(void *state, SpfRecordRef ref, const SpfRecordView *view)
{
	SpfScan    *scan = state;
	SpfFound   *found;
	float		est;
	float		lower;

	ENSURE(scan->found, scan->nfound, scan->found_space, 1);
	ENSURE(scan->tids, scan->ntids, scan->tids_space, (uint32) view->ntids);
	found = &scan->found[scan->nfound];
	found->ref = ref;
	found->more = view->more;
	found->pages = 0;
	found->ntids = view->ntids;
	found->first_tid = scan->ntids;
	memcpy(&scan->tids[scan->ntids], view->tids, view->ntids * sizeof(ItemPointerData));
	scan->ntids += view->ntids;
	spf_query_record(scan->query, view->code, &view->numbers, &est, &lower);
	found->bound = spf_setting_rerank ? lower : est;
	spf_queue_push_number(&scan->queue, found->bound, SPF_ITEM_RECORD, scan->nfound);
	scan->nfound++;
}

/* Read the records of the entries that are first in line. */
static void
read_records(SpfScan *scan)
{
	SpfRecordRef refs[SPF_RECORD_BATCH];
	int			want = scan->k < scan->nfound + 4 ? 4 : SPF_RECORD_BATCH;
	int			n = spf_queue_pop_entries(&scan->queue, scan->seen, refs, want);

	scan->work.records += spf_record_read_batch(scan->index, refs, n, 0, take_record, scan);
}

/* ---- records become rows ---- */

static void
open_heap(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	SpfHeapAccess *heap = &scan->heap;
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(scan));

	/* it outlives rescans */
	heap->fetch = table_index_fetch_begin(desc->heapRelation);
	heap->slot = table_slot_create(desc->heapRelation, NULL);
	heap->info = BuildIndexInfo(desc->indexRelation);
	heap->attnum = heap->info->ii_IndexAttrNumbers[0];
	if (heap->attnum == 0 || heap->info->ii_Predicate != NIL)
	{
		heap->estate = CreateExecutorState();
		GetPerTupleExprContext(heap->estate)->ecxt_scantuple = heap->slot;
		heap->predicate = ExecPrepareQual(heap->info->ii_Predicate, heap->estate);
	}
	MemoryContextSwitchTo(old);
}

/*
 * The indexed value of the row in the slot.  The predicate is looked at because nobody else
 * does, and a damaged record may lead to any row.
 */
static Datum
indexed_value(SpfHeapAccess *heap, bool *isnull)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	if (heap->estate != NULL)
		ResetPerTupleExprContext(heap->estate);
	if (heap->predicate != NULL &&
		!ExecQual(heap->predicate, GetPerTupleExprContext(heap->estate)))
	{
		*isnull = true;
		return (Datum) 0;
	}
	if (heap->attnum != 0)
		return slot_getattr(heap->slot, heap->attnum, isnull);
	FormIndexDatum(heap->info, heap->slot, heap->estate, values, nulls);
	*isnull = nulls[0];
	return values[0];
}

/* Read a row; false if the snapshot does not see it. */
static bool
read_row(IndexScanDesc desc, const ItemPointerData *tid, double *distance)
{
	SpfScan    *scan = desc->opaque;
	SpfHeapAccess *heap = &scan->heap;
	ItemPointerData target = *tid;
	bool		call_again = false;
	bool		all_dead = false;
	bool		isnull;
	Datum		value;
	MemoryContext old;

	if (heap->fetch == NULL)
		open_heap(desc);
	if (!table_index_fetch_tuple(heap->fetch, &target, desc->xs_snapshot, heap->slot,
								 &call_again, &all_dead))
		return false;

	MemoryContextReset(scan->row_context);
	old = MemoryContextSwitchTo(scan->row_context);
	value = indexed_value(heap, &isnull);
	if (scan->any_order)
		*distance = 0;
	else if (!isnull)
		*distance = DatumGetFloat8(FunctionCall2Coll(scan->index->distance,
													 scan->index->collation,
													 value, scan->value));
	MemoryContextSwitchTo(old);
	if (isnull)
		return false;
	if (isnan(*distance))
		*distance = INFINITY;
	return true;
}

/* Is this the address of a row that was not met before? */
static bool
is_new_row(IndexScanDesc desc, const ItemPointerData *tid, const SpfFound *found)
{
	SpfScan    *scan = desc->opaque;
	SpfRecordRef key;

	key.block = ItemPointerGetBlockNumberNoCheck(tid);
	key.offset = ItemPointerGetOffsetNumberNoCheck(tid);
	key.version = 0;
	if (key.block >= scan->heap_blocks)
		scan->heap_blocks = RelationGetNumberOfBlocks(desc->heapRelation);
	if (key.block >= scan->heap_blocks || !OffsetNumberIsValid(key.offset))
		spf_page_corrupted(desc->indexRelation, found->ref.block,
						   "A record names a row that is not in the table.");
	return spf_seen_add(scan->seen_rows, key);
}

static void
add_row(IndexScanDesc desc, const ItemPointerData *tid, int number)
{
	SpfScan    *scan = desc->opaque;
	double		bound = scan->found[number].bound;
	SpfRow	   *row;

	if (!is_new_row(desc, tid, &scan->found[number]))
		return;
	ENSURE(scan->rows, scan->nrows, scan->rows_space, 1);
	row = &scan->rows[scan->nrows];
	row->tid = *tid;
	row->distance = bound;
	scan->work.rows++;
	if (spf_setting_rerank && !read_row(desc, tid, &row->distance))
		return;
	spf_queue_push_number(&scan->queue, row->distance, SPF_ITEM_ROW, scan->nrows);
	scan->nrows++;
}

/* The rows in a record's item; those on its TIDS pages wait in line with the same bound. */
static void
expand_record(IndexScanDesc desc, int number)
{
	SpfScan    *scan = desc->opaque;

	for (int i = 0; i < scan->found[number].ntids; i++)
	{
		ItemPointerData tid = scan->tids[scan->found[number].first_tid + i];

		add_row(desc, &tid, number);
	}
	if (BlockNumberIsValid(scan->found[number].more))
		spf_queue_push_number(&scan->queue, scan->found[number].bound, SPF_ITEM_MORE, number);
}

static void
expand_more(IndexScanDesc desc, int number)
{
	SpfScan    *scan = desc->opaque;
	PGAlignedBlock space;
	ItemPointerData *tids = (ItemPointerData *) space.data;
	SpfFound   *found = &scan->found[number];
	int			ntids = spf_record_more(scan->index, found->more, found->ref, tids,
										&found->more);

	if (found->pages++ > RelationGetNumberOfBlocks(desc->indexRelation))
		spf_page_corrupted(desc->indexRelation, found->ref.block,
						   "A record's TIDS pages have no end.");
	if (BlockNumberIsValid(found->more))
		spf_queue_push_number(&scan->queue, found->bound, SPF_ITEM_MORE, number);
	for (int i = 0; i < ntids; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_row(desc, &tids[i], number);
	}
}

/* ---- the access method's calls ---- */

IndexScanDesc
spf_begin_scan(Relation rel, int nkeys, int norderbys)
{
	IndexScanDesc desc = RelationGetIndexScan(rel, nkeys, norderbys);
	SpfScan    *scan = palloc0(sizeof(SpfScan));

	scan->index = spf_index_open(rel);
	scan->context = take_context();
	scan->row_context = AllocSetContextCreate(CurrentMemoryContext, "spfresh row",
											  ALLOCSET_DEFAULT_SIZES);
	desc->opaque = scan;
	return desc;
}

void
spf_rescan(IndexScanDesc desc, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	SpfScan    *scan = desc->opaque;

	if (orderbys && desc->numberOfOrderBys > 0)
		memmove(desc->orderByData, orderbys, desc->numberOfOrderBys * sizeof(ScanKeyData));
	if (keys && desc->numberOfKeys > 0)
		memmove(desc->keyData, keys, desc->numberOfKeys * sizeof(ScanKeyData));
	if (scan->heap.fetch != NULL)
		table_index_fetch_reset(scan->heap.fetch);
	MemoryContextReset(scan->context);
	scan->started = false;
	scan->finished = false;
	scan->emitted = 0;
}

/* The query as floats; a NULL or, under cosine, zero query is all zeros: any order will do. */
static float *
query_floats(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	SpfIndex   *index = scan->index;
	ScanKey		order = &desc->orderByData[0];
	float	   *floats = palloc0(index->padded * sizeof(float));
	void	   *datum;

	scan->any_order = (order->sk_flags & SK_ISNULL) != 0;
	if (scan->any_order)
		return floats;
	datum = PG_DETOAST_DATUM(order->sk_argument);
	scan->value = PointerGetDatum(datum);
	if (index->type->dim(datum) != index->dim)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different %s dimensions %d and %d", index->type->type_name,
						index->dim, index->type->dim(datum))));
	if (!spf_index_floats(index, datum, index->dim, floats))
		memset(floats, 0, index->padded * sizeof(float));
	return floats;
}

static void
choose_effort(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	double		limit = spf_limit_of(RelationGetRelid(desc->indexRelation));

	scan->k = limit > 0 ? limit : spf_setting_expected_rows;
	scan->nprobe = spf_setting_nprobe > 0 ? spf_setting_nprobe :
		spf_choose_nprobe(&scan->meta, spf_setting_target_recall, scan->k);
	scan->rounds = 1;
	scan->all_probed = false;
	scan->last_distance = -INFINITY;
}

/* The first call after a rescan: route, and probe the first round. */
static void
start_scan(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	SpfIndex   *index = scan->index;
	MemoryContext old = MemoryContextSwitchTo(scan->context);

	spf_count_search(desc);
	memset(&scan->work, 0, sizeof(SpfWork));
	spf_meta_read(index->rel, &scan->meta);
	scan->query = spf_index_query(index, query_floats(desc));
	choose_effort(desc);
	scan->routes_space = Max(16, Min(scan->nprobe, 1024));
	scan->routes = palloc(scan->routes_space * sizeof(SpfRoute));
	scan->nroutes = 0;
	spf_queue_init(&scan->queue, 512);
	scan->seen = spf_seen_make(scan->context, 256);
	scan->seen_rows = spf_seen_make(scan->context, 64);
	scan->heap_blocks = 0;
	scan->found = palloc((scan->found_space = 128) * sizeof(SpfFound));
	scan->tids = palloc((scan->tids_space = 128) * sizeof(ItemPointerData));
	scan->rows = palloc((scan->rows_space = 64) * sizeof(SpfRow));
	scan->nfound = 0;
	scan->ntids = 0;
	scan->nrows = 0;
	spf_best_init(&scan->best, scan->k * index->replicas);
	scan->probe = (SpfProbe)
	{
		.index = index,.query = scan->query,.level = 0,.queue = &scan->queue,
			.work = &scan->work,.found = found_in_block,.state = scan,.threshold = INFINITY
	};
	scan->stream = NULL;
	if (scan->meta.root_level > 0)
		scan->stream = spf_stream_open(index, &scan->meta, scan->query, 1, scan->nprobe,
									   false, &scan->work);
	probe_more(scan);
	MemoryContextSwitchTo(old);
}

static void
remember_scan(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;

	spf_last_scan.valid = true;
	spf_last_scan.index = RelationGetRelid(desc->indexRelation);
	spf_last_scan.nprobe = scan->nprobe;
	spf_last_scan.rounds = scan->rounds;
	spf_last_scan.emitted = scan->emitted;
	spf_last_scan.work = scan->work;
}

/* Is the row to be given now? */
static bool
emit_row(IndexScanDesc desc, const SpfRow *row)
{
	SpfScan    *scan = desc->opaque;

	if (row->distance < scan->last_distance &&
		spf_setting_iterative_scan != SPF_ITERATIVE_RELAXED)
		return false;
	scan->last_distance = Max(scan->last_distance, row->distance);
	scan->emitted++;
	desc->xs_heaptid = row->tid;
	desc->xs_recheck = false;
	desc->xs_recheckorderby = false;
	return true;
}

bool
spf_get_tuple(IndexScanDesc desc, ScanDirection direction)
{
	SpfScan    *scan = desc->opaque;
	MemoryContext old;
	bool		found = false;

	Assert(ScanDirectionIsForward(direction));
	if (desc->numberOfOrderBys == 0)
		elog(ERROR, "cannot scan spfresh index without order");
	if (!IsMVCCSnapshot(desc->xs_snapshot))
		elog(ERROR, "non-MVCC snapshots are not supported with spfresh");

	if (scan->index->dim == 0)
		return false;
	if (!scan->started)
	{
		start_scan(desc);
		scan->started = true;
	}

	old = MemoryContextSwitchTo(scan->context);
	while (!found && !scan->finished)
	{
		const SpfItem *first = spf_queue_first(&scan->queue);

		if (first == NULL ||
			(scan->emitted >= scan->k && spf_item_kind(first) != SPF_ITEM_MORE))
		{
			bool		more = next_round(scan);

			if (!more)
			{
				scan->k = INFINITY; /* what is left in line is all there will be */
				scan->finished = first == NULL;
			}
			continue;
		}
		CHECK_FOR_INTERRUPTS();
		if (spf_item_kind(first) == SPF_ITEM_ENTRY)
			read_records(scan);
		else
		{
			SpfItem		item = spf_queue_pop(&scan->queue);

			if (spf_item_kind(&item) == SPF_ITEM_RECORD)
				expand_record(desc, item.ref.block);
			else if (spf_item_kind(&item) == SPF_ITEM_MORE)
				expand_more(desc, item.ref.block);
			else
				found = emit_row(desc, &scan->rows[item.ref.block]);
		}
	}
	MemoryContextSwitchTo(old);
	remember_scan(desc);
	return found;
}

void
spf_end_scan(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;

	if (scan->heap.fetch != NULL)
	{
		table_index_fetch_end(scan->heap.fetch);
		ExecDropSingleTupleTableSlot(scan->heap.slot);
		if (scan->heap.estate != NULL)
			FreeExecutorState(scan->heap.estate);
	}
	MemoryContextDelete(scan->row_context);
	give_context(scan->context);
	pfree(scan);
	desc->opaque = NULL;
}
