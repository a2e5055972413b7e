/*-------------------------------------------------------------------------
 *
 * points.h
 *	  Between records and entries: vectors as points, and points as entries of a posting.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_POINTS_H
#define SPF_POINTS_H

#include "postgres.h"

#include "index.h"
#include "posting.h"

/* The index of the nearest of n vectors (n x padded) to x; its squared distance to *dist2. */
extern int	spf_nearest_of(const float *x, const float *centroids, int n, int padded,
						   float *dist2);

/*
 * Decode the records of refs[] that are alive, page by page; refs[] is sorted, and keeps only
 * these.  Returns how many.
 */
extern int	spf_load_points(const SpfIndex *index, int level, SpfRecordRef *refs, int n,
							float *points);

/*
 * The members of a posting as entries, ordered by distance to the centroid (NULL: zero). points is
 * n x padded; `members` selects m of them.  Codes are palloc'd.
 */
extern SpfEntry *spf_form_entries(const SpfIndex *index, const float *points,
								  const SpfRecordRef *refs, const int *members, int m,
								  const float *centroid);

#endif							/* SPF_POINTS_H */
