/*-------------------------------------------------------------------------
 *
 * replicas.c
 *	  Which postings a vector goes to.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>

#include "code.h"

static bool
is_chosen(int i, const int *chosen, int nchosen)
{
	for (int j = 0; j < nchosen; j++)
		if (chosen[j] == i)
			return true;
	return false;
}

/*
 * What SOAR minimises: |r|^2, and as much again as r repeats the directions in
 * which the chosen centroids miss the vector already.  With r1 = x - c1 and
 * r = x - c, 2 <r1, r> = |r1|^2 + |r|^2 - |c1 - c|^2.
 */
static double
soar_cost(int i, const float *dist2, SpfApart apart, void *state, const int *chosen, int nchosen)
{
	double		cost = dist2[i];

	for (int j = 0; j < nchosen; j++)
	{
		int			k = chosen[j];
		double		apart2 = apart(state, k, i);
		double		product = ((double) dist2[k] + dist2[i] - apart2) / 2;

		if (dist2[k] > 0)
			cost += product * product / dist2[k];
	}
	return cost;
}

int
spf_choose_replicas_by(const float *dist2, int ncand, int want, int *chosen, SpfApart apart,
					   void *state)
{
	int			nchosen = 0;

	while (nchosen < want && nchosen < ncand)
	{
		double		best_cost = INFINITY;
		int			best = -1;

		for (int i = 0; i < ncand; i++)
		{
			double		cost;

			/* the cost is never less than the squared distance */
			if (is_chosen(i, chosen, nchosen) || (best >= 0 && dist2[i] > best_cost))
				continue;
			cost = soar_cost(i, dist2, apart, state, chosen, nchosen);
			if (best < 0 || cost < best_cost)
			{
				best_cost = cost;
				best = i;
			}
		}
		chosen[nchosen++] = best;
	}
	return nchosen;
}

/* Candidates that are there as floats */
typedef struct Floats
{
	const float *const *cand;
	int			padded;
} Floats;

static float
floats_apart(void *state, int i, int k)
{
	const Floats *floats = state;

	return spf_kernels->l2sq(floats->cand[i], floats->cand[k], floats->padded);
}

int
spf_choose_replicas(int padded, const float *const *cand, const float *dist2, int ncand,
					int want, int *chosen)
{
	Floats		floats = {cand, padded};

	return spf_choose_replicas_by(dist2, ncand, want, chosen, floats_apart, &floats);
}
