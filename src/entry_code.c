/*-------------------------------------------------------------------------
 *
 * entry_code.c
 *	  The code of a vector in an entry of a posting, and blocks of them.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <string.h>

#include "code.h"
#include "grid.h"
#include "rotate.h"
#include "sums.h"

/*
 * Outside of these squared norms nothing can be said in floats: less is as
 * good as zero, of more an entry says so by an infinite perp.
 */
#define TINY2			1e-60
#define HUGE2			1e37

/* Vectors shorter than this are coded as zero. */
#define SMALL			1e-30f

/*
 * The best step of a uniform grid for normally distributed numbers, which is
 * what rotation makes of most vectors, by bits; and how far from it to look.
 */
static const double normal_step[SPF_MAX_BITS + 1] = {0, 1.596, 0.9957, 0.5860, 0.3352};

#define SEARCH_FACTOR	1.8
#define COARSE_STEPS	13
#define FINE_STEPS		7

void
spf_shape_init(SpfShape *shape, int dim, int bits, int lanes)
{
	shape->dim = dim;
	shape->padded = spf_padded(dim);
	shape->bits = bits;
	shape->lanes = lanes;
	shape->codes_bytes = (uint32_t) bits * shape->padded * lanes / 8;
	shape->bytes = shape->codes_bytes + lanes * (2 * sizeof(float) + sizeof(uint16_t));
}

/*
 * Round r to the grid at the scale that keeps most of its direction.  With one
 * bit any scale gives the same: the sign.
 */
static void
choose_code(const float *r, int n, int bits, double norm2, float *g)
{
	SpfGrid		grid = {.shift = 0.5f};
	double		factor = pow(SEARCH_FACTOR, 2.0 / (COARSE_STEPS - 1));
	double		t = 1 / (normal_step[bits] * sqrt(norm2 / n));

	if (bits == 1)
	{
		for (int i = 0; i < n; i++)
			g[i] = r[i] < 0 ? -0.5f : 0.5f;
		return;
	}
	grid.lo = (float) -(1 << (bits - 1));
	grid.hi = -grid.lo - 1;
	spf_grid_search(r, n, &grid, t / SEARCH_FACTOR, t * SEARCH_FACTOR, COARSE_STEPS);
	t = grid.t;
	spf_grid_search(r, n, &grid, t / factor, t * factor, FINE_STEPS);
	spf_grid_round(r, n, &grid, g);
}

/* The numbers of r = x - c coded as g; perp is infinite where floats cannot hold them. */
static void
numbers_of_code(const float *r, const float *c, const float *g, const SpfShape *shape, double norm2,
				SpfEntryNumbers *numbers)
{
	int			n = shape->padded;
	double		mul = norm2 / spf_dot_double(r, g, n);
	double		add = norm2 + (c != NULL ? 2 * mul * spf_dot_double(c, g, n) : 0);
	double		g2;

	if (!(fabs(add) < HUGE2))
		return;
	numbers->add = (float) add;
	numbers->mul = (float) mul;
	/* a sign is half a unit long */
	g2 = shape->bits == 1 ? n * 0.25 : spf_dot_double(g, g, n);
	numbers->perp = (float) sqrt(fmax(0, mul * mul * g2 - norm2));
}

void
spf_entry_numbers(const SpfShape *shape, const float *x, const float *c,
				  const uint8_t *code, SpfEntryNumbers *numbers)
{
	int			n = shape->padded;
	float		r[SPF_MAX_DIM];
	float		g[SPF_MAX_DIM];
	float		top = (float) (1 << shape->bits) / 2 - 0.5f;
	double		norm2;

	for (int i = 0; i < n; i++)
	{
		r[i] = c != NULL ? x[i] - c[i] : x[i];
		g[i] = code[i] - top;
	}
	norm2 = spf_dot_double(r, r, n);
	memset(numbers, 0, sizeof(*numbers));
	if (norm2 <= TINY2)
		return;
	numbers->perp = INFINITY;
	if (norm2 < HUGE2)
		numbers_of_code(r, c, g, shape, norm2, numbers);
}

void
spf_entry_distance(const SpfShape *shape, const uint8_t *code, const SpfEntryNumbers *numbers,
				   float *min, float *max)
{
	double		top = (double) (1 << shape->bits) / 2 - 0.5;
	double		g2 = 0;
	double		hypotenuse2;
	double		perp2 = (double) numbers->perp * numbers->perp;
	double		rounding;

	for (int i = 0; i < shape->padded; i++)
		g2 += (code[i] - top) * (code[i] - top);

	/* perp^2 = (mul |g|)^2 - |r|^2, by Pythagoras; both are squares of floats that were rounded */
	hypotenuse2 = (double) numbers->mul * numbers->mul * g2;
	rounding = 4e-7 * (hypotenuse2 + perp2);
	*min = 0;
	*max = INFINITY;
	if (!(hypotenuse2 + perp2 < HUGE2))
		return;
	*min = (float) (0.999999 * sqrt(fmax(0, hypotenuse2 - perp2 - rounding)));
	*max = (float) (1.000001 * sqrt(fmax(0, hypotenuse2 - perp2 + rounding))) + SMALL;
}

