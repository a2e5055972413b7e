/*-------------------------------------------------------------------------
 *
 * grid.c
 *	  Rounding a vector to a grid, at the scale that loses least.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>

#include "grid.h"

/* Adding and subtracting this rounds a small float to an integer. */
#define ROUND_MAGIC		12582912.0f

void
spf_grid_search(const float *x, int n, SpfGrid *grid, double from, double to, int steps)
{
	double		factor = pow(to / from, 1.0 / (steps - 1));
	double		relative = 1;
	double		best_loss = INFINITY;
	double		best = 1;

	for (int i = 0; i < steps; i++, relative *= factor)
	{
		double		loss;

		grid->t = (float) (from * relative);
		loss = spf_kernels->grid_loss(x, n, grid) / (relative * relative);
		if (loss < best_loss)
		{
			best_loss = loss;
			best = relative;
		}
	}
	grid->t = (float) (from * best);
}

void
spf_grid_round(const float *restrict x, int n, const SpfGrid *grid, float *restrict g)
{
	const SpfGrid k = *grid;

	for (int i = 0; i < n; i += SPF_PAD)
		for (int j = 0; j < SPF_PAD; j++)
		{
			float		y = x[i + j] * k.t - k.shift;

			y = y > k.lo ? y : k.lo;
			y = y < k.hi ? y : k.hi;
			g[i + j] = ((y + ROUND_MAGIC) - ROUND_MAGIC) + k.shift;
		}
}
