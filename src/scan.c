/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  A query goes through: the index scan.
 *
 * Multi-step nearest neighbour search (Seidl and Kriegel, SIGMOD 1998), lazily: one queue holds
 * candidates by lower bound of their distance.  A popped entry has its record read and goes
 * back with its true bound; a popped record has its rows read, which go
 * back with their exact distance; a popped row is nearer than all that is
 * left, and is emitted.  Where a LIMIT is known, what it needs for certain is read in batches first.
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

#include <float.h>
#include <math.h>

#include "access/relscan.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "above.h"
#include "insert.h"
#include "io.h"
#include "posting.h"
#include "record.h"
#include "row.h"
#include "scan.h"
#include "sweep.h"

/* By what the rows wanted grow with each further round. */
#define ROUND_ROWS		4

/* A filter's share of rows is believed down to one in so many. */
#define MOST_FILTERED	64

/* Postings whose ways are found at a time, where it is not known how many it will be. */
#define SMALL_PORTION	8

/* So many entries are put in order at a time. */
#define RUN				48

/* Of so many records, and rows, the processor is told in advance. */
#define ANNOUNCED		32

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

typedef struct SpfScan
{
	SpfIndex   *index;
	MemoryContext context;		/* of one rescan */
	SpfRowReader *reader;
	SpfAbove	above;
	bool		placed;			/* `above` is known */
	bool		started;
	bool		finished;

	SpfMeta		meta;
	Datum		value;			/* the query, detoasted */
	bool		any_order;		/* the query is NULL: nothing is nearer than anything */
	SpfQuery   *query;
	SpfStream  *stream;			/* NULL when the root is at level 0 */
	SpfProbe	probe;
	SpfBest		best;
	SpfRoute   *routes;
	int			nroutes;		/* probed so far */
	int			nrouted;		/* of which the way is known, probed or not */
	int			routes_space;

	double		k;				/* rows wanted by this round */
	SpfEffort	effort;			/* of this round */
	float		radius;			/* scores from here on are not wanted; INFINITY */
	int			rounds;
	uint64		taken;			/* rows that came out of the queue */
	uint64		emitted;
	double		last_distance;
	double		limit;			/* rows that the plan wants; 0: not known */
	SpfSweep   *sweep;			/* where rounds have ended; see sweep.h */

	/* rows are held back until there are as many as the LIMIT wants */
	bool		held;
	SpfRow	   *ready;
	int			nready;
	int			ready_space;
	int			next_ready;

	SpfPool		pool;			/* entries */
	SpfQueue	queue;			/* records and rows */
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
	uint32		rows_announced;
	BlockNumber heap_blocks;
	uint64		rows_ahead;		/* when so many were read, it is time to read ahead again */
	SpfWork		work;

	/* of earlier rescans, for EXPLAIN */
	SpfWork		work_before;
	int			rounds_before;
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
	SpfPool    *pool = &scan->pool;
	int			room = spf_pool_room(pool, SPF_MAX_LANES);
	float		least = INFINITY;
	int			n = 0;

	while (mask != 0)
	{
		int			lane = pg_rightmost_one_pos32(mask);
		float		threshold;

		mask &= mask - 1;
		if (!(lower[lane] < scan->probe.threshold))
			continue;
		least = Min(least, lower[lane]);
		pool->keys[room + n] = lower[lane];
		pool->refs[room + n++] = spf_posting_ref(scan->index, block, lane);
		threshold = spf_best_add(&scan->best, 2 * est[lane] - lower[lane]);
		scan->probe.threshold = Min(threshold, scan->radius);
	}
	spf_pool_filled(pool, n, least);
}

/* Has the round probed enough, `next` being the next posting? */
static bool
probed_enough(void *state, const SpfRoute *next)
{
	SpfScan    *scan = state;
	int			probed = next - scan->routes;
	SpfProgress progress;

	scan->best.rank = probed;

	/* those of earlier rounds are scanned again */
	if (probed < scan->nroutes)
		return spf_effort_exhausted(&scan->effort, &scan->work, probed);
	progress = (SpfProgress)
	{
		.probed = probed,.nearest = scan->routes[0].score,.next = next->score,
			.best = scan->probe.threshold,.mean_rank = spf_best_mean_rank(&scan->best)
	};
	return spf_effort_enough(&scan->effort, &scan->work, &progress);
}

