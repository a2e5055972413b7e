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

/* Why an entry is appended. */
typedef enum SpfAppendFor
{
	SPF_FOR_INSERTION,			/* a posting that is due is split */
	SPF_FOR_MOVE,				/* likewise, but what the index holds does not change */
	SPF_FOR_REGROUPING			/* nor is anything split */
} SpfAppendFor;

/* Append one entry to the posting of a route.  False if that is gone. */
extern bool spf_append_entry(SpfIndex *index, int level, const float *x, SpfRecordRef ref,
							 const SpfRoute *route, SpfAppendFor why);

/* spf_place() for a centroid's record, of a posting one level below. */
extern void spf_place_centroid(SpfIndex *index, int level, const SpfVector *vector,
							   SpfRecordRef ref);

/* Append one entry to the nearest posting other than `taken`, which is returned. */
extern SpfPageRef spf_place_besides(SpfIndex *index, int level, const float *x, SpfRecordRef ref,
									SpfPageRef taken);

/*
 * The entries of a centroid's record, whose posting was retired, are superseded, as far as they are found where they
 * should be.  What is missed is stale by the record.
 */
extern void spf_unplace_centroid(SpfIndex *index, int level, const float *x, SpfRecordRef ref);

#endif							/* SPF_PLACE_H */
