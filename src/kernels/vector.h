/*-------------------------------------------------------------------------
 *
 * vector.h
 *	  The body of every vectorised set of kernels, written once.
 *
 * Not a header in the usual sense: a file for one instruction set defines the
 * few primitives below and then includes this, all inside a region compiled
 * for that instruction set.
 *
 *	VF		a vector of FLOATS floats; + - * work on it
 *	VW		a vector of FLOATS * 2 unsigned 16-bit words; + - << >> & work on it
 *	VH		16 bytes of such words
 *
 *	vf_load, vf_store, vf_set1
 *	vf_fma(a, b, c)			a * b + c
 *	vf_max, vf_min			the second operand where the first is NaN
 *	vf_load_i8, vf_load_u32, vf_load_bf16
 *							load FLOATS numbers of that kind (u32: under 2^31)
 *	vf_sum4(a, b, c, d, out)	the four sums over all elements, to out[4]
 *	vf_less(a, b)			bit i set: a[i] < b[i]
 *	vw_shuffle, vh_shuffle	byte lookup, within each 16 bytes
 *	vw_fold					add up the 16-byte parts
 *	vh_zip_lo, vh_zip_hi	interleave the low (high) words of two
 *	VI, vi_zero, vi_load, vi_set1, vi_floats, vi_dot4
 *							integers: see meet.h
 *	vh_add16(sums, a, b)	add 16 words to 16 32-bit sums, in stores as wide as the
 *							loads of vf_load_u32, which soon follow
 *
 * and where FLOATS > SPF_PAD, loads of the first half, the rest zero:
 *	vf_load_half, vf_load_i8_half, vw_load_half
 *
 *-------------------------------------------------------------------------
 */

/* Adding and subtracting this rounds a small float to an integer. */
#define ROUND_MAGIC		12582912.0f

/* What a vector of bytes holds: 16 bytes for each group of four dimensions. */
#define VW_GROUPS		(FLOATS / 4)

/*
 * A function that sums STEP(a, b, sum) over two arrays, in four chains since
 * additions have a latency.
 */
#define DEFINE_REDUCTION(name, type_b, LOAD_B, LOAD_B_HALF, STEP) \
static float \
name(const float *a, const type_b *b, int n) \
{ \
	VF			s0 = vf_set1(0); \
	VF			s1 = s0; \
	VF			s2 = s0; \
	VF			s3 = s0; \
	float		out[4]; \
	int			i = 0; \
\
	for (; i + 4 * FLOATS <= n; i += 4 * FLOATS) \
	{ \
		STEP(vf_load(a + i), LOAD_B(b + i), s0); \
		STEP(vf_load(a + i + FLOATS), LOAD_B(b + i + FLOATS), s1); \
		STEP(vf_load(a + i + 2 * FLOATS), LOAD_B(b + i + 2 * FLOATS), s2); \
		STEP(vf_load(a + i + 3 * FLOATS), LOAD_B(b + i + 3 * FLOATS), s3); \
	} \
	for (; i + FLOATS <= n; i += FLOATS) \
		STEP(vf_load(a + i), LOAD_B(b + i), s0); \
	if (FLOATS > SPF_PAD && i < n) \
		STEP(vf_load_half(a + i), LOAD_B_HALF(b + i), s1); \
	vf_sum4(s0, s1, s2, s3, out); \
	return (out[0] + out[1]) + (out[2] + out[3]); \
}

#define STEP_DOT(x, y, sum) ((sum) = vf_fma(x, y, sum))
#define STEP_L2SQ(x, y, sum) \
	do { \
		VF			step_d = (x) - (y); \
\
		(sum) = vf_fma(step_d, step_d, sum); \
	} while (0)

DEFINE_REDUCTION(dot, float, vf_load, vf_load_half, STEP_DOT)
DEFINE_REDUCTION(l2sq, float, vf_load, vf_load_half, STEP_L2SQ)
DEFINE_REDUCTION(dot_i8, int8_t, vf_load_i8, vf_load_i8_half, STEP_DOT)

