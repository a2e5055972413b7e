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
 * Items of one size with one vector each are assigned to `replicas` of the centroids,
 * or, where these are NULL, all to posting 0.  `assigned` gets them in the order they came.
 */
extern SpfAssigner *spf_assigner_begin(const SpfIndex *index, const SpfCentroids *centroids,
									   Size item_size, SpfAssigned assigned, void *state);

/* Where to put the next item; *x[padded], aligned, is where to put its vector. */
extern void *spf_assigner_slot(SpfAssigner *assigner, float **x);

/* The slot was filled. */
extern void spf_assigner_put(SpfAssigner *assigner);
extern void spf_assigner_end(SpfAssigner *assigner);

#endif							/* SPF_ASSIGN_H */
