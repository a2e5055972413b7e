/*-------------------------------------------------------------------------
 *
 * sweep.c
 *	  All records of an index in order of distance: how a search comes to an end.
 *
 * A filter that lets few rows pass can make a search go on and on.  Each round of it
 * costs more than the one before, and it remembers what it has met.  At some point it is cheaper to
 * read all records once, page after page, and to sort them by their true lower bounds: what
 * comes then is complete, in order, and needs no more memory than the sort.
 *
 * Records never move, and those of rows that the scan's snapshot sees were there
 * before it began: none is missed.
 *
 * Locks: one record page at a time, share mode.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "record.h"
#include "spill.h"
#include "sweep.h"

/* Records that are put in line at a time. */
#define PORTION		64

struct SpfSweep
{
	SpfSort    *sort;
	bool		more;			/* `bound` and `ref` are the next one's */
	float		bound;
	SpfRecordRef ref;
};

/* A float as an integer of the same order, and back. */
static int32
order_of_float(float f)
{
	int32		bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits < 0 ? bits ^ PG_INT32_MAX : bits;
}

static float
float_of_order(int32 bits)
{
	float		f;

	if (bits < 0)
		bits ^= PG_INT32_MAX;
	memcpy(&f, &bits, sizeof(f));
	return f;
}

static void
advance(SpfSweep *sweep)
{
	int32		major;
	int32		minor;
	const void *data = spf_sort_next(sweep->sort, &major, &minor);

	sweep->more = data != NULL;
	if (!sweep->more)
		return;
	sweep->bound = float_of_order(major);
	memcpy(&sweep->ref, data, sizeof(SpfRecordRef));
}

/* Sort in what is on one page. */
static int
sweep_page(SpfSweep *sweep, const SpfIndex *index, const SpfQuery *query, Buffer buf,
		   float radius, struct spf_seen_hash *seen)
{
	SpfRecordRef ref = {.block = BufferGetBlockNumber(buf)};
	int			offsets = spf_record_offsets(buf);
	int			n = 0;

	for (ref.offset = 1; ref.offset <= offsets; ref.offset++)
	{
		SpfRecordView view;
		float		est;
		float		lower;

		ref.version = spf_record_version_at(index, buf, ref.offset);
		if (ref.version == 0 || spf_seen_has(seen, ref) ||
			!spf_record_view(index, buf, ref.offset, ref.version, 0, &view))
			continue;
		n++;
		spf_query_record(query, view.code, &view.numbers, &est, &lower);
		if (lower <= radius)
			spf_sort_put(sweep->sort, order_of_float(lower), (int32) ref.block, &ref);
	}
	return n;
}

SpfSweep *
spf_sweep_begin(const SpfIndex *index, const SpfQuery *query, float radius,
				struct spf_seen_hash *seen, SpfWork *work)
{
	SpfSweep   *sweep = palloc0(sizeof(SpfSweep));
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	BlockNumber nblocks = RelationGetNumberOfBlocks(index->rel);

	sweep->sort = spf_sort_begin(sizeof(SpfRecordRef), work_mem);
	for (BlockNumber block = SPF_META_BLOCK + 1; block < nblocks; block++)
	{
		Buffer		buf = spf_page_read_strategy(index->rel, block, BUFFER_LOCK_SHARE, strategy);

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf))
			continue;
		if (SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_RECORD)
			work->records += sweep_page(sweep, index, query, buf, radius, seen);
		UnlockReleaseBuffer(buf);
	}
	FreeAccessStrategy(strategy);
	spf_sort_perform(sweep->sort);
	advance(sweep);
	return sweep;
}

void
spf_sweep_refill(SpfSweep *sweep, SpfPool *pool, SpfQueue *queue)
{
	const SpfItem *first = spf_queue_first(queue);
	float		least = first != NULL ? first->bound : INFINITY;

	while (sweep->more && Min(least, spf_pool_first(pool)) >= sweep->bound)
	{
		int			room = spf_pool_room(pool, PORTION);
		float		bound = sweep->bound;
		int			n = 0;

		for (; n < PORTION && sweep->more; n++)
		{
			pool->keys[room + n] = sweep->bound;
			pool->refs[room + n] = sweep->ref;
			advance(sweep);
		}
		spf_pool_filled(pool, n, bound);
	}
}

void
spf_sweep_end(SpfSweep *sweep)
{
	spf_sort_end(sweep->sort);
	pfree(sweep);
}
