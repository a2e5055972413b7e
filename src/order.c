/*-------------------------------------------------------------------------
 *
 * order.c
 *	  Picking and sorting small numbers of keys, without guessing.
 *
 * Sorting is by counting, for each key, those that are smaller: n^2 comparisons, but
 * many at a time, and for some dozens of keys the fastest way there is.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>

#include "kernels/kernels.h"
#include "order.h"

int
spf_keys_below(const float *keys, int n, float limit, int32_t *out)
{
	int			found = 0;

	for (int i = 0; i < n; i++)
	{
		out[found] = i;
		found += keys[i] < limit;
	}
	return found;
}

/* Where each of values[n] belongs; the array has room for the next multiple of SPF_RANKS_PAD. */
static void
places(float *values, int n, int32_t *place)
{
	int			padded = (n + SPF_RANKS_PAD - 1) / SPF_RANKS_PAD * SPF_RANKS_PAD;
	uint8_t		taken[SPF_MAX_SORTED] = {0};	/* of equal keys, by the first one's place */

	for (int i = n; i < padded; i++)
		values[i] = INFINITY;
	spf_kernels->ranks(values, padded, place);
	for (int i = 0; i < n; i++)
		place[i] += taken[place[i]]++;
}

void
spf_keys_sort(const float *keys, int32_t *numbers, int n)
{
	float		values[SPF_MAX_SORTED];
	int32_t		place[SPF_MAX_SORTED];
	int32_t		old[SPF_MAX_SORTED];

	for (int i = 0; i < n; i++)
	{
		old[i] = numbers[i];
		values[i] = keys[numbers[i]];
	}
	places(values, n, place);
	for (int i = 0; i < n; i++)
		numbers[place[i]] = old[i];
}

float
spf_keys_ranked(const float *values, int n, int rank)
{
	float		copies[SPF_MAX_SORTED];
	int32_t		place[SPF_MAX_SORTED];
	float		found = 0;

	for (int i = 0; i < n; i++)
		copies[i] = values[i];
	places(copies, n, place);
	for (int i = 0; i < n; i++)
		found = place[i] == rank ? values[i] : found;
	return found;
}
