/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  A priority queue of candidates by bound, and a set of those seen.
 *
 * The queue is a binary heap in an array.  Pushing only appends: the heap is
 * put in order when something is popped, because scans push thousands and pop
 * dozens.  (lib/pairingheap.h wants a node allocated and a call to
 * compare for each.)
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_QUEUE_H
#define SPF_QUEUE_H

#include "postgres.h"

#include "page.h"

/* What a candidate is by now. */
typedef enum SpfItemKind
{
	SPF_ITEM_ENTRY,				/* seen in a posting: payload is the record's reference */
	SPF_ITEM_RECORD,			/* record read: payload.block is its number with the owner */
	SPF_ITEM_ROW,				/* row read: likewise */
	SPF_ITEM_MORE				/* further rows of a record: likewise */
} SpfItemKind;

typedef struct SpfItem
{
	double		bound;			/* pops smallest first */
	SpfRecordRef ref;			/* or, in ref.block, a number; see SpfItemKind */
} SpfItem;

/* The kind takes the upper bits of an offset, which no page is large enough to use. */
#define SPF_KIND_SHIFT		13
#define SPF_OFFSET_MASK		((1 << SPF_KIND_SHIFT) - 1)

StaticAssertDecl(BLCKSZ / 4 <= SPF_OFFSET_MASK, "offsets leave room for the kind");

typedef struct SpfQueue
{
	SpfItem    *items;
	int			nitems;
	int			nheap;			/* of these, the first so many are in heap order */
	int			space;
	SpfItem    *far;			/* items not nearer than all those above were when pushed */
	int			nfar;
	int			far_space;
	double		far_bound;		/* the least of their bounds */
	Size		memory;			/* bytes allocated */
} SpfQueue;

/* A reference with its kind; one from a damaged page may have any offset. */
static inline SpfRecordRef
spf_item_tag(SpfRecordRef ref, SpfItemKind kind)
{
	ref.offset = (ref.offset & SPF_OFFSET_MASK) | kind << SPF_KIND_SHIFT;
	return ref;
}

static inline SpfItemKind
spf_item_kind(const SpfItem *item)
{
	return (SpfItemKind) (item->ref.offset >> SPF_KIND_SHIFT);
}

static inline SpfRecordRef
spf_item_ref(const SpfItem *item)
{
	SpfRecordRef ref = item->ref;

	ref.offset &= SPF_OFFSET_MASK;
	return ref;
}

extern void spf_queue_init(SpfQueue *queue, int space);
extern void spf_queue_grow(SpfQueue *queue, int more);
extern void spf_queue_order(SpfQueue *queue);

/* Remove the first item; there must be one. */
extern SpfItem spf_queue_pop(SpfQueue *queue);

static inline void
spf_queue_push(SpfQueue *queue, double bound, SpfItemKind kind, SpfRecordRef ref)
{
	SpfItem    *item;

	if (queue->nitems == queue->space)
		spf_queue_grow(queue, 1);
	item = &queue->items[queue->nitems++];
	item->bound = bound;
	item->ref = spf_item_tag(ref, kind);
}

static inline void
spf_queue_push_number(SpfQueue *queue, double bound, SpfItemKind kind, uint32 number)
{
	SpfRecordRef ref = {number, 0, 0};

	spf_queue_push(queue, bound, kind, ref);
}

/*
 * Push an item that is probably never popped: it is merely kept, until the
 * first one in line is beyond the nearest such item.
 */
extern void spf_queue_push_far(SpfQueue *queue, double bound, SpfItemKind kind, SpfRecordRef ref);

/* Take in the far items. */
extern void spf_queue_absorb(SpfQueue *queue);

/* Forget entries that are not below a bound. */
extern void spf_queue_trim(SpfQueue *queue, double bound);

/* The first item, or NULL. */
static inline const SpfItem *
spf_queue_first(SpfQueue *queue)
{
	if (queue->nheap < queue->nitems)
		spf_queue_order(queue);
	if (queue->nfar > 0 &&
		(queue->nitems == 0 || queue->items[0].bound > queue->far_bound))
	{
		spf_queue_absorb(queue);
		spf_queue_order(queue);
	}
	return queue->nitems == 0 ? NULL : &queue->items[0];
}

/* ---- the best upper bounds ---- */

/* Where more are wanted than this, no count is kept and nothing passed over. */
#define SPF_MAX_BEST	1000000

/*
 * The smallest `want` upper bounds seen so far: what has a lower bound beyond
 * the largest of them cannot be among the best `want`.
 */
typedef struct SpfBest
{
	float	   *uppers;			/* a max-heap */
	int			n;
	int			space;
} SpfBest;

/* A few more than wanted are kept: upper bounds are probable, not certain. */
extern void spf_best_init(SpfBest *best, double want);
extern void spf_best_free(SpfBest *best);

/* Note an upper bound; returns what lower bounds must stay below from now on. */
extern float spf_best_add(SpfBest *best, float upper);

/* ---- the set (PostgreSQL's simplehash, kept within queue.c) ---- */

struct spf_seen_hash;

/*
 * Note a record as seen; false if it was already.  Versions count: a stale entry
 * must not hide what lives in its record's place by now.
 */
extern bool spf_seen_add(struct spf_seen_hash *seen, SpfRecordRef ref);
extern struct spf_seen_hash *spf_seen_make(MemoryContext context, uint32 size);
extern Size spf_seen_memory(struct spf_seen_hash *seen);

/*
 * Pop the entries that are first in line, up to `want`, and give those of
 * records not yet seen; in the order of their pages.
 */
extern int	spf_queue_pop_entries(SpfQueue *queue, struct spf_seen_hash *seen,
								  SpfRecordRef *refs, int want);

#endif							/* SPF_QUEUE_H */
