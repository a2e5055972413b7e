/*-------------------------------------------------------------------------
 *
 * packed.c
 *	  Rows of 7 bits a component by sixteens, and vectors of 8 bits to meet them.
 *
 *-------------------------------------------------------------------------
 */
#include "packed.h"

#include <math.h>
#include <string.h>

#define LINE			64
#define MOST_7BIT		63
#define MOST_8BIT		127

static size_t
codes_space(int padded, size_t blocks)
{
	return blocks * 16 * (size_t) padded;
}

size_t
spf_packed_space(int padded, size_t blocks)
{
	return codes_space(padded, blocks) + 2 * blocks * 16 * sizeof(float);
}

SpfPacked
spf_packed_map(void *memory, int padded, size_t blocks)
{
	SpfPacked	packed = {.padded = padded, .codes = memory};

	packed.norm2 = (float *) (packed.codes + codes_space(padded, blocks));
	packed.scale = packed.norm2 + blocks * 16;
	return packed;
}

static float
largest(const float *x, const float *origin, int n)
{
	float		lane[SPF_PAD] = {0};
	float		most = 0;

	for (int i = 0; i < n; i += SPF_PAD)
		for (int l = 0; l < SPF_PAD; l++)
		{
			float		a = fabsf(origin ? x[i + l] - origin[i + l] : x[i + l]);

			lane[l] = a > lane[l] ? a : lane[l];
		}
	for (int l = 0; l < SPF_PAD; l++)
		most = lane[l] > most ? lane[l] : most;
	return most;
}

/* To the nearest integer, as long as it is small. */
static inline int
round_small(float x)
{
	return (int) (x + (x < 0 ? -0.5f : 0.5f));
}

/*
 * What a distance from the row starts from is its norm such that the distance from
 * the rounded row is right on the average: |rounded|^2 - |rounded - row|^2.
 */
void
spf_packed_put(const SpfPacked *packed, size_t at, const float *c, const float *origin)
{
	int			n = packed->padded;
	uint8_t    *to = packed->codes + at / 16 * 16 * (size_t) n + at % 16 * 4;
	float		most = largest(c, origin, n);
	float		scale = most / MOST_7BIT;
	float		inverse = most > 0 && isfinite(MOST_7BIT / most) ? MOST_7BIT / most : 0;
	double		norm2 = 0;

	/* what has no size that can be worked with is known by its norm alone */
	if (inverse == 0)
		scale = 0;
	for (int i = 0; i < n; i++)
	{
		float		x = origin ? c[i] - origin[i] : c[i];
		int			v = inverse > 0 ? round_small(x * inverse) : 0;

		v = v > MOST_7BIT ? MOST_7BIT : v < -MOST_7BIT ? -MOST_7BIT : v;
		to[i / 4 * 64 + i % 4] = (uint8_t) (v + SPF_U7_ZERO);
		/* |r|^2 - |r - x|^2 = x (2 r - x) */
		norm2 += inverse > 0 ? (double) x * (2 * ((double) v * scale) - x) : (double) x * x;
	}
	packed->scale[at] = scale;
	packed->norm2[at] = (float) norm2;
}

void
spf_packed_end(const SpfPacked *packed, size_t at)
{
	size_t		n = (size_t) packed->padded;

	for (; at % 16 != 0; at++)
	{
		uint8_t    *to = packed->codes + at / 16 * 16 * n + at % 16 * 4;

		for (size_t i = 0; i < n; i += 4)
			memset(to + i * 16, SPF_U7_ZERO, 4);
		packed->scale[at] = 0;
		packed->norm2[at] = INFINITY;
	}
}

void
spf_meeting_init(SpfMeeting *meeting, const int8_t *code, float scale, int n)
{
	int			sum = 0;

	for (int i = 0; i < n; i++)
		sum += code[i];
	meeting->code = code;
	meeting->twice = 2 * scale;
	meeting->bias = (float) (SPF_U7_ZERO * sum);
	meeting->bar = INFINITY;
	meeting->out = NULL;
}

float
spf_round_8bit(const float *x, const float *origin, int n, int8_t *code)
{
	float		most = largest(x, origin, n);
	float		inverse = most > 0 ? MOST_8BIT / most : 0;

	if (!isfinite(most) || !isfinite(inverse))
	{
		memset(code, 0, (size_t) n);
		return 0;
	}
	for (int i = 0; i < n; i++)
	{
		float		y = (x[i] - (origin ? origin[i] : 0)) * inverse;

		code[i] = (int8_t) round_small(y);
	}
	return most / MOST_8BIT;
}
