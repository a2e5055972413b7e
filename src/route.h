/*-------------------------------------------------------------------------
 *
 * route.h
 *	  From the root down: postings in order of their centroids' distance.
 *
 * A stream over level L scans postings of level L and gives, nearest first,
 * the postings of level L - 1 that their entries lead to.  It gets its own
 * postings from the stream over level L + 1, on demand: one mechanism for all
 * levels, that never ends before everything was given.
 *
 * How far it looks ahead is its beam: to give n postings it has scanned at
 * least n / SPF_BEAM_SHARE, and SPF_MIN_BEAM, postings of its own level.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_ROUTE_H
#define SPF_ROUTE_H

#include "postgres.h"

#include "index.h"
#include "meta.h"
#include "queue.h"

#define SPF_MIN_BEAM	4
#define SPF_BEAM_SHARE	4

/* A posting, as known from its centroid's record. */
typedef struct SpfRoute
{
	SpfPageRef	posting;
	SpfRecordRef record;		/* block invalid for the root */
	float		score;			/* the query's, to the centroid */
	float	   *centroid;		/* [padded], only if asked for; NULL for the root's zero vector */
} SpfRoute;

/* What a search did, for EXPLAIN and the curious. */
typedef struct SpfWork
{
	uint64		probes[SPF_MAX_LEVELS];		/* postings scanned, per level */
	uint64		pages;			/* posting pages read */
	uint64		entries;		/* entries scanned */
	uint64		records;		/* records read */
	uint64		rows;			/* rows read */
	uint64		gone;			/* pointers that led nowhere any more */
	uint64		skipped;		/* postings of which not all pages were read */

	/* what it may do: 0 is no bound */
	uint64		max_pages;		/* posting pages altogether */
	uint64		page_limit;		/* pages of one posting of level 0 */
} SpfWork;

/* A probe: which posting to scan, what for, and where its entries go. */
typedef struct SpfProbe
{
	const SpfIndex *index;
	const SpfQuery *query;
	int			level;			/* of the posting; others are "gone" */
	float		caution;		/* of lower bounds: see spf_query_posting */
	SpfWork    *work;

	/* Called for each block that has lanes below the threshold. */
	void		(*found) (void *state, const uint8_t *block, uint32 mask,
						  const float *est, const float *lower);
	bool		(*enough) (void *state, const SpfRoute *next);	/* asked before each posting;
																 * NULL: never enough */
	void	   *state;
	float		threshold;		/* entries whose lower bound is not below are passed over */
} SpfProbe;

/*
 * Scan postings: their heads, the pages behind them, or those that took over from
 * them.  The next head's page is fetched while one is scanned.  Returns how many of them were
 * scanned: all, unless it was enough before.
 */
extern int	spf_probe_postings(SpfProbe *probe, const SpfRoute *routes, int nroutes);

typedef struct SpfStream SpfStream;

/* What a stream's postings are wanted for. */
typedef enum SpfPurpose
{
	SPF_TO_SEARCH,				/* centroids may be those that are remembered: see memo.h */
	SPF_TO_PLACE,				/* routes come with centroids, and none that was retired */
	SPF_TO_PROVE				/* what is on the pages, and nothing else */
} SpfPurpose;

/*
 * A stream of the postings of level - 1, level >= 1, of which about `expect` will be
 * asked for.  Memory is taken from the current context, and by later calls from
 * the same one.
 */
extern SpfStream *spf_stream_open(const SpfIndex *index, const SpfMeta *meta,
								  const SpfQuery *query, int level, int expect,
								  SpfPurpose purpose, SpfWork *work);

/* The next postings, up to `want`; returns how many, 0 when there are no more. */
extern int	spf_stream_next(SpfStream *stream, SpfRoute *routes, int want);

/* Routes are taken from a stream in portions of up to so many. */
#define SPF_PORTION		32

/* The root as a route. */
extern void spf_route_root(const SpfMeta *meta, const SpfQuery *query, SpfRoute *route);

/*
 * The nearest `want` postings of a level, with centroids: a stream of it at
 * its simplest.  Where the root is of that level, it is the only one.
 */
extern int	spf_route_nearest(const SpfIndex *index, const SpfMeta *meta, const SpfQuery *query,
							  int level, int want, SpfRoute *routes);

/*
 * Does the descent to `centroid`, of the posting `head` of a level, really lead there?  When not, all
 * centroids are read to be sure.
 */
extern bool spf_route_leads_to(const SpfIndex *index, int level, const float *centroid,
							   SpfPageRef head);

#endif							/* SPF_ROUTE_H */
