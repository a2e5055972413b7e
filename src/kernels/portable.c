/*-------------------------------------------------------------------------
 *
 * portable.c
 *	  The kernels in plain C: for any machine, and what the other sets are
 *	  tested against.
 *
 * Sums run in 8 lanes (SPF_PAD), which compilers turn into vectors by
 * themselves and which keeps rounding errors small.
 *
 *-------------------------------------------------------------------------
 */
#include <float.h>
#include <string.h>

#include "sets.h"

/* Adding and subtracting this rounds a small float to an integer. */
#define ROUND_MAGIC		12582912.0f

static bool
supported(void)
{
	return true;
}

static float
sum_lanes(const float *lane)
{
	return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
		((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static float
dot(const float *a, const float *b, int n)
{
	float		lane[SPF_PAD] = {0};

	for (int i = 0; i < n; i += SPF_PAD)
		for (int j = 0; j < SPF_PAD; j++)
			lane[j] += a[i + j] * b[i + j];
	return sum_lanes(lane);
}

static float
l2sq(const float *a, const float *b, int n)
{
	float		lane[SPF_PAD] = {0};

	for (int i = 0; i < n; i += SPF_PAD)
		for (int j = 0; j < SPF_PAD; j++)
		{
			float		d = a[i + j] - b[i + j];

			lane[j] += d * d;
		}
	return sum_lanes(lane);
}

static void
l2sq_rows(const float *x, const float *rows, int nrows, int n, float *out)
{
	for (int i = 0; i < nrows; i++)
		out[i] = l2sq(x, rows + (size_t) i * n, n);
}

static float
dot_i8(const float *q, const int8_t *v, int n)
{
	float		lane[SPF_PAD] = {0};

	for (int i = 0; i < n; i += SPF_PAD)
		for (int j = 0; j < SPF_PAD; j++)
			lane[j] += q[i + j] * (float) v[i + j];
	return sum_lanes(lane);
}

static void
add(float *sum, const float *x, int n)
{
	for (int i = 0; i < n; i++)
		sum[i] += x[i];
}

static void
add_i8(float *sum, const int8_t *v, float scale, int n)
{
	for (int i = 0; i < n; i++)
		sum[i] += scale * (float) v[i];
}

static void
meet(const SpfRows16 *rows, int n, const SpfMeeting *x, int nx, uint32_t *below)
{
	for (int k = 0; k < nx; k++)
	{
		int32_t		sum[16] = {0};

		for (int i = 0; i < n; i += 4)
			for (int l = 0; l < 16; l++)
				for (int d = 0; d < 4; d++)
					sum[l] += rows->codes[i * 16 + l * 4 + d] * x[k].code[i + d];
		below[k] = 0;
		for (int l = 0; l < 16; l++)
		{
			float		product = ((float) sum[l] - x[k].bias) * rows->scale[l];

			x[k].out[l] = rows->norm2[l] - x[k].twice * product;
			below[k] |= (uint32_t) (x[k].out[l] < x[k].bar) << l;
		}
	}
}

static float
l2sq_i8(const float *q, const int8_t *v, float scale, int n)
{
	float		lane[SPF_PAD] = {0};

	for (int i = 0; i < n; i += SPF_PAD)
		for (int j = 0; j < SPF_PAD; j++)
		{
			float		d = q[i + j] - scale * (float) v[i + j];

			lane[j] += d * d;
		}
	return sum_lanes(lane);
}

static double
dot_double(const float *a, const float *b, int n)
{
	double		lane[2][8] = {{0}};

	for (int i = 0; i < n; i += 8)
		for (int j = 0; j < 8; j++)
			lane[i / 8 % 2][j] += (double) a[i + j] * (double) b[i + j];
	for (int j = 0; j < 8; j++)
		lane[0][j] += lane[1][j];
	return ((lane[0][0] + lane[0][4]) + (lane[0][2] + lane[0][6])) +
		((lane[0][1] + lane[0][5]) + (lane[0][3] + lane[0][7]));
}

static float
grid_loss(const float *x, int n, const SpfGrid *grid)
{
	const SpfGrid k = *grid;
	float		ee[SPF_PAD] = {0};
	float		eg[SPF_PAD] = {0};
	float		gg[SPF_PAD] = {0};
	float		sum_eg;
	float		sum_gg;

	/* two loops over eight, for compilers make vectors only of simple ones */
	for (int i = 0; i < n; i += SPF_PAD)
	{
		float		y[SPF_PAD];
		float		g[SPF_PAD];

		for (int j = 0; j < SPF_PAD; j++)
		{
			y[j] = x[i + j] * k.t;
			g[j] = y[j] - k.shift;
			g[j] = g[j] > k.lo ? g[j] : k.lo;
			g[j] = g[j] < k.hi ? g[j] : k.hi;
			g[j] = ((g[j] + ROUND_MAGIC) - ROUND_MAGIC) + k.shift;
			y[j] -= g[j];
		}
		for (int j = 0; j < SPF_PAD; j++)
		{
			ee[j] += y[j] * y[j];
			eg[j] += y[j] * g[j];
			gg[j] += g[j] * g[j];
		}
	}
	sum_eg = sum_lanes(eg);
	sum_gg = sum_lanes(gg);
	return sum_lanes(ee) - (sum_gg > 0 ? sum_eg * sum_eg / sum_gg : 0);
}

static inline void
look_up(const uint8_t *codes, int shift, const uint8_t *table, int count, uint32_t *sums)
{
	for (int i = 0; i < count; i++)
		sums[i] += table[codes[i] >> shift & 15];
}

static void
scan(const uint8_t *codes, const uint8_t *lut, int groups,
	 int planes, int lanes, uint32_t *sums)
{
	memset(sums, 0, sizeof(*sums) * lanes);
	for (int p = 0; p < planes; p++)
	{
		for (int i = 0; i < lanes; i++)
			sums[i] *= 2;
		for (int g = 0; g < groups; g++)
		{
			const uint8_t *table = lut + g * 16;

			if (lanes == 32)
			{
				look_up(codes + g * 16, 0, table, 16, sums);
				look_up(codes + g * 16, 4, table, 16, sums + 16);
			}
			else
				look_up(codes + g / 2 * lanes, g % 2 * 4, table, lanes, sums);
		}
		codes += groups * lanes / 2;
	}
}

/* A block of entries may lie anywhere. */
static float
load_float(const float *p)
{
	float		f;

	memcpy(&f, p, sizeof(f));
	return f;
}

static float
load_bfloat16(const uint16_t *p)
{
	uint16_t	half;
	uint32_t	bits;
	float		f;

	memcpy(&half, p, sizeof(half));
	bits = (uint32_t) half << 16;
	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* Never NaN, never infinite. */
static float
clamp_finite(float f)
{
	f = f > -FLT_MAX ? f : -FLT_MAX;
	return f < FLT_MAX ? f : FLT_MAX;
}

static uint32_t
bound(const uint32_t *sums, const float *add, const float *mul,
	  const uint16_t *perp, int lanes, const SpfBound *b,
	  float *est, float *lower)
{
	uint32_t	mask = 0;

	for (int i = 0; i < lanes; i++)
	{
		float		s = (float) sums[i] * b->lut_delta + b->lut_base;
		float		m = load_float(mul + i);
		float		e = clamp_finite(b->base + b->a * load_float(add + i) - b->m * m * s);
		float		l = e - load_bfloat16(perp + i) * b->perp_factor;

		l = clamp_finite(l - (m < 0 ? -m : m) * b->lut_factor);
		est[i] = e;
		lower[i] = l;
		mask |= (uint32_t) (l < b->threshold) << i;
	}
	return mask;
}

static void
ranks(const float *values, int n, int32_t *out)
{
	for (int i = 0; i < n; i++)
	{
		int32_t		smaller = 0;

		for (int j = 0; j < n; j++)
			smaller += values[j] < values[i];
		out[i] = smaller;
	}
}

const SpfKernels spf_kernels_portable = {
	.name = "portable",
	.supported = supported,
	.dot = dot,
	.dot_double = dot_double,
	.l2sq = l2sq,
	.l2sq_rows = l2sq_rows,
	.dot_i8 = dot_i8,
	.l2sq_i8 = l2sq_i8,
	.add = add,
	.add_i8 = add_i8,
	.meet = meet,
	.grid_loss = grid_loss,
	.scan = scan,
	.bound = bound,
	.ranks = ranks
};
