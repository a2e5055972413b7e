/*-------------------------------------------------------------------------
 *
 * region.h
 *	  A region: the postings of a level that are nearest to a point, and who is in them.
 *
 * A copy, made page by page: what splits meanwhile is gone when it is written to, what comes is not
 * known.  Whoever moves vectors between postings by it holds the index's rebalancing lock, so that
 * nobody else does.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_REGION_H
#define SPF_REGION_H

#include "postgres.h"

#include "index.h"
#include "page.h"
#include "place.h"
#include "record.h"
#include "route.h"

/* A vector's postings that are considered */
#define SPF_REGION_HAS		8
#define SPF_REGION_NEAR		(SPF_PLACE_CANDIDATES + SPF_REGION_HAS)

typedef struct SpfRegionPosting
{
	SpfRoute	route;			/* with its centroid */
	uint32		total;
	uint32		changes;
	int			n;				/* live entries */
} SpfRegionPosting;

/* A live entry: whose, and in which posting of the region. */
typedef struct SpfRegionEntry
{
	SpfRecordRef ref;			/* block invalid: an unused place */
	int			posting;
} SpfRegionEntry;

typedef struct SpfRegion
{
	SpfIndex   *index;
	int			level;
	int			n;
	SpfRegionPosting *postings; /* nearest first */

	/* all live entries, hashed by record; those of one record in the order of postings */
	SpfRegionEntry *entries;	/* [nplaces] */
	uint32		nplaces;		/* a power of two */
} SpfRegion;

/* A posting that may be worked on: its level, its centroid.  False when it is gone, or the root. */
typedef struct SpfPlace
{
	int			level;
	float	   *centroid;		/* [padded], palloc'd */
} SpfPlace;

extern bool spf_place_of(SpfIndex *index, SpfPageRef head, SpfPlace *place);

/*
 * The `want` postings nearest to x[padded], in the current context: which they are, and what
 * their heads say; and with their entries.
 */
extern void spf_region_find_heads(SpfRegion *region, SpfIndex *index, int level, const float *x,
								  int want);
extern void spf_region_load(SpfRegion *region, SpfIndex *index, int level, const float *x,
							int want);

/* Has posting p a live entry of this record? */
extern bool spf_region_holds(const SpfRegion *region, int p, SpfRecordRef ref);

/* The number of a posting within the region, -1 if it is not there. */
extern int	spf_region_find(const SpfRegion *region, SpfPageRef head);

/* A vector, as it is placed within a region. */
typedef struct SpfRegionVector
{
	const float *x;
	SpfRecordRef ref;
	int			nhas;			/* postings that hold it */
	int			has[SPF_REGION_HAS];
	int			nnear;			/* those it might be in: the nearest, nearest first, and those that hold it */
	int			near[SPF_REGION_NEAR];
	float		dist2[SPF_REGION_NEAR];
} SpfRegionVector;

/* The postings that have a live entry of this record: to has[SPF_REGION_HAS], returns how many. */
extern int	spf_region_holders(const SpfRegion *region, SpfRecordRef ref, int *has);

/* Find where the vector is, and where it might be; posting `except` (-1: none) does not count. */
extern void spf_region_look(const SpfRegion *region, int except, SpfRegionVector *vector);

/*
 * Where it should be, by the rule of placing (SPF_PLACE_CANDIDATES nearest, SOAR): numbers to
 * chosen[], the best first; returns how many, at most `want`.
 */
extern int	spf_region_choose(const SpfRegion *region, const SpfRegionVector *vector, int want,
							  int *chosen);

#endif							/* SPF_REGION_H */