/* Routes for up to `want` more postings; returns how many there are. */
static int
more_routes(SpfScan *scan, int want)
{
	ENSURE(scan->routes, scan->nrouted, scan->routes_space, want);
	if (scan->stream == NULL)
	{
		/* the root is the only posting there is */
		spf_route_root(&scan->meta, scan->query, &scan->routes[0]);
		return scan->nrouted == 0 ? 1 : 0;
	}
	return spf_stream_next(scan->stream, scan->routes + scan->nrouted, want);
}

/* Probe postings until the round has its share, or there are no more. */
static void
probe_more(SpfScan *scan)
{
	while (scan->effort.stop == SPF_STOP_NONE)
	{
		int			left = scan->effort.nprobe - scan->nroutes;
		int			probed = scan->nroutes;

		if (left <= 0)
			scan->effort.stop = SPF_STOP_NPROBE;
		else if (scan->nroutes == scan->nrouted)
		{
			int			n = more_routes(scan, Min(left, scan->effort.margin < INFINITY ?
												 SMALL_PORTION : SPF_PORTION));

			scan->nrouted += n;
			if (n == 0 && !spf_effort_exhausted(&scan->effort, &scan->work, scan->nroutes))
				scan->effort.stop = SPF_STOP_ALL;
		}
		scan->nroutes += spf_probe_postings(&scan->probe, scan->routes + probed,
											Min(scan->nrouted - probed, Max(left, 0)));
	}
	spf_pool_trim(&scan->pool, scan->probe.threshold);
}

static Size
scan_memory(SpfScan *scan)
{
	return spf_pool_memory(&scan->pool) + scan->queue.space * sizeof(SpfItem) +
		spf_seen_memory(scan->seen) + spf_seen_memory(scan->seen_rows) +
		scan->found_space * sizeof(SpfFound) + scan->tids_space * sizeof(ItemPointerData) +
		scan->rows_space * sizeof(SpfRow) + scan->routes_space * sizeof(SpfRoute);
}

/* Prepare to probe for k rows. */
static void
begin_round(SpfScan *scan)
{
	spf_best_init(&scan->best, scan->k * scan->index->replicas, SPF_SPARE_BEST);
	scan->probe.threshold = scan->radius;
}

/* Is it cheaper by now to look at all records than to go on by rounds, or is memory spent? */
static bool
sweep_pays(SpfScan *scan)
{
	double		records = (double) scan->meta.counters.postings[0] * scan->meta.split_limit *
		2 / 3 / scan->index->replicas;

	return scan->k * ROUND_ROWS * SWEEP_SHARE > records ||
		scan_memory(scan) > (Size) work_mem * 1024;
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

	/* within its radius it has found all that its effort can */
	if (scan->radius < INFINITY && scan->probe.threshold >= scan->radius &&
		scan->effort.stop != SPF_STOP_NONE)
		return false;
	if (scan->sweep != NULL || (had_all && !iterative) || scan->effort.stop == SPF_STOP_TIME ||
		scan->effort.stop == SPF_STOP_PAGES || scan->effort.stop == SPF_STOP_ROWS ||
		(had_all && scan->effort.stop == SPF_STOP_ALL))
		return false;
	scan->rounds++;
	spf_pool_trim(&scan->pool, -INFINITY);
	if (iterative && sweep_pays(scan))
	{
		scan->sweep = spf_sweep_begin(scan->index, scan->query, scan->radius, scan->seen,
									  &scan->work);
		scan->k = INFINITY;
		scan->effort.stop = SPF_STOP_SWEEP;
		return true;
	}

	scan->k = !iterative || scan->k * ROUND_ROWS > SPF_MAX_BEST ? INFINITY :
		scan->k * ROUND_ROWS;
	if (iterative)
		spf_effort_init(&scan->effort, &scan->meta, scan->k, scan->rounds, scan->radius);

	/* scanning their postings again brings entries back */
	spf_best_free(&scan->best);
	begin_round(scan);
	(void) spf_probe_postings(&scan->probe, scan->routes, old);
	if (iterative)
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
	spf_queue_push(&scan->queue, found->bound, SPF_ITEM_RECORD, scan->nfound);
	scan->nfound++;
}

