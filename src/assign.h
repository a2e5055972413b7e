/*-------------------------------------------------------------------------
 *
 * assign.h
 *	  Which postings each of many vectors goes to, batch by batch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_ASSIGN_H
#define SPF_ASSIGN_H

#include "postgres.h"

#include "index.h"
#include "kmeans.h"

/* Receives an item with its postings, nearest first. */
typedef void (*SpfAssigned) (void *state, void *item, const int32 *postings, int npostings);

typedef struct SpfAssigner SpfAssigner;

/*
 * Items of one size with one vector each are assigned to `replicas` of the centroids (0: to the
 * nearest, as far as rounded centroids tell it), or, where these are NULL, all to posting 0.  `assigned` gets them in the order they came.
 */
extern SpfAssigner *spf_assigner_begin(const SpfIndex *index, const SpfCentroids *centroids,
									   int replicas, Size item_size, SpfAssigned assigned,
									   void *state);

/* Where to put the next item. */
extern void *spf_assigner_slot(SpfAssigner *assigner);

/* It was put there; its vector is this code, which lies within it. */
extern void spf_assigner_put(SpfAssigner *assigner, const int8_t *code, float scale);
extern void spf_assigner_end(SpfAssigner *assigner);

#endif							/* SPF_ASSIGN_H */
