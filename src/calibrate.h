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

/* Has the index changed so much since that it should be done again? */
extern bool spf_calibration_due(const SpfMeta *meta);

/* What the calibration's columns and rows stand for. */
extern double spf_calibration_target(int i);
extern int	spf_calibration_k(int i);

#endif							/* SPF_CALIBRATE_H */
