/*-------------------------------------------------------------------------
 *
 * calibrate.h
 *	  How many postings to probe: measured on the index's own vectors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_CALIBRATE_H
#define SPF_CALIBRATE_H

#include "postgres.h"

#include "index.h"
#include "meta.h"

/* Measure and store.  Does nothing for an index of a single level. */
extern void spf_calibrate(SpfIndex *index);

/*
 * The same by several processes, each of which calls spf_calibrate_help() when the team runs: it
 * claims samples until there are no more.
 */
typedef struct SpfCalibrateTeam
{
	void	   *(*room) (void *team, Size size);	/* shared by all, zeroed; the one before goes */
	void		(*run) (void *team, int samples);
	bool		(*claim) (void *team, int64 samples, int64 *sample);
	void	   *team;
} SpfCalibrateTeam;

extern void spf_calibrate_together(SpfIndex *index, const SpfCalibrateTeam *team);
extern void spf_calibrate_help(SpfIndex *index, void *room, const SpfCalibrateTeam *team);

/*
 * Has the index changed so much since that it should be done again?  If an eighth of its entries came or
 * went, or its postings are a quarter more or fewer.
 */
extern bool spf_calibration_due(const SpfMeta *meta);

/* Do so if it should; for whatever maintains the index.  Returns whether it did. */
extern bool spf_calibrate_if_due(SpfIndex *index);

/* What the calibration's columns and rows stand for. */
extern double spf_calibration_target(int i);
extern int	spf_calibration_k(int i);

#endif							/* SPF_CALIBRATE_H */
