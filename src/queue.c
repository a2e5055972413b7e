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

#include "queue.h"

void
spf_queue_init(SpfQueue *queue, int space)
{
	queue->items = palloc(space * sizeof(SpfItem));
	queue->nitems = 0;
	queue->nheap = 0;
	queue->space = space;
	queue->far = NULL;
	queue->nfar = 0;
	queue->far_space = 0;
	queue->far_bound = INFINITY;
	queue->memory = space * sizeof(SpfItem);
}

void
spf_queue_grow(SpfQueue *queue, int more)
{
	while (queue->nitems + more > queue->space)
		queue->space *= 2;
	queue->items = repalloc_huge(queue->items, queue->space * sizeof(SpfItem));
	queue->memory = (queue->space + queue->far_space) * sizeof(SpfItem);
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

void
spf_queue_push_far(SpfQueue *queue, double bound, SpfItemKind kind, SpfRecordRef ref)
{
	SpfItem    *item;

	if (queue->nfar == queue->far_space)
	{
		queue->far_space = Max(1024, queue->far_space * 2);
		queue->far = queue->far ?
			repalloc_huge(queue->far, queue->far_space * sizeof(SpfItem)) :
			palloc(queue->far_space * sizeof(SpfItem));
		queue->memory = (queue->space + queue->far_space) * sizeof(SpfItem);
	}
	item = &queue->far[queue->nfar++];
	item->bound = bound;
	item->ref = spf_item_tag(ref, kind);
	queue->far_bound = Min(queue->far_bound, bound);
}

void
spf_queue_absorb(SpfQueue *queue)
{
	if (queue->nitems + queue->nfar > queue->space)
		spf_queue_grow(queue, queue->nfar);
	memcpy(queue->items + queue->nitems, queue->far, queue->nfar * sizeof(SpfItem));
	queue->nitems += queue->nfar;
	queue->nfar = 0;
	queue->far_bound = INFINITY;
}

void
spf_queue_trim(SpfQueue *queue, double bound)
{
	int			kept = 0;

	for (int i = 0; i < queue->nitems; i++)
	{
		if (queue->items[i].bound < bound || spf_item_kind(&queue->items[i]) != SPF_ITEM_ENTRY)
			queue->items[kept++] = queue->items[i];
	}
	queue->nitems = kept;
	queue->nheap = 0;
}

int
spf_queue_pop_entries(SpfQueue *queue, struct spf_seen_hash *seen, SpfRecordRef *refs, int want)
{
	const SpfItem *first;
	int			n = 0;

	while (n < want && (first = spf_queue_first(queue)) != NULL &&
		   spf_item_kind(first) == SPF_ITEM_ENTRY)
	{
		SpfItem		item = spf_queue_pop(queue);

		refs[n] = spf_item_ref(&item);
		if (spf_seen_add(seen, refs[n]))
			n++;
	}
	qsort(refs, n, sizeof(SpfRecordRef), spf_record_ref_cmp);
	return n;
}

/* ---- the best upper bounds ---- */

void
spf_best_init(SpfBest *best, double want)
{
	best->n = 0;
	best->space = want > SPF_MAX_BEST ? 0 : (int) want + 8;
	best->uppers = palloc(Max(best->space, 1) * sizeof(float));
}

void
spf_best_free(SpfBest *best)
{
	pfree(best->uppers);
}

float
spf_best_add(SpfBest *best, float upper)
{
	float	   *heap = best->uppers;
	int			i;

	if (best->space == 0)
		return INFINITY;
	if (best->n < best->space)
	{
		for (i = best->n++; i > 0 && heap[(i - 1) / 2] < upper; i = (i - 1) / 2)
			heap[i] = heap[(i - 1) / 2];
		heap[i] = upper;
	}
	else if (upper < heap[0])
	{
		int			child;

		for (i = 0; (child = 2 * i + 1) < best->n; i = child)
		{
			if (child + 1 < best->n && heap[child + 1] > heap[child])
				child++;
			if (heap[child] <= upper)
				break;
			heap[i] = heap[child];
		}
		heap[i] = upper;
	}
	return best->n < best->space ? INFINITY : heap[0];
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

Size
spf_seen_memory(struct spf_seen_hash *seen)
{
	return seen->size * sizeof(SpfSeenEntry);
}
