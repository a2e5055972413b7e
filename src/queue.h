/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  A priority queue of candidates by bound, and a set of those seen.
 *
 * Entries that were merely seen come by the hundreds and wait in a pool; what was read is in a
 * queue, a binary heap in an array.  Pushing only appends: the heap is
 * put in order when something is popped.  (lib/pairingheap.h wants a node
 * allocated and a call to compare for each.)
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_QUEUE_H
#define SPF_QUEUE_H

#include "postgres.h"

#include <math.h>

#include "page.h"

/* What a candidate is by now. */
typedef enum SpfItemKind
{
	SPF_ITEM_RECORD,			/* its record was read */
	SPF_ITEM_ROW,				/* a row was read */
	SPF_ITEM_MORE				/* further rows of a record */
} SpfItemKind;

typedef struct SpfItem
{
	double		bound;			/* pops smallest first */
	uint32		number;			/* of record or row, with the owner of the queue */
	uint32		kind;
} SpfItem;

typedef struct SpfQueue
{
	SpfItem    *items;
	int			nitems;
	int			nheap;			/* of these, the first so many are in heap order */
	int			space;
} SpfQueue;

extern void spf_queue_init(SpfQueue *queue, int space);
extern void spf_queue_grow(SpfQueue *queue, int more);
extern void spf_queue_order(SpfQueue *queue);

/* Put the first items into the order that they are going to be popped in: all, if they are few. */
extern void spf_queue_sort(SpfQueue *queue);

/* Remove the first item; there must be one. */
extern SpfItem spf_queue_pop(SpfQueue *queue);

static inline void
spf_queue_push(SpfQueue *queue, double bound, SpfItemKind kind, uint32 number)
{
	SpfItem    *item;

	if (queue->nitems == queue->space)
		spf_queue_grow(queue, 1);
	item = &queue->items[queue->nitems++];
	item->bound = bound;
	item->kind = kind;
	item->number = number;
}

/* The first item, or NULL. */
static inline const SpfItem *
spf_queue_first(SpfQueue *queue)
{
	if (queue->nheap < queue->nitems)
		spf_queue_order(queue);
	return queue->nitems == 0 ? NULL : &queue->items[0];
}

/*
 * Take out all items of a kind with bounds up to a limit, in no order: their numbers go to numbers[], which has room
 * for all that there are.  Returns how many.
 */
extern int	spf_queue_take(SpfQueue *queue, SpfItemKind kind, double limit, uint32 *numbers);

/* Forget what is not below a bound. */
extern void spf_queue_trim(SpfQueue *queue, double bound);

/* ---- entries, in order as far as anyone asks ---- */

/*
 * Scans give hundreds of entries, of which dozens are wanted, nearest first.  So
 * they are only collected, and when the first is asked for, a run of the nearest is
 * picked out and sorted; the next run when that is used up.
 */
typedef struct SpfPool
{
	float	   *keys;			/* INFINITY once taken */
	SpfRecordRef *refs;
	int			n;
	int			space;
	int			left;			/* not taken */
	float		least;			/* none of these has a smaller key, those of the run aside */
	int		   *run;			/* numbers, by key */
	int			run_next;
	int			run_end;
	int			run_seen;		/* looked at ahead */
	int			run_space;
	int			run_length;
} SpfPool;

/* Room for `space` at first; runs are of about `run_length`. */
extern void spf_pool_init(SpfPool *pool, int space, int run_length);
extern void spf_pool_grow(SpfPool *pool, int more);
extern void spf_pool_pick(SpfPool *pool);

/* Forget entries whose keys are not below a limit. */
extern void spf_pool_trim(SpfPool *pool, float limit);

static inline Size
spf_pool_memory(const SpfPool *pool)
{
	return pool->space * (sizeof(float) + sizeof(SpfRecordRef)) + pool->run_space * sizeof(int);
}

/* Room for n more entries; returns the number of the first. */
static inline int
spf_pool_room(SpfPool *pool, int n)
{
	if (pool->n + n > pool->space)
		spf_pool_grow(pool, n);
	return pool->n;
}

/* The first n of the room were filled, with keys less than infinite, `least` being the least. */
static inline void
spf_pool_filled(SpfPool *pool, int n, float least)
{
	pool->n += n;
	pool->left += n;
	pool->least = Min(pool->least, least);
}

/* The least key of all; INFINITY when there is none. */
static inline float
spf_pool_first(SpfPool *pool)
{
	if (pool->run_next == pool->run_end || pool->keys[pool->run[pool->run_next]] > pool->least)
	{
		if (pool->left == 0)
			return INFINITY;
		spf_pool_pick(pool);
	}
	return pool->keys[pool->run[pool->run_next]];
}

/* The next of those that will be taken soon, each once, up to `ahead` of them; NULL if none is. */
static inline const SpfRecordRef *
spf_pool_look_ahead(SpfPool *pool, int ahead)
{
	pool->run_seen = Max(pool->run_seen, pool->run_next);
	if (pool->run_seen >= Min(pool->run_next + ahead, pool->run_end))
		return NULL;
	return &pool->refs[pool->run[pool->run_seen++]];
}

/* Take that one. */
static inline SpfRecordRef
spf_pool_take(SpfPool *pool)
{
	int			i = pool->run[pool->run_next++];

	pool->keys[i] = INFINITY;
	pool->left--;
	return pool->refs[i];
}

/* ---- the best upper bounds ---- */

/* Where more are wanted than this, no count is kept and nothing passed over. */
#define SPF_MAX_BEST	1000000

/* One of them, and the number of the posting that it came from. */
typedef struct SpfUpper
{
	float		bound;
	int			rank;
} SpfUpper;

/*
 * The smallest `want` bounds seen so far.  Of upper ones: what has a lower bound beyond
 * the largest of them cannot be among the best `want`.
 */
typedef struct SpfBest
{
	SpfUpper   *uppers;			/* a max-heap */
	int			n;
	int			space;			/* 0: none are kept, only counted */
	int			rank;			/* set by the caller: of the posting at hand, from 0 on */
	double		ranks;			/* the sum of all */
} SpfBest;

/* So many more than wanted are kept; a few, where bounds are probable, not certain. */
#define SPF_SPARE_BEST	8
extern void spf_best_init(SpfBest *best, double want, int spare);
extern void spf_best_free(SpfBest *best);

/* Note an upper bound; returns what lower bounds must stay below from now on. */
extern float spf_best_add(SpfBest *best, float upper);

/* How far down the order of postings the best were found, on average. */
static inline double
spf_best_mean_rank(const SpfBest *best)
{
	return best->n > 0 ? best->ranks / best->n : 0;
}

/* ---- the set (PostgreSQL's simplehash, kept within queue.c) ---- */

struct spf_seen_hash;

/*
 * Note a record as seen; false if it was already.  Versions count: a stale entry
 * must not hide what lives in its record's place by now.
 */
extern bool spf_seen_add(struct spf_seen_hash *seen, SpfRecordRef ref);
extern bool spf_seen_has(struct spf_seen_hash *seen, SpfRecordRef ref);
extern struct spf_seen_hash *spf_seen_make(MemoryContext context, uint32 size);
extern Size spf_seen_memory(struct spf_seen_hash *seen);

/*
 * Take the entries with keys below `limit`, up to `want`, and give those of records not yet seen; in
 * the order of their pages.
 */
extern int	spf_pool_take_new(SpfPool *pool, struct spf_seen_hash *seen, double limit,
							  SpfRecordRef *refs, int want);

#endif							/* SPF_QUEUE_H */