/* Like l2sq with b decoded on the way. */
static float
l2sq_i8(const float *q, const int8_t *v, float scale, int n)
{
	const VF	minus = vf_set1(-scale);
	VF			s[4];
	float		out[4];
	int			i = 0;

	for (int j = 0; j < 4; j++)
		s[j] = vf_set1(0);
	for (; i + 4 * FLOATS <= n; i += 4 * FLOATS)
		for (int j = 0; j < 4; j++)
		{
			VF			d = vf_fma(vf_load_i8(v + i + j * FLOATS), minus,
								   vf_load(q + i + j * FLOATS));

			s[j] = vf_fma(d, d, s[j]);
		}
	for (; i + FLOATS <= n; i += FLOATS)
	{
		VF			d = vf_fma(vf_load_i8(v + i), minus, vf_load(q + i));

		s[0] = vf_fma(d, d, s[0]);
	}
	if (FLOATS > SPF_PAD && i < n)
	{
		VF			d = vf_fma(vf_load_i8_half(v + i), minus, vf_load_half(q + i));

		s[1] = vf_fma(d, d, s[1]);
	}
	vf_sum4(s[0], s[1], s[2], s[3], out);
	return (out[0] + out[1]) + (out[2] + out[3]);
}

/* What does not fill a vector is done by eights, which any compiler makes vectors of. */
static void
add(float *sum, const float *x, int n)
{
	int			i = 0;

	for (; i + FLOATS <= n; i += FLOATS)
		vf_store(sum + i, vf_load(sum + i) + vf_load(x + i));
	for (; i < n; i++)
		sum[i] += x[i];
}

static void
add_i8(float *sum, const int8_t *v, float scale, int n)
{
	VF			factor = vf_set1(scale);
	int			i = 0;

	for (; i + FLOATS <= n; i += FLOATS)
		vf_store(sum + i, vf_fma(vf_load_i8(v + i), factor, vf_load(sum + i)));
	for (; i < n; i++)
		sum[i] += scale * (float) v[i];
}

/*
 * Four rows at a time, so that x is loaded once for them, and two chains of
 * additions for each.
 */
static void
l2sq_rows(const float *x, const float *rows, int nrows, int n, float *out)
{
	int			row = 0;

	for (; row + 4 <= nrows; row += 4, rows += (size_t) 4 * n)
	{
		const float *r1 = rows + n;
		const float *r2 = r1 + n;
		const float *r3 = r2 + n;
		VF			s[8];
		int			i = 0;

		for (int j = 0; j < 8; j++)
			s[j] = vf_set1(0);
		for (; i + 2 * FLOATS <= n; i += 2 * FLOATS)
		{
			VF			x0 = vf_load(x + i);
			VF			x1 = vf_load(x + i + FLOATS);

			STEP_L2SQ(x0, vf_load(rows + i), s[0]);
			STEP_L2SQ(x0, vf_load(r1 + i), s[1]);
			STEP_L2SQ(x0, vf_load(r2 + i), s[2]);
			STEP_L2SQ(x0, vf_load(r3 + i), s[3]);
			STEP_L2SQ(x1, vf_load(rows + i + FLOATS), s[4]);
			STEP_L2SQ(x1, vf_load(r1 + i + FLOATS), s[5]);
			STEP_L2SQ(x1, vf_load(r2 + i + FLOATS), s[6]);
			STEP_L2SQ(x1, vf_load(r3 + i + FLOATS), s[7]);
		}
		if (i + FLOATS <= n)
		{
			VF			x0 = vf_load(x + i);

			STEP_L2SQ(x0, vf_load(rows + i), s[0]);
			STEP_L2SQ(x0, vf_load(r1 + i), s[1]);
			STEP_L2SQ(x0, vf_load(r2 + i), s[2]);
			STEP_L2SQ(x0, vf_load(r3 + i), s[3]);
			i += FLOATS;
		}
		if (FLOATS > SPF_PAD && i < n)
		{
			VF			x0 = vf_load_half(x + i);

			STEP_L2SQ(x0, vf_load_half(rows + i), s[4]);
			STEP_L2SQ(x0, vf_load_half(r1 + i), s[5]);
			STEP_L2SQ(x0, vf_load_half(r2 + i), s[6]);
			STEP_L2SQ(x0, vf_load_half(r3 + i), s[7]);
		}
		vf_sum4(s[0] + s[4], s[1] + s[5], s[2] + s[6], s[3] + s[7], out + row);
	}
	for (; row < nrows; row++, rows += n)
		out[row] = l2sq(x, rows, n);
}

/*
 * One vector's worth of grid_loss: add to sums[0..2] = <e,e>, <e,g>, <g,g>.
 * keep is 1 for elements that count, 0 for those that do not (0 has a g, too).
 */
static inline void
grid_step(VF x, VF keep, const SpfGrid *grid, VF *sums)
{
	const VF	magic = vf_set1(ROUND_MAGIC);
	const VF	shift = vf_set1(grid->shift);
	VF			y = x * vf_set1(grid->t);
	VF			g = vf_min(vf_max(y - shift, vf_set1(grid->lo)), vf_set1(grid->hi));
	VF			e;

	g = (((g + magic) - magic) + shift) * keep;
	e = y - g;
	sums[0] = vf_fma(e, e, sums[0]);
	sums[1] = vf_fma(e, g, sums[1]);
	sums[2] = vf_fma(g, g, sums[2]);
}

