/*-------------------------------------------------------------------------
 *
 * place.h
 *	  Putting a vector's entries into the postings it belongs to, at any level.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_PLACE_H
#define SPF_PLACE_H

#include "postgres.h"

#include "index.h"
#include "meta.h"
#include "record.h"
#include "route.h"

/* Postings that are candidates for a vector's replicas */
#define SPF_PLACE_CANDIDATES	16

/*
 * Append entries for the record `ref`, whose decoded vector is x[padded], to the postings
 * of `level` that it belongs to: the nearest, and further replicas by SOAR.  `routes` are the
 * nearest such postings.  Postings that become too large are split.
 */
extern void spf_place(SpfIndex *index, int level, const float *x, SpfRecordRef ref,
					  const SpfRoute *routes, int nroutes);

/* Likewise for a centroid's record, of a posting one level below. */
extern void spf_place_centroid(SpfIndex *index, int level, const SpfVector *vector,
							   SpfRecordRef ref);

#endif							/* SPF_PLACE_H */
