/*-------------------------------------------------------------------------
 *
 * effort.h
 *	  How much to search: when probing has been enough.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_EFFORT_H
#define SPF_EFFORT_H

#include "postgres.h"

#include "portability/instr_time.h"

#include "code.h"
#include "meta.h"
#include "route.h"

/* Why a search probed no more postings. */
typedef enum SpfStop
{
	SPF_STOP_NONE,				/* it did not come to an end */
	SPF_STOP_ALL,				/* there are no more */
	SPF_STOP_NPROBE,			/* spfresh.nprobe, or the most that the calibration allows */
	SPF_STOP_RECALL,			/* what is left is not needed for spfresh.target_recall */
	SPF_STOP_PAGES,				/* spfresh.max_probe_pages */
	SPF_STOP_TIME,				/* spfresh.latency_budget_ms */
	SPF_STOP_ROWS,				/* spfresh.max_scan_tuples */
	SPF_STOP_SWEEP				/* all records were read */
} SpfStop;

extern const char *spf_stop_name(SpfStop stop);

/* How far a search has come. */
typedef struct SpfProgress
{
	int			probed;			/* postings */
	float		nearest;		/* score of the first posting's centroid */
	float		next;			/* and of the one that would be the next */
	float		best;			/* the k-th best score so far; INFINITY: not so many yet */
	double		mean_rank;		/* of the postings that the best so far came from, from 0 on */
} SpfProgress;

/*
 * The effort of a round of a search.  With r postings probed, d the k-th best score so far, s the
 * score of the next posting's centroid, s0 that of the nearest, and m the mean rank of
 * the postings that the best so far came from, the next one is worth probing while
 *
 *		r * (s / d)^6 * (s / s0)^2 / (1 + m)^(3/4)
 *
 * stays below `margin`: many postings, and far ones, say that it was enough.  A query goes on longer
 * whose neighbours are hard to find: because all centroids are about as far, or because those
 * found so far came late.
 */
typedef struct SpfEffort
{
	int			nprobe;			/* at most so many postings */
	double		margin;			/* INFINITY where only nprobe counts */
	float		radius;			/* scores beyond are not wanted; INFINITY */
	double		budget;			/* milliseconds; 0 is none */
	instr_time	started;
	SpfStop		stop;			/* set when it is enough */
} SpfEffort;

/*
 * For k rows (INFINITY: as many as there are), by the settings and the calibration; `round` counts
 * from 1 on.  The clock is left alone.
 */
extern void spf_effort_init(SpfEffort *effort, const SpfMeta *meta, double k, int round,
							float radius);

/* spfresh.latency_budget_ms counts from here on. */
extern void spf_effort_start_clock(SpfEffort *effort);
extern bool spf_effort_out_of_time(const SpfEffort *effort);

/* What margins are compared with; as long as there is no finite best, nothing is enough. */
extern double spf_effort_of(const SpfProgress *progress);

/* Are bounds reached that hold whatever was found: pages, time? */
extern bool spf_effort_exhausted(SpfEffort *effort, const SpfWork *work, int probed);

/* Is it enough? */
extern bool spf_effort_enough(SpfEffort *effort, const SpfWork *work,
							  const SpfProgress *progress);

/* How far a stream looks ahead from the start, when searches go by a margin. */
#define SPF_EXPECTED_PROBES		32

/*
 * Probes for a target and a k, from the calibration or, without one, a
 * cautious guess.
 */
extern int	spf_choose_nprobe(const SpfMeta *meta, double target, double k);

#endif							/* SPF_EFFORT_H */
