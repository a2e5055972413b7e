/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  A priority queue of candidates by bound, and a set of those seen.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "utils/memutils.h"

#include "order.h"
#include "queue.h"

void
spf_queue_init(SpfQueue *queue, int space)
{
	queue->items = palloc(space * sizeof(SpfItem));
	queue->nitems = 0;
	queue->nheap = 0;
	queue->space = space;
}

void
spf_queue_grow(SpfQueue *queue, int more)
{
	while (queue->nitems + more > queue->space)
		queue->space *= 2;
	queue->items = repalloc_huge(queue->items, queue->space * sizeof(SpfItem));
}

static void
sift_down(SpfItem *items, int n, int i)
{
	SpfItem		item = items[i];

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && items[child + 1].bound < items[child].bound)
			child++;
		if (!(items[child].bound < item.bound))
			break;
		items[i] = items[child];
		i = child;
	}
	items[i] = item;
}

static void
sift_up(SpfItem *items, int i)
{
	SpfItem		item = items[i];

	while (i > 0 && item.bound < items[(i - 1) / 2].bound)
	{
		items[i] = items[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	items[i] = item;
}

/* Take in what was pushed: all at once where that is much. */
void
spf_queue_order(SpfQueue *queue)
{
	if (queue->nitems - queue->nheap > queue->nheap / 2)
	{
		for (int i = queue->nitems / 2 - 1; i >= 0; i--)
			sift_down(queue->items, queue->nitems, i);
	}
	else
	{
		for (int i = queue->nheap; i < queue->nitems; i++)
			sift_up(queue->items, i);
	}
	queue->nheap = queue->nitems;
}

void
spf_queue_trim(SpfQueue *queue, double bound)
{
	int			kept = 0;

	for (int i = 0; i < queue->nitems; i++)
	{
		if (queue->items[i].bound < bound)
			queue->items[kept++] = queue->items[i];
	}
	queue->nitems = kept;
	queue->nheap = 0;
}

int
spf_queue_take(SpfQueue *queue, SpfItemKind kind, double limit, uint32 *numbers)
{
	int			taken = 0;
	int			kept = 0;

	for (int i = 0; i < queue->nitems; i++)
	{
		const SpfItem *item = &queue->items[i];

		if (item->kind == kind && item->bound <= limit)
			numbers[taken++] = item->number;
		else
			queue->items[kept++] = *item;
	}
	queue->nitems = kept;
	queue->nheap = 0;
	return taken;
}

/* More than so many are left in a heap's order, of which the first are among the first as well. */
#define SORTED			128

void
spf_queue_sort(SpfQueue *queue)
{
	SpfItem    *items = queue->items;

	spf_queue_order(queue);
	if (queue->nitems > SORTED)
		return;
	for (int i = 1; i < queue->nitems; i++)
	{
		SpfItem		item = items[i];
		int			j = i;

		for (; j > 0 && items[j - 1].bound > item.bound; j--)
			items[j] = items[j - 1];
		items[j] = item;
	}
}

SpfItem
spf_queue_pop(SpfQueue *queue)
{
	SpfItem		first;

	if (queue->nheap < queue->nitems)
		spf_queue_order(queue);
	Assert(queue->nitems > 0);
	first = queue->items[0];
	queue->nitems--;
	queue->nheap = queue->nitems;
	if (queue->nitems > 0)
	{
		queue->items[0] = queue->items[queue->nitems];
		sift_down(queue->items, queue->nitems, 0);
	}
	return first;
}

/* ---- entries, in order as far as anyone asks ---- */

/*
 * A run is as long as was asked for, or this share of what is left; the limit of its keys is
 * drawn from so many samples.
 */
#define RUN_SHARE		128
#define SAMPLES			32

void
spf_pool_init(SpfPool *pool, int space, int run_length)
{
	memset(pool, 0, sizeof(*pool));
	pool->space = space;
	pool->keys = palloc_extended(space * sizeof(float), MCXT_ALLOC_HUGE);
	pool->refs = palloc_extended(space * sizeof(SpfRecordRef), MCXT_ALLOC_HUGE);
	pool->run_length = Min(run_length, SPF_MAX_SORTED / 4);
	pool->run_space = space;
	pool->run = palloc(pool->run_space * sizeof(int));
	pool->least = INFINITY;
}

void
spf_pool_grow(SpfPool *pool, int more)
{
	while (pool->n + more > pool->space)
		pool->space *= 2;
	pool->keys = repalloc_huge(pool->keys, pool->space * sizeof(float));
	pool->refs = repalloc_huge(pool->refs, pool->space * sizeof(SpfRecordRef));
}

static int
compare_keys(const void *a, const void *b, void *keys)
{
	float		x = ((const float *) keys)[*(const int *) a];
	float		y = ((const float *) keys)[*(const int *) b];

	return x < y ? -1 : x > y;
}

/* A key that a run's length of those not taken are below, by a sample; INFINITY if all may be. */
static float
draw_limit(const SpfPool *pool)
{
	float		sample[SAMPLES];
	int			run = Max(pool->run_length, pool->left / RUN_SHARE);
	int			n = 0;
	int			rank;

	if (pool->left <= 2 * run)
		return INFINITY;
	for (int s = 0; s < SAMPLES; s++)
	{
		sample[n] = pool->keys[(int) ((int64) pool->n * s / SAMPLES)];
		n += !isinf(sample[n]);
	}
	rank = (int) ((int64) run * n / pool->left) + 1;
	return rank < n ? spf_keys_ranked(sample, n, rank) : INFINITY;
}

/* Close the gaps that those taken have left. */
static void
close_gaps(SpfPool *pool)
{
	int			kept = 0;

	for (int i = 0; i < pool->n; i++)
	{
		if (isinf(pool->keys[i]))
			continue;
		pool->keys[kept] = pool->keys[i];
		pool->refs[kept++] = pool->refs[i];
	}
	pool->n = kept;
}

void
spf_pool_pick(SpfPool *pool)
{
	float		limit;
	int			found;

	if (pool->left < pool->n / 2)
		close_gaps(pool);
	if (pool->run_space < pool->n)
	{
		pool->run_space = pool->space;
		pfree(pool->run);
		pool->run = palloc_extended(pool->run_space * sizeof(int), MCXT_ALLOC_HUGE);
	}
	limit = draw_limit(pool);
	found = spf_keys_below(pool->keys, pool->n, limit, pool->run);

	/* the sample may have been of the least, or all keys are equal */
	if (found == 0)
		found = spf_keys_below(pool->keys, pool->n, limit = INFINITY, pool->run);
	pool->least = limit;
	if (found <= SPF_MAX_SORTED)
		spf_keys_sort(pool->keys, pool->run, found);
	else
		qsort_arg(pool->run, found, sizeof(int), compare_keys, pool->keys);
	pool->run_next = 0;
	pool->run_seen = 0;
	pool->run_end = found;
}

void
spf_pool_trim(SpfPool *pool, float limit)
{
	int			kept = 0;

	for (int i = 0; i < pool->n; i++)
	{
		pool->keys[kept] = pool->keys[i];
		pool->refs[kept] = pool->refs[i];
		kept += pool->keys[i] < limit;
	}
	pool->n = pool->left = kept;
	pool->run_next = pool->run_end = 0;
	pool->least = kept > 0 ? -INFINITY : INFINITY;
}

/* ---- the best upper bounds ---- */

void
spf_best_init(SpfBest *best, double want, int spare)
{
	best->n = 0;
	best->space = want > SPF_MAX_BEST ? 0 : (int) want + spare;
	best->uppers = palloc(Max(best->space, 1) * sizeof(SpfUpper));
	best->rank = 0;
	best->ranks = 0;
}

void
spf_best_free(SpfBest *best)
{
	pfree(best->uppers);
}

float
spf_best_add(SpfBest *best, float upper)
{
	SpfUpper   *heap = best->uppers;
	SpfUpper	added = {upper, best->rank};
	int			i;

	if (best->space == 0)
	{
		best->n++;
		best->ranks += added.rank;
		return INFINITY;
	}
	if (best->n < best->space)
	{
		for (i = best->n++; i > 0 && heap[(i - 1) / 2].bound < upper; i = (i - 1) / 2)
			heap[i] = heap[(i - 1) / 2];
		heap[i] = added;
		best->ranks += added.rank;
	}
	else if (upper < heap[0].bound)
	{
		int			child;

		best->ranks += added.rank - heap[0].rank;
		for (i = 0; (child = 2 * i + 1) < best->n; i = child)
		{
			if (child + 1 < best->n && heap[child + 1].bound > heap[child].bound)
				child++;
			if (heap[child].bound <= upper)
				break;
			heap[i] = heap[child];
		}
		heap[i] = added;
	}
	return best->n < best->space ? INFINITY : heap[0].bound;
}

/* ---- the set ---- */

typedef struct SpfSeenEntry
{
	uint64		key;
	char		status;
} SpfSeenEntry;

#define SH_PREFIX		spf_seen
#define SH_ELEMENT_TYPE	SpfSeenEntry
#define SH_KEY_TYPE		uint64
#define SH_KEY			key
#define SH_HASH_KEY(tb, key)	((uint32) (((key) * UINT64CONST(0x9E3779B97F4A7C15)) >> 32))
#define SH_EQUAL(tb, a, b)		((a) == (b))
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct spf_seen_hash *
spf_seen_make(MemoryContext context, uint32 size)
{
	return spf_seen_create(context, size, NULL);
}

bool
spf_seen_add(struct spf_seen_hash *seen, SpfRecordRef ref)
{
	uint64		key = ((uint64) ref.block << 32) | ((uint32) ref.offset << 16) | ref.version;
	bool		found;

	(void) spf_seen_insert(seen, key, &found);
	return !found;
}

bool
spf_seen_has(struct spf_seen_hash *seen, SpfRecordRef ref)
{
	uint64		key = ((uint64) ref.block << 32) | ((uint32) ref.offset << 16) | ref.version;

	return spf_seen_lookup(seen, key) != NULL;
}

Size
spf_seen_memory(struct spf_seen_hash *seen)
{
	return seen->size * sizeof(SpfSeenEntry);
}

int
spf_pool_take_new(SpfPool *pool, struct spf_seen_hash *seen, double limit, SpfRecordRef *refs,
				  int want)
{
	int			n = 0;

	while (n < want && spf_pool_first(pool) < limit)
	{
		refs[n] = spf_pool_take(pool);
		if (spf_seen_add(seen, refs[n]))
			n++;
	}
	qsort(refs, n, sizeof(SpfRecordRef), spf_record_ref_cmp);
	return n;
}
