/*-------------------------------------------------------------------------
 *
 * numbers_test.h
 *	  What the checks of numbers share: counting, random input, plain sums, all kernels, measuring.
 *
 * A header with all of it, as each test is one file.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_NUMBERS_TEST_H
#define SPF_NUMBERS_TEST_H

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "code.h"
#include "rotate.h"

/* Not every test calls all of it. */
#define SHARED	static __attribute__((unused))

#define LENGTH_OF(array)	((int) (sizeof(array) / sizeof((array)[0])))

static int	passed = 0;
static int	failed = 0;

SHARED void
check(bool ok, const char *what, double got, double wanted)
{
	if (ok)
		passed++;
	else if (failed++ < 40)
		printf("  FAILED (%s): %s: %.9g against %.9g\n", spf_kernels->name, what, got, wanted);
}

SHARED void
group(const char *name)
{
	printf("%s\n", name);
	fflush(stdout);
}

/* ---- input ---- */

static uint64_t random_state = 42;

SHARED uint32_t
next_random(void)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (random_state >> 32);
}

/* in (0, 1) */
SHARED double
uniform(void)
{
	return (next_random() + 0.5) / 4294967296.0;
}

/* Two at a time, for they are most of what this program does. */
SHARED double
normal(void)
{
	static double other;
	static bool have_other = false;
	double		radius;
	double		angle;

	have_other = !have_other;
	if (!have_other)
		return other;
	radius = sqrt(-2 * log(uniform()));
	angle = 6.283185307179586 * uniform();
	other = radius * sin(angle);
	return radius * cos(angle);
}

typedef enum Kind
{
	NORMAL,
	ZEROS,
	EQUAL,						/* all components the same */
	ONE_HOT,
	HUGE_NORM,					/* 1e18 */
	TINY_NORM,					/* 1e-20 */
	DENORMAL,
	SPIKED,						/* a few components much larger than the rest */
	SIGNS,						/* +-1 */
	OVERFLOWING,				/* |x|^2 is no float */
	KINDS
} Kind;

SHARED float
component(Kind kind, int i, int dim)
{
	switch (kind)
	{
		case ZEROS:
			return 0;
		case EQUAL:
			return 0.7f;
		case ONE_HOT:
			return i == dim / 3 ? 1 : 0;
		case HUGE_NORM:
			return (float) (normal() * 1e18 / sqrt(dim));
		case TINY_NORM:
			return (float) (normal() * 1e-20 / sqrt(dim));
		case DENORMAL:
			return (float) (normal() * 1e-42);
		case SPIKED:
			return (float) (normal() * (i % 17 == 0 ? 30 : 1));
		case SIGNS:
			return next_random() % 2 == 0 ? -1 : 1;
		case OVERFLOWING:
			return (float) (normal() * 1e37);
		default:
			return (float) normal();
	}
}

/* n floats of malloc'ed memory, so that tools see what goes beyond */
SHARED float *
vector(Kind kind, int dim, int n)
{
	float	   *v = malloc(sizeof(float) * n);

	for (int i = 0; i < n; i++)
		v[i] = i < dim ? component(kind, i, dim) : 0;
	return v;
}

SHARED double
dot_double(const float *a, const float *b, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += (double) a[i] * b[i];
	return sum;
}

SHARED double
l2sq_double(const float *a, const float *b, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += ((double) a[i] - b[i]) * ((double) a[i] - b[i]);
	return sum;
}

/* The worst way to add up: one by one, in floats. */
SHARED float
l2sq_float(const float *a, const float *b, int n)
{
	volatile float sum = 0;

	for (int i = 0; i < n; i++)
	{
		float		d = a[i] - b[i];

		sum += d * d;
	}
	return sum;
}

SHARED float
dot_float(const float *a, const float *b, int n)
{
	volatile float sum = 0;

	for (int i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

static const int dims[] = {1, 2, 3, 5, 7, 8, 9, 16, 17, 24, 31, 64, 65, 72, 100, 104, 127, 128, 129,
	200, 256, 300, 333, 384, 500, 512, 768, 960, 1000, 1024, 1025, 1536, 2000, 3072, 4095, 4096,
8000};

/* Calls f once with each set of kernels that this processor has. */
SHARED void
with_all_kernels(void (*f) (void))
{
	for (int i = 0; spf_all_kernels[i] != NULL; i++)
		if (spf_kernels_select(spf_all_kernels[i]->name))
			f();
	spf_kernels_select("auto");
}

/* ---- measuring ---- */

SHARED double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

/* Repeat a statement for a tenth of a second, five times; the best time of one. */
#define MEASURE(result, statement) \
	do { \
		(result) = INFINITY; \
		for (int measure_run = 0; measure_run < 5; measure_run++) \
		{ \
			double		measure_start = seconds(); \
			double		measure_time; \
			int			measure_count = 0; \
\
			do { \
				for (int measure_i = 0; measure_i < 16; measure_i++) \
					statement; \
				measure_count += 16; \
				measure_time = seconds() - measure_start; \
			} while (measure_time < 0.1); \
			(result) = fmin(result, measure_time / measure_count); \
		} \
	} while (0)

SHARED SpfRotation *
rotation(int dim, uint64_t seed)
{
	SpfRotation *rot = malloc(spf_rotation_size(dim));

	spf_rotation_init(rot, dim, seed);
	return rot;
}

/* What main does: the checks, or with --bench the measuring. */
SHARED int
run(int argc, char **argv, void (*checks) (void), void (*bench) (void))
{
	if (argc > 1 && strcmp(argv[1], "--bench") == 0)
	{
		with_all_kernels(bench);
		return 0;
	}
	checks();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}

#endif							/* SPF_NUMBERS_TEST_H */
