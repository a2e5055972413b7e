/*-------------------------------------------------------------------------
 *
 * grid.h
 *	  Rounding a vector to a grid, at the scale that loses least.
 *
 * Both codes (code.h) are made so; they differ in the grid.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_GRID_H
#define SPF_GRID_H

#include "kernels/kernels.h"

/*
 * Set grid->t to that one of `steps` values, in a geometric series, for which
 * the grid loses least of x; steps >= 2.
 */
extern void spf_grid_search(const float *x, int n, SpfGrid *grid,
							double from, double to, int steps);

/* g[n] = x rounded to the grid, in units of the grid */
extern void spf_grid_round(const float *x, int n, const SpfGrid *grid, float *g);

#endif							/* SPF_GRID_H */
