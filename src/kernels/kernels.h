/*-------------------------------------------------------------------------
 *
 * kernels.h
 *	  The innermost loops, once per instruction set, chosen once at run time.
 *
 * Nothing here knows of PostgreSQL.  Every set of kernels gives the same
 * answers as the portable one: to the bit for integer results and dot_double, within float
 * rounding (the order of the additions differs) for the others.
 *
 * Lengths `n` are in elements and always a multiple of 8 (SPF_PAD), pointers
 * need no alignment.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_KERNELS_H
#define SPF_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

/* Dimensions are padded with zeros to a multiple of this. */
#define SPF_PAD			8

/* The widest block of entries, and the most bit-planes an entry code has. */
#define SPF_MAX_LANES	32
#define SPF_MAX_BITS	4

/* No set of kernels looks at more floats at once. */
#define SPF_RANKS_PAD	16

/* The scalars of one probe of one posting; see SpfKernels.bound. */
typedef struct SpfBound
{
	float		base;
	float		a;
	float		m;
	float		lut_delta;
	float		lut_base;
	float		perp_factor;
	float		lut_factor;
	float		threshold;
} SpfBound;

/*
 * A grid that a vector is rounded to: for each x the value
 *   g = clamp(round(x * t - shift), lo, hi) + shift
 * (round: to nearest, ties to even).
 */
typedef struct SpfGrid
{
	float		t;
	float		shift;
	float		lo;
	float		hi;
} SpfGrid;

/*
 * Sixteen rows side by side, 7 bits a component: row i is scale[i] * (u - SPF_U7_ZERO) with u
 * at codes[(d / 4) * 64 + i * 4 + d % 4], and norm2[i] is what its distances start from.
 */
#define SPF_U7_ZERO		64

typedef struct SpfRows16
{
	const uint8_t *codes;
	const float *norm2;
	const float *scale;
} SpfRows16;

/* A vector of 8 bits that is to meet them; see SpfKernels.meet. */
typedef struct SpfMeeting
{
	const int8_t *code;
	float		twice;			/* two times its scale */
	float		bias;			/* SPF_U7_ZERO times the sum of its components */
	float		bar;
	float	   *out;			/* [16] */
} SpfMeeting;

/* So many vectors at a time share the work best. */
#define SPF_MEET		8

typedef struct SpfKernels
{
	const char *name;			/* "avx512", "avx2", "sse", "neon", "portable" */

	/* does this processor have what these kernels need? */
	bool		(*supported) (void);

	/* <a, b> */
	float		(*dot) (const float *a, const float *b, int n);

	/*
	 * <a, b> in double precision: sixteen sums side by side, added up in one order by all
	 * sets, so that it is the same to the bit.
	 */
	double		(*dot_double) (const float *a, const float *b, int n);

	/* |a - b|^2 */
	float		(*l2sq) (const float *a, const float *b, int n);

	/* out[i] = |x - rows[i]|^2 for `nrows` rows that lie n floats apart */
	void		(*l2sq_rows) (const float *x, const float *rows, int nrows, int n, float *out);

	/* <q, v> with v of 8-bit signed integers */
	float		(*dot_i8) (const float *q, const int8_t *v, int n);

	/* |q - scale * v|^2, likewise */
	float		(*l2sq_i8) (const float *q, const int8_t *v, float scale, int n);

	/* sum[n] += x[n];  sum[n] += scale * v[n] */
	void		(*add) (float *sum, const float *x, int n);
	void		(*add_i8) (float *sum, const int8_t *v, float scale, int n);

	/*
	 * |row|^2 - 2 <x, row>, the squared distance but for |x|^2, of each of nx vectors
	 * and sixteen rows of n dimensions, to x[k].out[i]: norm2[i] - twice * (dot - bias) * scale[i].
	 * Bit i of below[k] says that it is under x[k].bar.
	 */
	void		(*meet) (const SpfRows16 *rows, int n, const SpfMeeting *x, int nx,
						 uint32_t *below);

	/*
	 * What a grid loses of x: with y = x * t, the squared norm of the part of y
	 * that is orthogonal to g.  (In units of the grid: divide by t^2.)
	 */
	float		(*grid_loss) (const float *x, int n, const SpfGrid *grid);

	/*
	 * The scan of one block (layout: code.h).  For each lane i < lanes,
	 * sums[i] = sum over planes p (0 = most significant, of `planes`) of
	 * 2^(planes-1-p) * sum over groups g of lut[g * 16 + nibble(p, g, i)].
	 * `groups` is padded / 4.  sums has room for SPF_MAX_LANES.  May read up to 16
	 * bytes past the codes (the block's numbers follow them).
	 */
	void		(*scan) (const uint8_t *codes, const uint8_t *lut, int groups,
						 int planes, int lanes, uint32_t *sums);

	/*
	 * From sums to estimates: for each lane i < lanes (lanes a multiple of 4),
	 *   s     = sums[i] * lut_delta + lut_base
	 *   est   = base + a * add[i] - m * mul[i] * s
	 *   lower = est - perp[i] * perp_factor - |mul[i]| * lut_factor
	 * perp is bfloat16.  Returns the mask of lanes with lower < threshold.
	 * Both results are always finite: clamped to +-FLT_MAX, and what would be
	 * NaN becomes -FLT_MAX (nothing is excluded by numbers that overflowed).
	 */
	uint32_t	(*bound) (const uint32_t *sums, const float *add, const float *mul,
						  const uint16_t *perp, int lanes, const SpfBound *bound,
						  float *est, float *lower);

	/*
	 * How many of values[n] are smaller than each of them.  n is a multiple of
	 * SPF_RANKS_PAD.
	 */
	void		(*ranks) (const float *values, int n, int32_t *out);
} SpfKernels;

/* The kernels in use; never NULL: the best supported set, unless forced. */
extern const SpfKernels *spf_kernels;

/*
 * All sets compiled in, best first, NULL at the end; "portable" is the last.
 */
extern const SpfKernels *const spf_all_kernels[];

/*
 * Choose by name; "auto" takes the best one supported.  Returns false, and
 * changes nothing, when there is no such set or this processor lacks it.
 */
extern bool spf_kernels_select(const char *name);

#endif							/* SPF_KERNELS_H */
