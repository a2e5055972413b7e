/*-------------------------------------------------------------------------
 *
 * rotate.c
 *	  The fast random orthogonal transform: see rotate.h.
 *
 * Every step is an addition, a subtraction, a multiplication or a change of
 * sign, in an order fixed here, so all machines get the same numbers.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "rotate.h"

#define ROUNDS			4

/* The widest vectors that every 64-bit machine has. */
typedef float V4 __attribute__((vector_size(16)));
typedef uint32_t U4 __attribute__((vector_size(16)));

#ifdef __clang__
#define SHUFFLE(v, a, b, c, d)	__builtin_shufflevector(v, v, a, b, c, d)
#else
#define SHUFFLE(v, a, b, c, d)	__builtin_shuffle(v, (U4) {a, b, c, d})
#endif

static inline V4
load(const float *p)
{
	V4			v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void
store(float *p, V4 v)
{
	memcpy(p, &v, sizeof(v));
}

static inline V4
flip(V4 v, U4 signs)
{
	return (V4) ((U4) v ^ signs);
}

/* splitmix64: this very generator is part of the format of the index. */
static uint64_t
next_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

size_t
spf_rotation_size(int dim)
{
	return offsetof(SpfRotation, signs) + (size_t) ROUNDS * spf_padded(dim) / 8;
}

void
spf_rotation_init(SpfRotation *rot, int dim, uint64_t seed)
{
	uint64_t	state = seed;
	int			bytes;

	rot->dim = dim;
	rot->padded = spf_padded(dim);
	rot->seed = seed;
	bytes = ROUNDS * rot->padded / 8;
	for (int i = 0; i < bytes; i++)
		rot->signs[i] = (uint8_t) (next_random(&state) >> 56);
}

/* x[i] *= scale, and change its sign where bit i is set; n divisible by 8 */
static void
scale_and_flip(float *x, int n, float scale, const uint8_t *bits)
{
	const U4	lower = {1, 2, 4, 8};
	const U4	upper = {16, 32, 64, 128};
	const V4	factor = {scale, scale, scale, scale};

	for (int i = 0; i < n; i += 8)
	{
		uint32_t	byte = bits[i / 8];
		U4			all = {byte, byte, byte, byte};
		U4			first = (U4) ((all & lower) == lower) & 0x80000000;
		U4			second = (U4) ((all & upper) == upper) & 0x80000000;

		store(x + i, flip(load(x + i) * factor, first));
		store(x + i + 4, flip(load(x + i + 4) * factor, second));
	}
}

/* One stage: pairs that lie h apart; h >= 4 */
static void
butterflies(float *x, int n, int h)
{
	for (int i = 0; i < n; i += 2 * h)
		for (int j = i; j < i + h; j += 4)
		{
			V4			a = load(x + j);
			V4			b = load(x + j + h);

			store(x + j, a + b);
			store(x + j + h, a - b);
		}
}

/* Two stages in one go, h and 2h, which saves loads and stores. */
static void
butterflies2(float *x, int n, int h)
{
	for (int i = 0; i < n; i += 4 * h)
		for (int j = i; j < i + h; j += 4)
		{
			float	   *p = x + j;
			V4			a = load(p);
			V4			b = load(p + h);
			V4			c = load(p + 2 * h);
			V4			d = load(p + 3 * h);
			V4			ab = a + b;
			V4			cd = c + d;

			a -= b;
			c -= d;
			store(p, ab + cd);
			store(p + h, a + c);
			store(p + 2 * h, ab - cd);
			store(p + 3 * h, a - c);
		}
}

/* The Hadamard transform, not normalised, of n = 8, 16, 32 ... floats */
static void
hadamard(float *x, int n)
{
	const U4	odd = {0, 0x80000000, 0, 0x80000000};
	const U4	upper = {0, 0, 0x80000000, 0x80000000};
	int			h = 4;

	/* stages 1 and 2 lie within a vector: {a+b, a-b, ...}, then the same of pairs */
	for (int i = 0; i < n; i += 4)
	{
		V4			v = load(x + i);

		v = SHUFFLE(v, 0, 0, 2, 2) + flip(SHUFFLE(v, 1, 1, 3, 3), odd);
		v = SHUFFLE(v, 0, 1, 0, 1) + flip(SHUFFLE(v, 2, 3, 2, 3), upper);
		store(x + i, v);
	}
	for (; 4 * h <= n; h *= 4)
		butterflies2(x, n, h);
	if (h < n)
		butterflies(x, n, h);
}

/* Kac's step: rotate the pairs (i, i + n/2) by 45 degrees. */
static void
kac(float *x, int n)
{
	const float r = (float) M_SQRT1_2;
	const V4	factor = {r, r, r, r};

	for (int i = 0; i < n / 2; i += 4)
	{
		V4			a = load(x + i);
		V4			b = load(x + i + n / 2);

		store(x + i, (a + b) * factor);
		store(x + i + n / 2, (a - b) * factor);
	}
}

void
spf_rotate(const SpfRotation *rot, const float *in, float *out)
{
	int			n = rot->padded;
	int			power = SPF_PAD;
	float		scale;

	while (2 * power <= n)
		power *= 2;
	scale = (float) (1 / sqrt(power));

	if (in != out)
		memcpy(out, in, sizeof(float) * rot->dim);
	for (int i = rot->dim; i < n; i++)
		out[i] = 0;

	for (int round = 0; round < ROUNDS; round++)
	{
		const uint8_t *signs = rot->signs + round * n / 8;
		int			start = round % 2 == 0 ? 0 : n - power;

		/* what the Hadamard transform does not reach now, Kac's step mixes in */
		scale_and_flip(out + start, power, scale, signs);
		hadamard(out + start, power);
		if (power < n)
		{
			scale_and_flip(start == 0 ? out + power : out, n - power, 1, signs + power / 8);
			kac(out, n);
		}
	}
}