/*
 * Tell the processor of the records that will probably be read: their pages first, and then,
 * when those are on their way, the records.
 */
static void
announce_records(SpfScan *scan)
{
	Relation	rel = scan->index->rel;
	SpfRecordRef refs[ANNOUNCED];
	const SpfRecordRef *ref;
	int			n = 0;

	while (n < ANNOUNCED && (ref = spf_pool_look_ahead(&scan->pool, ANNOUNCED)) != NULL)
	{
		spf_page_announce(rel, ref->block, 256);
		refs[n++] = *ref;
	}
	for (int i = 0; i < n; i++)
		spf_item_announce(rel, refs[i].block, refs[i].offset);
}

/* Read the records of the entries that are first in line. */
static void
read_records(SpfScan *scan, double limit)
{
	SpfRecordRef refs[SPF_RECORD_BATCH];
	int			want = scan->k < scan->nfound + 4 ? 4 : SPF_RECORD_BATCH;
	int			n;

	announce_records(scan);
	n = spf_pool_take_new(&scan->pool, scan->seen, limit, refs, want);

	scan->work.records += spf_record_read_batch(scan->index, refs, n, 0, take_record, scan);
}

/* ---- records become rows ---- */

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

/* Rows of the record of this number, and of others with bounds as good, come in line. */
static void
add_rows(IndexScanDesc desc, SpfRow *rows, int n)
{
	SpfScan    *scan = desc->opaque;

	scan->work.rows += n;
	if (spf_setting_rerank)
		n = spf_rows_read(scan->reader, rows, n);
	ENSURE(scan->rows, scan->nrows, scan->rows_space, (uint32) n);
	for (int i = 0; i < n; i++)
	{
		scan->rows[scan->nrows] = rows[i];
		spf_queue_push(&scan->queue, rows[i].distance, SPF_ITEM_ROW, scan->nrows++);
	}
}

/* A row that a record names, to be read; false if it was met before. */
static bool
name_row(IndexScanDesc desc, const ItemPointerData *tid, int number, SpfRow *row)
{
	SpfScan    *scan = desc->opaque;

	if (!is_new_row(desc, tid, &scan->found[number]))
		return false;
	row->tid = *tid;
	row->distance = scan->found[number].bound;
	row->passes = true;
	return true;
}

static void
add_row(IndexScanDesc desc, const ItemPointerData *tid, int number)
{
	SpfRow		row;

	if (name_row(desc, tid, number, &row))
		add_rows(desc, &row, 1);
}

/* Likewise of the rows that will probably be read, which are those of the first records. */
static void
announce_rows(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	Relation	table = desc->heapRelation;
	int			n = Min(scan->queue.nitems, Min(Max(scan->k + 2 - scan->nrows, 4), ANNOUNCED));

	scan->rows_announced = scan->nrows + n;
	spf_queue_sort(&scan->queue);
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < n; i++)
		{
			const SpfFound *found = &scan->found[scan->queue.items[i].number];
			const ItemPointerData *tid = &scan->tids[found->first_tid];

			if (scan->queue.items[i].kind != SPF_ITEM_RECORD || found->ntids == 0)
				continue;
			if (pass == 0)
				spf_page_announce(table, ItemPointerGetBlockNumberNoCheck(tid), 128);
			else
				spf_item_announce(table, ItemPointerGetBlockNumberNoCheck(tid),
								  ItemPointerGetOffsetNumberNoCheck(tid));
		}
	}
}