void
spf_entry_encode(const SpfShape *shape, const float *x, const float *c,
				 uint8_t *code, SpfEntryNumbers *numbers)
{
	int			n = shape->padded;
	float		r[SPF_MAX_DIM];
	float		g[SPF_MAX_DIM];
	float		top = (float) (1 << shape->bits) / 2 - 0.5f;
	double		norm2;

	for (int i = 0; i < n; i++)
	{
		r[i] = c != NULL ? x[i] - c[i] : x[i];
		code[i] = 0;
	}
	norm2 = spf_dot_double(r, r, n);
	memset(numbers, 0, sizeof(*numbers));
	if (norm2 <= TINY2)
		return;
	numbers->perp = INFINITY;
	if (!(norm2 < HUGE2))
		return;

	choose_code(r, n, shape->bits, norm2, g);
	for (int i = 0; i < n; i++)
		code[i] = (uint8_t) (int) (g[i] + top);
	numbers_of_code(r, c, g, shape, norm2, numbers);
}

/* ---- blocks ---- */

/* Where a lane's nibble of a group lies: the byte, and by how much to shift it. */
typedef struct Nibble
{
	uint32_t	byte;
	int			shift;
} Nibble;

static inline Nibble
nibble_at(const SpfShape *shape, int plane, int group, int lane)
{
	uint32_t	base = (uint32_t) plane * (shape->padded * shape->lanes / 8);
	Nibble		at;

	if (shape->lanes == 32)
	{
		at.byte = base + group * 16 + lane % 16;
		at.shift = lane / 16 * 4;
	}
	else
	{
		at.byte = base + group / 2 * shape->lanes + lane;
		at.shift = group % 2 * 4;
	}
	return at;
}

static inline uint8_t
get_nibble(const uint8_t *block, Nibble at)
{
	return (block[at.byte] >> at.shift) & 15;
}

static inline void
put_nibble(uint8_t *block, Nibble at, uint8_t value)
{
	block[at.byte] = (uint8_t) ((block[at.byte] & ~(15 << at.shift)) | value << at.shift);
}

/* Upwards, for it bounds an error. */
static uint16_t
to_bfloat16(float f)
{
	uint32_t	bits;

	memcpy(&bits, &f, sizeof(bits));
	return (uint16_t) ((bits >> 16) + ((bits & 0xffff) != 0));
}

static float
from_bfloat16(uint16_t half)
{
	uint32_t	bits = (uint32_t) half << 16;
	float		f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* The arrays that follow the codes; a page need not align them. */
static size_t
add_at(const SpfShape *shape, int lane)
{
	return shape->codes_bytes + lane * sizeof(float);
}

static size_t
mul_at(const SpfShape *shape, int lane)
{
	return add_at(shape, shape->lanes + lane);
}

static size_t
perp_at(const SpfShape *shape, int lane)
{
	return add_at(shape, 2 * shape->lanes) + lane * sizeof(uint16_t);
}

void
spf_block_put(const SpfShape *shape, uint8_t *block, int lane,
			  const uint8_t *code, const SpfEntryNumbers *numbers)
{
	uint16_t	perp = to_bfloat16(numbers->perp);

	for (int plane = 0; plane < shape->bits; plane++)
	{
		int			bit = shape->bits - 1 - plane;

		for (int g = 0; g < shape->padded / 4; g++)
		{
			const uint8_t *four = code + 4 * g;
			int			value = 0;

			for (int j = 0; j < 4; j++)
				value |= (four[j] >> bit & 1) << j;
			put_nibble(block, nibble_at(shape, plane, g, lane), (uint8_t) value);
		}
	}
	memcpy(block + add_at(shape, lane), &numbers->add, sizeof(float));
	memcpy(block + mul_at(shape, lane), &numbers->mul, sizeof(float));
	memcpy(block + perp_at(shape, lane), &perp, sizeof(perp));
}

void
spf_block_copy(const SpfShape *shape, uint8_t *to, int to_lane,
			   const uint8_t *from, int from_lane)
{
	for (int plane = 0; plane < shape->bits; plane++)
		for (int g = 0; g < shape->padded / 4; g++)
			put_nibble(to, nibble_at(shape, plane, g, to_lane),
					   get_nibble(from, nibble_at(shape, plane, g, from_lane)));
	memmove(to + add_at(shape, to_lane), from + add_at(shape, from_lane), sizeof(float));
	memmove(to + mul_at(shape, to_lane), from + mul_at(shape, from_lane), sizeof(float));
	memmove(to + perp_at(shape, to_lane), from + perp_at(shape, from_lane), sizeof(uint16_t));
}

void
spf_block_get(const SpfShape *shape, const uint8_t *block, int lane,
			  uint8_t *code, SpfEntryNumbers *numbers)
{
	uint16_t	perp;

	memset(code, 0, shape->padded);
	for (int plane = 0; plane < shape->bits; plane++)
		for (int i = 0; i < shape->padded; i++)
		{
			Nibble		at = nibble_at(shape, plane, i / 4, lane);

			code[i] = (uint8_t) (code[i] << 1 | (get_nibble(block, at) >> i % 4 & 1));
		}
	memcpy(&numbers->add, block + add_at(shape, lane), sizeof(float));
	memcpy(&numbers->mul, block + mul_at(shape, lane), sizeof(float));
	memcpy(&perp, block + perp_at(shape, lane), sizeof(perp));
	numbers->perp = from_bfloat16(perp);
}