static float
grid_loss(const float *x, int n, const SpfGrid *grid)
{
	static const float ones[SPF_PAD] = {1, 1, 1, 1, 1, 1, 1, 1};
	const VF	zero = vf_set1(0);
	const VF	one = vf_set1(1);
	VF			even[3] = {zero, zero, zero};
	VF			odd[3] = {zero, zero, zero};
	float		out[4];
	int			i = 0;

	for (; i + 2 * FLOATS <= n; i += 2 * FLOATS)
	{
		grid_step(vf_load(x + i), one, grid, even);
		grid_step(vf_load(x + i + FLOATS), one, grid, odd);
	}
	if (i + FLOATS <= n)
	{
		grid_step(vf_load(x + i), one, grid, even);
		i += FLOATS;
	}
	if (FLOATS > SPF_PAD && i < n)
		grid_step(vf_load_half(x + i), vf_load_half(ones), grid, odd);
	vf_sum4(even[0] + odd[0], even[1] + odd[1], even[2] + odd[2], zero, out);
	return out[0] - (out[2] > 0 ? out[1] * out[1] / out[2] : 0);
}

typedef float F8 __attribute__((vector_size(32)));
typedef double D8 __attribute__((vector_size(64)));

/* Products of floats are exact, so it does not matter if they are fused with the additions. */
static inline void
double_step(const float *a, const float *b, D8 *sum)
{
	F8			x;
	F8			y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	*sum += __builtin_convertvector(x, D8) * __builtin_convertvector(y, D8);
}

static double
dot_double(const float *a, const float *b, int n)
{
	D8			even = {0};
	D8			odd = {0};
	int			i = 0;

	for (; i + 16 <= n; i += 16)
	{
		double_step(a + i, b + i, &even);
		double_step(a + i + 8, b + i + 8, &odd);
	}
	if (i < n)
		double_step(a + i, b + i, &even);
	even += odd;
	return ((even[0] + even[4]) + (even[2] + even[6])) +
		((even[1] + even[5]) + (even[3] + even[7]));
}

/*
 * Sums of looked-up bytes, in words: `all` adds up words of two bytes, `odd`
 * the upper bytes alone, so that the sums of the lower ones are
 * all - (odd << 8), modulo 2^16.  That is cheaper than taking bytes apart.
 */
typedef struct LookupSums
{
	VW			all;
	VW			odd;
} LookupSums;

/* As many groups as add up within 16 bits, over all planes; divisible by 4. */
#define CHUNK_GROUPS(planes)	(256 / ((1 << (planes)) - 1) / 4 * 4)