/* The table's pages of the rows that will probably be read next. */
static void
read_rows_ahead(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	BlockNumber blocks[SPF_IO_WINDOW] = {0};
	double		want = Max(scan->k - (double) scan->taken, 0) + 2;
	int			most = Min(scan->queue.nitems, Min(want, SPF_IO_WINDOW));
	int			n = 0;

	/* a heap's first items are among the first */
	for (int i = 0; i < most; i++)
	{
		const SpfFound *found = &scan->found[scan->queue.items[i].number];

		if (scan->queue.items[i].kind == SPF_ITEM_RECORD && found->ntids > 0)
			blocks[n++] = ItemPointerGetBlockNumberNoCheck(&scan->tids[found->first_tid]);
	}
	spf_io_ahead(desc->heapRelation, blocks, n);
	scan->rows_ahead = scan->work.rows + n / 2 + 1;
}

/* The rows in a record's item; those on its TIDS pages wait in line with the same bound. */
static void
expand_record(IndexScanDesc desc, int number)
{
	SpfScan    *scan = desc->opaque;

	if (scan->nrows >= scan->rows_announced && spf_setting_rerank)
		announce_rows(desc);
	if (scan->work.rows >= scan->rows_ahead && spf_setting_rerank)
		read_rows_ahead(desc);
	for (int i = 0; i < scan->found[number].ntids; i++)
		add_row(desc, &scan->tids[scan->found[number].first_tid + i], number);
	if (BlockNumberIsValid(scan->found[number].more))
		spf_queue_push(&scan->queue, scan->found[number].bound, SPF_ITEM_MORE, number);
}

/*
 * Read records until those of the `want` rows with the least bounds are among them; returns the
 * greatest of these bounds.
 */
static float
read_nearest_records(SpfScan *scan, double want)
{
	float		limit = scan->radius;
	int			known = 0;
	SpfBest		best;

	spf_best_init(&best, want, 0);
	while (spf_pool_first(&scan->pool) < limit)
	{
		CHECK_FOR_INTERRUPTS();
		read_records(scan, limit);
		for (; known < scan->nfound; known++)
		{
			for (int i = 0; i < scan->found[known].ntids; i++)
			{
				float		greatest = spf_best_add(&best, scan->found[known].bound);

				limit = Min(limit, greatest);
			}
		}
	}
	spf_best_free(&best);
	return limit;
}

/* A float that is not less than a distance. */
static float
float_above(double distance)
{
	float		f = (float) distance;

	return f < distance ? nextafterf(f, INFINITY) : f;
}

static void
add_batch(IndexScanDesc desc, SpfRow *rows, int n)
{
	BlockNumber blocks[SPF_ROW_BATCH];

	for (int i = 0; i < n; i++)
		blocks[i] = ItemPointerGetBlockNumber(&rows[i].tid);
	spf_io_ahead(desc->heapRelation, blocks, n);
	add_rows(desc, rows, n);
}

/*
 * Take the records with bounds up to `limit` out of the queue, and read their rows; returns how many
 * records there were.
 */
static int
expand_records(IndexScanDesc desc, double limit)
{
	SpfScan    *scan = desc->opaque;
	SpfQueue   *queue = &scan->queue;
	uint32	   *numbers = palloc((queue->nitems + 1) * sizeof(uint32));
	SpfRow		rows[SPF_ROW_BATCH];
	int			nrecords = spf_queue_take(queue, SPF_ITEM_RECORD, limit, numbers);
	int			n = 0;

	for (int i = 0; i < nrecords; i++)
	{
		const SpfFound *found = &scan->found[numbers[i]];

		for (int t = 0; t < found->ntids; t++)
		{
			n += name_row(desc, &scan->tids[found->first_tid + t], numbers[i], &rows[n]);
			if (n == SPF_ROW_BATCH)
			{
				add_batch(desc, rows, n);
				n = 0;
			}
		}
		if (BlockNumberIsValid(found->more))
			spf_queue_push(queue, found->bound, SPF_ITEM_MORE, numbers[i]);
	}
	add_batch(desc, rows, n);
	scan->rows_announced = scan->nrows;
	pfree(numbers);
	return nrecords;
}

