/*-------------------------------------------------------------------------
 *
 * cost.h
 *	  What the planner is told.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_COST_H
#define SPF_COST_H

#include "postgres.h"

#include "access/amapi.h"
#include "nodes/pathnodes.h"

/* amcostestimate */
extern void spf_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count,
							  Cost *startup, Cost *total, Selectivity *selectivity,
							  double *correlation, double *pages);

#endif							/* SPF_COST_H */