static inline VW
vw_load(const uint8_t *p)
{
	VW			v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline VH
vh_load(const uint8_t *p)
{
	VH			v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* VW_GROUPS groups of 32 lanes */
static inline void
scan_step(VW codes, VW table, LookupSums *low, LookupSums *high)
{
	VW			l = vw_shuffle(table, codes & 0x0f0f);
	VW			h = vw_shuffle(table, (codes >> 4) & 0x0f0f);

	low->all += l;
	low->odd += l >> 8;
	high->all += h;
	high->odd += h >> 8;
}

/* Add the 16 lanes of even (lower) and odd (upper) bytes to 16 sums. */
static inline void
add_lookups(uint32_t *sums, VH all, VH odd)
{
	VH			even = all - (odd << 8);

	vh_add16(sums, vh_zip_lo(even, odd), vh_zip_hi(even, odd));
}

/* A plane counts twice as much as the next one. */
#define DOUBLE(sums)	((sums).all += (sums).all, (sums).odd += (sums).odd)

static void
scan_wide(const uint8_t *codes, const uint8_t *lut, int groups,
		  int planes, uint32_t *sums)
{
	const int	chunk = CHUNK_GROUPS(planes);

	for (int start = 0; start < groups; start += chunk)
	{
		int			end = start + chunk < groups ? start + chunk : groups;
		LookupSums	low = {{0}, {0}};
		LookupSums	high = {{0}, {0}};

		for (int p = 0; p < planes; p++)
		{
			const uint8_t *plane = codes + (size_t) p * groups * 16;
			int			g = start;

			DOUBLE(low);
			DOUBLE(high);
			for (; g + VW_GROUPS <= end; g += VW_GROUPS)
				scan_step(vw_load(plane + g * 16), vw_load(lut + g * 16), &low, &high);
			if (VW_GROUPS > 2 && g < end)
				scan_step(vw_load_half(plane + g * 16), vw_load_half(lut + g * 16),
						  &low, &high);
		}
		add_lookups(sums, vw_fold(low.all), vw_fold(low.odd));
		add_lookups(sums + 16, vw_fold(high.all), vw_fold(high.odd));
	}
}

/*
 * Fewer lanes: 16 bytes at a time, of which the first `lanes` count; each
 * holds two groups.  Such blocks are of vectors so long that it hardly
 * matters that the wider registers lie idle.
 */
static void
scan_narrow(const uint8_t *codes, const uint8_t *lut, int groups,
			int planes, int lanes, uint32_t *sums)
{
	const int	chunk = CHUNK_GROUPS(planes);
	uint32_t	all_sums[16] = {0};

	for (int start = 0; start < groups; start += chunk)
	{
		int			end = start + chunk < groups ? start + chunk : groups;
		VH			all = {0};
		VH			odd = {0};

		for (int p = 0; p < planes; p++)
		{
			const uint8_t *plane = codes + (size_t) p * (groups / 2) * lanes;

			all += all;
			odd += odd;
			for (int g = start; g < end; g += 2)
			{
				VH			pair = vh_load(plane + (size_t) (g / 2) * lanes);
				VH			l = vh_shuffle(vh_load(lut + g * 16), pair & 0x0f0f);
				VH			h = vh_shuffle(vh_load(lut + g * 16 + 16), (pair >> 4) & 0x0f0f);

				all += l + h;
				odd += (l >> 8) + (h >> 8);
			}
		}
		add_lookups(all_sums, all, odd);
	}
	memcpy(sums, all_sums, sizeof(*sums) * lanes);
}

static void
scan(const uint8_t *codes, const uint8_t *lut, int groups,
	 int planes, int lanes, uint32_t *sums)
{
	if (lanes == 32)
	{
		memset(sums, 0, sizeof(*sums) * 32);
		scan_wide(codes, lut, groups, planes, sums);
	}
	else
		scan_narrow(codes, lut, groups, planes, lanes, sums);
}

static inline VF
vf_finite(VF v)
{
	return vf_min(vf_max(v, vf_set1(-FLT_MAX)), vf_set1(FLT_MAX));
}

static uint32_t
bound(const uint32_t *sums, const float *add, const float *mul,
	  const uint16_t *perp, int lanes, const SpfBound *b,
	  float *est, float *lower)
{
	uint32_t	mask = 0;
	int			i = 0;

	for (; i + FLOATS <= lanes; i += FLOATS)
	{
		VF			s = vf_fma(vf_load_u32(sums + i), vf_set1(b->lut_delta),
							   vf_set1(b->lut_base));
		VF			m = vf_load(mul + i);
		VF			e = vf_fma(vf_load(add + i), vf_set1(b->a), vf_set1(b->base));
		VF			l;

		e = vf_finite(e - m * vf_set1(b->m) * s);
		l = e - vf_load_bf16(perp + i) * vf_set1(b->perp_factor);
		l = vf_finite(l - vf_max(m, -m) * vf_set1(b->lut_factor));
		vf_store(est + i, e);
		vf_store(lower + i, l);
		mask |= vf_less(l, vf_set1(b->threshold)) << i;
	}

	/* fewer lanes than a vector has: the arrays end here, so work on copies */
	if (i < lanes)
	{
		int			rest = lanes - i;
		uint32_t	some_sums[FLOATS] = {0};
		uint16_t	some_perp[FLOATS] = {0};
		float		some[4][FLOATS] = {{0}};
		uint32_t	some_mask;

		memcpy(some_sums, sums + i, sizeof(*sums) * rest);
		memcpy(some[0], add + i, sizeof(*add) * rest);
		memcpy(some[1], mul + i, sizeof(*mul) * rest);
		memcpy(some_perp, perp + i, sizeof(*perp) * rest);
		some_mask = bound(some_sums, some[0], some[1], some_perp, FLOATS, b,
						  some[2], some[3]);
		memcpy(est + i, some[2], sizeof(*est) * rest);
		memcpy(lower + i, some[3], sizeof(*lower) * rest);
		mask |= (some_mask & ((1u << rest) - 1)) << i;
	}
	return mask;
}

static void
ranks(const float *values, int n, int32_t *out)
{
	for (int i = 0; i < n; i++)
	{
		const VF	value = vf_set1(values[i]);
		int32_t		smaller = 0;

		for (int j = 0; j < n; j += FLOATS)
			smaller += __builtin_popcount(vf_less(vf_load(values + j), value));
		out[i] = smaller;
	}
}

#define MEET			meet
#define MEET_DOT4		vi_dot4
#include "meet.h"
