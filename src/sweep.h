/*-------------------------------------------------------------------------
 *
 * sweep.h
 *	  All records of an index in order of distance: how a search comes to an end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_SWEEP_H
#define SPF_SWEEP_H

#include "postgres.h"

#include "index.h"
#include "queue.h"
#include "route.h"

/* A search that wants a row in so many is better off with a sweep. */
#define SWEEP_SHARE		4

typedef struct SpfSweep SpfSweep;

/*
 * Read all records of level 0 that are not yet seen and whose bound is not beyond `radius`, and sort
 * them, in work_mem, by their bounds.
 */
extern SpfSweep *spf_sweep_begin(const SpfIndex *index, const SpfQuery *query, float radius,
								 struct spf_seen_hash *seen, SpfWork *work);

/* See to it that the first in line is not beyond what was not put into it yet. */
extern void spf_sweep_refill(SpfSweep *sweep, SpfPool *pool, SpfQueue *queue);
extern void spf_sweep_end(SpfSweep *sweep);

#endif							/* SPF_SWEEP_H */