/*
 * The beginning, where as many rows as the LIMIT wants are wanted at once: these are read in batches, instead of
 * one by one as they are popped.
 *
 * So many will be looked at for certain, and none before the nearest by bounds.  When they are known, so is
 * a distance within which the answer lies: what else may be nearer than that is read, too.  By then it may have become
 * less, and a row have been read in vain, but hardly more than one or two.
 */
static void
read_rows_at_once(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	float		limit = read_nearest_records(scan, scan->limit);
	float		greatest = INFINITY;
	uint32		known = 0;
	SpfBest		best;

	expand_records(desc, limit);
	if (scan->above.filters)
		return;
	spf_best_init(&best, scan->limit, 0);
	do
	{
		for (; known < scan->nrows; known++)
			greatest = spf_best_add(&best, float_above(scan->rows[known].distance));
		limit = Min(scan->radius, greatest);
		if (best.n < best.space)
			break;
		while (spf_pool_first(&scan->pool) < limit)
		{
			CHECK_FOR_INTERRUPTS();
			read_records(scan, limit);
		}
	} while (expand_records(desc, limit) > 0);
	spf_best_free(&best);
}

/* May they be?  Not where it is bounded what is looked at. */
static bool
can_read_at_once(const SpfScan *scan)
{
	return spf_setting_rerank && scan->taken == 0 && scan->nready == 0 && scan->nfound == 0 &&
		scan->limit <= SPF_MAX_BEST && scan->effort.budget == 0 &&
		(spf_setting_max_scan_tuples == 0 || scan->limit < spf_setting_max_scan_tuples);
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
		spf_queue_push(&scan->queue, found->bound, SPF_ITEM_MORE, number);
	for (int i = 0; i < ntids; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_row(desc, &tids[i], number);
	}
}

/* ---- the access method's calls ---- */

static void
add_work(SpfWork *sum, const SpfWork *work)
{
	for (int i = 0; i < SPF_MAX_LEVELS; i++)
		sum->probes[i] += work->probes[i];
	sum->pages += work->pages;
	sum->entries += work->entries;
	sum->records += work->records;
	sum->rows += work->rows;
	sum->gone += work->gone;
	sum->skipped += work->skipped;
}

static void
end_sweep(SpfScan *scan)
{
	if (scan->sweep != NULL)
		spf_sweep_end(scan->sweep);
	scan->sweep = NULL;
}

