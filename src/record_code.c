/*-------------------------------------------------------------------------
 *
 * record_code.c
 *	  The code of a vector in its record: 8 bits a dimension.
 *
 *-------------------------------------------------------------------------
 */
#include <float.h>
#include <math.h>

#include "code.h"
#include "grid.h"
#include "rotate.h"
#include "sums.h"

#define LIMIT			127
#define TRIED_SCALES	24

/*
 * The scales tried, relative to the one that just reaches the largest
 * component.  How well a scale does is mostly luck at 8 bits, so try many
 * near there; a grid that cuts off a little can win, too.
 */
#define FIRST_SCALE		0.95
#define LAST_SCALE		1.05

/*
 * Below this the scale would be denormal.  Such a vector is coded as zero,
 * which is true to within its norm.
 */
#define TINY			1e-30f

/* Decoding and adding up rounds: what that may add to err, relative to |x|. */
#define ERR_SLACK		2e-7

static float
largest(const float *x, int n)
{
	float		lane[SPF_PAD] = {0};
	float		max = 0;

	for (int i = 0; i < n; i += SPF_PAD)
		for (int j = 0; j < SPF_PAD; j++)
		{
			float		a = fabsf(x[i + j]);

			lane[j] = a > lane[j] ? a : lane[j];
		}
	for (int j = 0; j < SPF_PAD; j++)
		max = lane[j] > max ? lane[j] : max;
	return max;
}

/* |x - scale * g| */
static double
distance(const float *x, const float *g, float scale, int n)
{
	double		lane[SPF_PAD] = {0};
	double		sum = 0;

	for (int i = 0; i < n; i += SPF_PAD)
		for (int j = 0; j < SPF_PAD; j++)
		{
			double		d = (double) x[i + j] - (double) scale * (double) g[i + j];

			lane[j] += d * d;
		}
	for (int j = 0; j < SPF_PAD; j++)
		sum += lane[j];
	return sqrt(sum);
}

/* To float, never less than d, never infinite. */
static float
round_up(double d)
{
	if (!(d < FLT_MAX))
		return FLT_MAX;
	return nextafterf((float) d, FLT_MAX);
}

void
spf_record_encode(const float *x, int n, int8_t *v, SpfRecordNumbers *numbers)
{
	float		g[SPF_MAX_DIM];
	SpfGrid		grid = {.t = 0, .shift = 0, .lo = -LIMIT, .hi = LIMIT};
	float		max = largest(x, n);
	double		norm2 = spf_dot_double(x, x, n);
	double		t;

	for (int i = 0; i < n; i++)
		v[i] = 0;
	numbers->scale = 0;
	numbers->norm2 = norm2 < FLT_MAX ? (float) norm2 : FLT_MAX;
	numbers->err = round_up(sqrt(norm2));

	/* too small to scale, or so large (or no number at all) that all is lost */
	if (!(max >= TINY) || !(numbers->norm2 < FLT_MAX))
		return;

	t = LIMIT / (double) max;
	spf_grid_search(x, n, &grid, t * FIRST_SCALE, t * LAST_SCALE, TRIED_SCALES);
	spf_grid_round(x, n, &grid, g);
	for (int i = 0; i < n; i++)
		v[i] = (int8_t) g[i];
	numbers->scale = (float) (spf_dot_double(x, g, n) / spf_dot_double(g, g, n));
	numbers->err = round_up(distance(x, g, numbers->scale, n) + ERR_SLACK * sqrt(norm2));
}

void
spf_record_decode(const int8_t *v, float scale, int n, float *out)
{
	for (int i = 0; i < n; i++)
		out[i] = scale * (float) v[i];
}