IndexScanDesc
spf_begin_scan(Relation rel, int nkeys, int norderbys)
{
	IndexScanDesc desc = RelationGetIndexScan(rel, nkeys, norderbys);
	SpfScan    *scan = palloc0(sizeof(SpfScan));

	scan->index = spf_index_open(rel);
	scan->context = take_context();
	scan->reader = spf_row_reader_make(desc, scan->index, &scan->above);
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
	spf_row_reader_reset(scan->reader);
	end_sweep(scan);
	if (scan->started)
	{
		add_work(&scan->work_before, &scan->work);
		scan->rounds_before += scan->rounds;
	}
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

/* An operator's distance as a score. */
static float
score_of(const SpfIndex *index, double distance)
{
	if (index->type->metric != SPF_L2)
		return distance;

	/* a little more, for a square root was rounded: the plan's node looks at it again */
	return distance < 0 ? -1 : Min(distance * distance * (1 + 1e-6), FLT_MAX);
}

static void
choose_effort(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	double		radius;
	double		wants;

	if (!scan->placed)
		spf_above_find(&scan->above, desc);
	scan->placed = true;
	radius = spf_above_radius(&scan->above);
	scan->radius = isinf(radius) && radius > 0 ? INFINITY : score_of(scan->index, radius);
	scan->limit = spf_above_limit(&scan->above);
	wants = spf_above_wants(&scan->above);
	scan->k = wants > 0 ? wants : spf_setting_expected_rows;

	/* so many rows will have to be looked at before the LIMIT is reached */
	if (scan->limit > 0 && scan->above.filters)
		scan->k /= Max(scan->above.share, 1.0 / MOST_FILTERED);
	else if (wants == 0 && scan->radius < INFINITY)
		scan->k = INFINITY;
	scan->held = scan->limit > 0;
	scan->rounds = 1;
	spf_effort_init(&scan->effort, &scan->meta, scan->k, 1, scan->radius);
	scan->taken = 0;
	scan->nready = 0;
	scan->next_ready = 0;
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
	scan->work.max_pages = spf_setting_max_probe_pages;
	scan->work.page_limit = spf_setting_page_limit;
	spf_effort_start_clock(&scan->effort);
	spf_meta_read(index->rel, &scan->meta);
	scan->query = spf_index_query(index, query_floats(desc));
	spf_row_reader_ask(scan->reader, scan->value, scan->any_order);
	choose_effort(desc);
	scan->routes_space = Max(16, Min(scan->effort.nprobe, 1024));
	scan->routes = palloc(scan->routes_space * sizeof(SpfRoute));
	scan->nroutes = 0;
	scan->nrouted = 0;
	spf_pool_init(&scan->pool, 512, RUN);
	spf_queue_init(&scan->queue, 128);
	scan->seen = spf_seen_make(scan->context, 256);
	scan->seen_rows = spf_seen_make(scan->context, 64);
	scan->heap_blocks = 0;
	scan->rows_ahead = 0;
	scan->found = palloc((scan->found_space = 128) * sizeof(SpfFound));
	scan->tids = palloc((scan->tids_space = 128) * sizeof(ItemPointerData));
	scan->rows = palloc((scan->rows_space = 64) * sizeof(SpfRow));
	scan->nfound = 0;
	scan->ntids = 0;
	scan->nrows = 0;
	scan->rows_announced = 0;
	scan->ready = palloc((scan->ready_space = 16) * sizeof(SpfRow));
	scan->probe = (SpfProbe)
	{
		.index = index,.query = scan->query,.level = 0,.caution = 1,
			.work = &scan->work,.found = found_in_block,.enough = probed_enough,.state = scan
	};
	begin_round(scan);
	scan->stream = NULL;
	if (scan->meta.root_level > 0)
		scan->stream = spf_stream_open(index, &scan->meta, scan->query, 1,
									   scan->effort.margin < INFINITY ?
									   SPF_EXPECTED_PROBES : scan->effort.nprobe,
									   SPF_TO_SEARCH, &scan->work);
	probe_more(scan);
	MemoryContextSwitchTo(old);
}

static void
remember_scan(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;

	spf_last_scan.valid = true;
	spf_last_scan.index = RelationGetRelid(desc->indexRelation);
	spf_last_scan.nprobe = scan->nroutes;
	spf_last_scan.rounds = scan->rounds;
	spf_last_scan.stop = scan->effort.stop;
	spf_last_scan.emitted = scan->emitted;
	spf_last_scan.work = scan->work;
}

bool
spf_scan_report(IndexScanDesc desc, SpfLastScan *did)
{
	SpfScan    *scan;

	if (desc == NULL || desc->indexRelation->rd_indam->amgettuple != spf_get_tuple)
		return false;
	scan = desc->opaque;
	if (!scan->started && scan->rounds_before == 0)
		return false;
	memset(did, 0, sizeof(*did));
	did->rounds = scan->rounds_before;
	did->stop = scan->effort.stop;
	did->work = scan->work_before;
	if (scan->started)
	{
		did->rounds += scan->rounds;
		add_work(&did->work, &scan->work);
	}
	return true;
}

static int
compare_floats(const void *a, const void *b)
{
	float		x = *(const float *) a;
	float		y = *(const float *) b;

	return x < y ? -1 : x > y;
}

/*
 * Time is up: of what is in line, only as much is still looked at as the plan wants, the most
 * promising first.
 */
static void
cut_queue(SpfScan *scan)
{
	double		want = (scan->limit > 0 ? scan->limit : spf_setting_expected_rows) -
		(double) (scan->held ? scan->nready : scan->emitted);
	int			n = 0;
	float	   *bounds = palloc((scan->pool.n + scan->queue.nitems + 1) * sizeof(float));
	float		limit;

	for (int i = 0; i < scan->pool.n; i++)
		bounds[n++] = scan->pool.keys[i];
	for (int i = 0; i < scan->queue.nitems; i++)
		bounds[n++] = scan->queue.items[i].bound;
	qsort(bounds, n, sizeof(float), compare_floats);
	limit = want < n ? bounds[(int) Max(want, 0)] : INFINITY;
	pfree(bounds);
	spf_pool_trim(&scan->pool, limit);
	spf_queue_trim(&scan->queue, limit);
	scan->effort.stop = SPF_STOP_TIME;
	scan->effort.budget = 0;
}

/* As many rows were looked at as may be: those in line are given, and that is all. */
static void
keep_rows_only(SpfScan *scan)
{
	int			kept = 0;

	for (int i = 0; i < scan->queue.nitems; i++)
	{
		if (scan->queue.items[i].kind == SPF_ITEM_ROW)
			scan->queue.items[kept++] = scan->queue.items[i];
	}
	scan->queue.nitems = kept;
	scan->queue.nheap = 0;
	spf_pool_trim(&scan->pool, -INFINITY);
	end_sweep(scan);
	scan->effort.stop = SPF_STOP_ROWS;
}

/* In a sweep so many records are remembered at most that may have been done with. */
#define MOST_DONE		4096

/* Forget the records and rows that are not in line any more. */
static void
forget_done(SpfScan *scan)
{
	int			n = scan->queue.nitems;
	SpfFound   *found = palloc((n + 1) * sizeof(SpfFound));
	SpfRow	   *rows = palloc((n + 1) * sizeof(SpfRow));
	ItemPointerData *tids = scan->tids;
	int			nfound = 0;
	uint32		nrows = 0;

	scan->ntids = 0;
	scan->tids_space = 128;
	scan->tids = palloc(scan->tids_space * sizeof(ItemPointerData));
	for (int i = 0; i < n; i++)
	{
		SpfItem    *item = &scan->queue.items[i];

		if (item->kind == SPF_ITEM_ROW)
		{
			rows[nrows] = scan->rows[item->number];
			item->number = nrows++;
			continue;
		}
		found[nfound] = scan->found[item->number];
		ENSURE(scan->tids, scan->ntids, scan->tids_space, (uint32) found[nfound].ntids);
		memcpy(&scan->tids[scan->ntids], &tids[found[nfound].first_tid],
			   found[nfound].ntids * sizeof(ItemPointerData));
		found[nfound].first_tid = scan->ntids;
		scan->ntids += found[nfound].ntids;
		item->number = nfound++;
	}
	pfree(tids);
	pfree(scan->found);
	pfree(scan->rows);
	scan->found = found;
	scan->rows = rows;
	scan->nfound = nfound;
	scan->nrows = nrows;
	scan->rows_announced = nrows;
	scan->found_space = scan->rows_space = n + 1;
}

/*
 * Has the round given all that it was made for, `first` being the first record or row in line, and `bound`
 * the least of all bounds?  TIDS pages of a row that was given are its own.
 */
static bool
round_is_over(const SpfScan *scan, const SpfItem *first, double bound)
{
	if (isinf(bound) && bound > 0 && first == NULL)
		return true;
	if (bound > scan->radius)
		return true;
	return scan->taken >= scan->k &&
		(first == NULL || first->bound > bound || first->kind != SPF_ITEM_MORE);
}

/*
 * The next row by distance, of all those met so far.  NULL when there are no more, or none that
 * is wanted.
 */
static const SpfRow *
take_row(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;

	for (;;)
	{
		const SpfItem *first;
		SpfItem		item;
		double		bound;
		float		entry;

		CHECK_FOR_INTERRUPTS();
		if (scan->effort.budget > 0 && spf_effort_out_of_time(&scan->effort))
			cut_queue(scan);
		if (spf_setting_max_scan_tuples > 0 && scan->effort.stop != SPF_STOP_ROWS &&
			scan->work.rows >= (uint64) spf_setting_max_scan_tuples)
			keep_rows_only(scan);
		if (scan->sweep != NULL && scan->nfound > scan->queue.nitems + MOST_DONE)
			forget_done(scan);
		if (scan->sweep != NULL)
			spf_sweep_refill(scan->sweep, &scan->pool, &scan->queue);
		first = spf_queue_first(&scan->queue);
		bound = first ? first->bound : INFINITY;
		entry = spf_pool_first(&scan->pool);
		if (round_is_over(scan, first, Min(bound, entry)))
		{
			if (next_round(scan))
				continue;
			if ((first == NULL && isinf(entry)) || Min(bound, entry) > scan->radius)
				return NULL;
			scan->k = INFINITY; /* what is left in line is all there will be */
		}
		if (entry < bound)
		{
			read_records(scan, bound);
			continue;
		}
		item = spf_queue_pop(&scan->queue);
		if (item.kind == SPF_ITEM_RECORD)
			expand_record(desc, item.number);
		else if (item.kind == SPF_ITEM_MORE)
			expand_more(desc, item.number);
		else
		{
			scan->taken++;
			return &scan->rows[item.number];
		}
	}
}

static int
compare_rows(const void *a, const void *b)
{
	const SpfRow *x = a;
	const SpfRow *y = b;

	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return ItemPointerCompare(unconstify(ItemPointerData *, &x->tid),
							  unconstify(ItemPointerData *, &y->tid));
}

/*
 * Rows are held back until as many as the LIMIT wants have passed the filter: what a wrong bound or a
 * later round brings late is then given in its place.
 */
static void
collect_rows(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	const SpfRow *row;

	if (can_read_at_once(scan))
		read_rows_at_once(desc);
	while (scan->nready < scan->limit && (row = take_row(desc)) != NULL)
	{
		if (!row->passes)
		{
			spf_above_count_filtered(&scan->above);
			continue;
		}
		ENSURE(scan->ready, scan->nready, scan->ready_space, 1);
		scan->ready[scan->nready++] = *row;
	}
	qsort(scan->ready, scan->nready, sizeof(SpfRow), compare_rows);
	scan->held = false;
}

/* The next row to be given; NULL when there are no more. */
static const SpfRow *
next_row(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;
	const SpfRow *row;

	if (scan->held)
		collect_rows(desc);
	if (scan->next_ready < scan->nready)
		return &scan->ready[scan->next_ready++];

	while ((row = take_row(desc)) != NULL)
	{
		/* in strict order, what is found too late is left out */
		if (row->passes && (row->distance >= scan->last_distance ||
							spf_setting_iterative_scan == SPF_ITERATIVE_RELAXED))
			return row;
		if (!row->passes)
			spf_above_count_filtered(&scan->above);
	}
	return NULL;
}

bool
spf_get_tuple(IndexScanDesc desc, ScanDirection direction)
{
	SpfScan    *scan = desc->opaque;
	const SpfRow *row = NULL;
	MemoryContext old;

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
	if (!scan->finished)
		row = next_row(desc);
	scan->finished = row == NULL;
	MemoryContextSwitchTo(old);
	if (row != NULL)
	{
		scan->last_distance = Max(scan->last_distance, row->distance);
		scan->emitted++;
		desc->xs_heaptid = row->tid;

		/* the executor is going to fetch it, too */
		if (desc->xs_heapfetch != NULL)
			(void) spf_row_lend_page(desc->heapRelation, desc->xs_heapfetch,
									 ItemPointerGetBlockNumber(&row->tid));
		desc->xs_recheck = false;
		desc->xs_recheckorderby = false;
	}
	remember_scan(desc);
	return row != NULL;
}

void
spf_end_scan(IndexScanDesc desc)
{
	SpfScan    *scan = desc->opaque;

	spf_row_reader_end(scan->reader);
	end_sweep(scan);
	spf_above_forget(&scan->above);
	give_context(scan->context);
	pfree(scan);
	desc->opaque = NULL;
}
