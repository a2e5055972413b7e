/*-------------------------------------------------------------------------
 *
 * numbers_test.c
 *	  Checks of all that src/code.h, src/rotate.h and src/kernels promise,
 *	  against plain sums in double precision.
 *
 *	  numbers_test			run the checks
 *	  numbers_test --bench	measure
 *
 *-------------------------------------------------------------------------
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "code.h"
#include "order.h"
#include "rotate.h"

#define LENGTH_OF(array)	((int) (sizeof(array) / sizeof((array)[0])))

static int	passed = 0;
static int	failed = 0;

static void
check(bool ok, const char *what, double got, double wanted)
{
	if (ok)
		passed++;
	else if (failed++ < 40)
		printf("  FAILED (%s): %s: %.9g against %.9g\n", spf_kernels->name, what, got, wanted);
}

static void
group(const char *name)
{
	printf("%s\n", name);
	fflush(stdout);
}

/* ---- input ---- */

static uint64_t random_state = 42;

static uint32_t
next_random(void)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (random_state >> 32);
}

/* in (0, 1) */
static double
uniform(void)
{
	return (next_random() + 0.5) / 4294967296.0;
}

/* Two at a time, for they are most of what this program does. */
static double
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

static float
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
static float *
vector(Kind kind, int dim, int n)
{
	float	   *v = malloc(sizeof(float) * n);

	for (int i = 0; i < n; i++)
		v[i] = i < dim ? component(kind, i, dim) : 0;
	return v;
}

static double
dot_double(const float *a, const float *b, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += (double) a[i] * b[i];
	return sum;
}

static double
l2sq_double(const float *a, const float *b, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += ((double) a[i] - b[i]) * ((double) a[i] - b[i]);
	return sum;
}

/* The worst way to add up: one by one, in floats. */
static float
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

static float
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
static void
with_all_kernels(void (*f) (void))
{
	for (int i = 0; spf_all_kernels[i] != NULL; i++)
		if (spf_kernels_select(spf_all_kernels[i]->name))
			f();
	spf_kernels_select("auto");
}

/* ---- kernels ---- */

static const SpfKernels *portable_kernels(void);

static void
check_reductions(Kind kind, int n)
{
	const SpfKernels *k = spf_kernels;
	int			nrows = next_random() % 11;
	float	   *a = vector(kind, n, n);
	float	   *b = vector(next_random() % 2 ? kind : NORMAL, n, n);
	float	   *rows = vector(kind, n * nrows, n * nrows + 1);
	float	   *out = malloc(sizeof(float) * (nrows + 1));
	int8_t	   *v = malloc(n);
	float	   *vf = malloc(sizeof(float) * n);
	double		aa = dot_double(a, a, n);
	double		bb = dot_double(b, b, n);
	double		rounding = n * 6e-8 + 1e-6;
	float		scale = (float) (sqrt(aa / n) / 100 + 1e-6);

	for (int i = 0; i < n; i++)
		vf[i] = v[i] = (int8_t) (next_random() % 255 - 127);
	check(fabs(k->dot(a, b, n) - dot_double(a, b, n)) <= rounding * sqrt(aa * bb) + 1e-38,
		  "dot", k->dot(a, b, n), dot_double(a, b, n));
	check(k->dot_double(a, b, n) == portable_kernels()->dot_double(a, b, n) &&
		  fabs(k->dot_double(a, b, n) - dot_double(a, b, n)) <= 1e-12 * sqrt(aa * bb) + 1e-38,
		  "dot_double", k->dot_double(a, b, n), dot_double(a, b, n));
	check(fabs(k->l2sq(a, b, n) - l2sq_double(a, b, n)) <= rounding * (aa + bb) + 1e-38,
		  "l2sq", k->l2sq(a, b, n), l2sq_double(a, b, n));
	check(fabs(k->dot_i8(a, v, n) - dot_double(a, vf, n)) <=
		  rounding * sqrt(aa * dot_double(vf, vf, n)) + 1e-38,
		  "dot_i8", k->dot_i8(a, v, n), dot_double(a, vf, n));
	for (int i = 0; i < n; i++)
		vf[i] = (float) (v[i] * scale);
	check(fabs(k->l2sq_i8(a, v, scale, n) - l2sq_double(a, vf, n)) <=
		  rounding * (aa + dot_double(vf, vf, n)) + 1e-38,
		  "l2sq_i8", k->l2sq_i8(a, v, scale, n), l2sq_double(a, vf, n));
	{
		float	   *sum = malloc((n + 1) * sizeof(float));

		memcpy(sum, b, n * sizeof(float));
		sum[n] = 12345;
		k->add(sum, a, n);
		for (int i = 0; i < n; i++)
			check(sum[i] == b[i] + a[i], "add", sum[i], b[i] + a[i]);
		memcpy(sum, b, n * sizeof(float));
		k->add_i8(sum, v, 0.37f, n);
		for (int i = 0; i < n; i++)
			check(fabs(sum[i] - (b[i] + 0.37 * v[i])) <= 1e-6 * (fabs(b[i]) + fabs(0.37 * v[i])),
				  "add_i8", sum[i], b[i] + 0.37 * v[i]);
		check(sum[n] == 12345, "add stays in its room", sum[n], 12345);
		free(sum);
	}
	out[nrows] = 12345;
	k->l2sq_rows(a, rows, nrows, n, out);
	for (int i = 0; i < nrows; i++)
	{
		double		wanted = l2sq_double(a, rows + (size_t) i * n, n);

		check(fabs(out[i] - wanted) <= rounding * (4 * aa + wanted) + 1e-38,
			  "l2sq_rows", out[i], wanted);
	}
	check(out[nrows] == 12345, "l2sq_rows stays in its room", out[nrows], 12345);
	free(a);
	free(b);
	free(rows);
	free(out);
	free(v);
	free(vf);
}

/* Sixteen rows of 7 bits, random vectors of 8, the extremes of both among them. */
static void
check_meet(int n, int nx)
{
	uint8_t    *codes = malloc((size_t) n * 16);
	int8_t	   *v = malloc((size_t) n * nx);
	float	   *out = calloc((size_t) nx * 16 + 1, sizeof(float));
	float		norm2[16];
	float		scale[16];
	SpfRows16	rows = {codes, norm2, scale};
	SpfMeeting *x = calloc(nx, sizeof(SpfMeeting));
	uint32_t   *below = calloc(nx + 1, sizeof(uint32_t));

	for (int i = 0; i < n * 16; i++)
		codes[i] = i / 4 % 16 == 3 ? 127 : next_random() % 128;
	for (int i = 0; i < n * nx; i++)
		v[i] = i < n ? -127 : (int8_t) (next_random() % 255 - 127);
	for (int l = 0; l < 16; l++)
	{
		norm2[l] = l == 5 ? INFINITY : (float) (l * 1000);
		scale[l] = 0.5f + l;
	}
	for (int k = 0; k < nx; k++)
		x[k] = (SpfMeeting) {v + (size_t) k * n, 0.25f, (float) (k * 100), 3000 * k, out + k * 16};
	out[nx * 16] = 12345;
	below[nx] = 12345;
	spf_kernels->meet(&rows, n, x, nx, below);
	for (int k = 0; k < nx; k++)
		for (int l = 0; l < 16; l++)
		{
			int64_t		sum = 0;
			double		wanted;
			double		size;

			for (int d = 0; d < n; d++)
				sum += codes[d / 4 * 64 + l * 4 + d % 4] * v[k * n + d];
			size = 0.25 * scale[l] * (fabs((double) sum) + k * 100);
			wanted = norm2[l] - 0.25 * scale[l] * ((double) sum - k * 100);
			check(l == 5 ? isinf(out[k * 16 + l]) :
				  fabs(out[k * 16 + l] - wanted) <= 1e-6 * (size + norm2[l]) + 1e-6,
				  "meet", out[k * 16 + l], wanted);
			check((below[k] >> l & 1) == (out[k * 16 + l] < x[k].bar), "meet: under the bar",
				  below[k] >> l & 1, out[k * 16 + l]);
		}
	check(out[nx * 16] == 12345 && below[nx] == 12345, "meet stays in its room", out[nx * 16], 0);
	free(codes);
	free(v);
	free(out);
	free(x);
	free(below);
}

static void
check_grid_loss(int n)
{
	float	   *x = vector(NORMAL, n, n);

	for (int bits = 1; bits <= 8; bits++)
	{
		SpfGrid		grid = {.t = (float) (1 << bits) / 4, .shift = bits == 8 ? 0 : 0.5f};
		double		ee = 0;
		double		eg = 0;
		double		gg = 0;
		double		wanted;
		float		got;

		grid.lo = (float) -(1 << (bits - 1));
		grid.hi = -grid.lo - 1;
		for (int i = 0; i < n; i++)
		{
			double		y = (float) (x[i] * grid.t);
			double		g = rint(fmin(fmax(y - grid.shift, grid.lo), grid.hi)) + grid.shift;

			ee += (y - g) * (y - g);
			eg += (y - g) * g;
			gg += g * g;
		}
		wanted = ee - (gg > 0 ? eg * eg / gg : 0);
		got = spf_kernels->grid_loss(x, n, &grid);
		check(fabs(got - wanted) <= 1e-4 * ee + 1e-6 * gg, "grid_loss", got, wanted);
	}
	free(x);
}

static void
check_scan(int groups, int planes, int lanes, bool extreme)
{
	size_t		size = (size_t) planes * groups * lanes / 2;
	uint8_t    *codes = malloc(size + 16);
	uint8_t    *lut = malloc(groups * 16);
	uint32_t	sums[SPF_MAX_LANES];
	uint32_t	wanted[SPF_MAX_LANES];
	int			wrong = 0;

	for (size_t i = 0; i < size + 16; i++)
		codes[i] = extreme ? 0xff : (uint8_t) next_random();
	for (int i = 0; i < groups * 16; i++)
		lut[i] = extreme ? 255 : (uint8_t) next_random();
	spf_kernels->scan(codes, lut, groups, planes, lanes, sums);
	for (int i = 0; i < lanes; i++)
	{
		wanted[i] = 0;
		for (int p = 0; p < planes; p++)
			for (int g = 0; g < groups; g++)
			{
				const uint8_t *plane = codes + (size_t) p * groups * lanes / 2;
				bool		wide = lanes == 32;
				uint8_t		byte = plane[wide ? g * 16 + i % 16 : g / 2 * lanes + i];
				bool		high = wide ? i >= 16 : g % 2 == 1;
				uint32_t	value = lut[g * 16 + (high ? byte >> 4 : byte & 15)];

				wanted[i] += value << (planes - 1 - p);
			}
		wrong += sums[i] != wanted[i];
	}
	check(wrong == 0, "scan: wrong lanes", wrong, 0);
	free(codes);
	free(lut);
}

static const SpfKernels *
portable_kernels(void)
{
	int			i = 0;

	while (spf_all_kernels[i + 1] != NULL)
		i++;
	return spf_all_kernels[i];
}

static void
check_bound(int lanes, bool wild)
{
	static const float strange[] = {INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 1e38f, 0, NAN, 1e-42f};
	SpfBound	b = {.base = 3, .a = 0.5f, .m = 2, .lut_delta = 0.01f, .lut_base = -20,
	.perp_factor = 0.7f, .lut_factor = 0.1f, .threshold = 2};
	uint32_t	sums[SPF_MAX_LANES];
	float		add[SPF_MAX_LANES];
	float		mul[SPF_MAX_LANES];
	uint16_t	perp[SPF_MAX_LANES];
	float		est[2][SPF_MAX_LANES + 1];
	float		lower[2][SPF_MAX_LANES + 1];
	uint32_t	mask;

	for (int i = 0; i < SPF_MAX_LANES; i++)
	{
		sums[i] = next_random() % (2000 * 255 * 15);
		add[i] = wild && next_random() % 2 ? strange[next_random() % 8] : (float) normal();
		mul[i] = wild && next_random() % 2 ? strange[next_random() % 8] : (float) normal();
		perp[i] = (uint16_t) (wild ? next_random() : 0x3f00 + next_random() % 0x100);
	}
	est[0][lanes] = lower[0][lanes] = 777;
	mask = spf_kernels->bound(sums, add, mul, perp, lanes, &b, est[0], lower[0]);
	check(est[0][lanes] == 777 && lower[0][lanes] == 777, "bound stays in its room", 0, 0);
	portable_kernels()->bound(sums, add, mul, perp, lanes, &b, est[1], lower[1]);
	check(lanes == 32 || mask >> lanes == 0, "bound: mask of lanes only", mask, lanes);
	for (int i = 0; i < lanes; i++)
	{
		double		tolerance = 1e-6 * (fabs(b.base) + fabs(add[i]) +
										2 * fabs(mul[i]) * (sums[i] * 0.01 + 20));

		check(isfinite(est[0][i]) && isfinite(lower[0][i]), "bound: finite",
			  est[0][i], lower[0][i]);
		if (!wild)
		{
			check(fabs(est[0][i] - est[1][i]) <= tolerance, "bound: est",
				  est[0][i], est[1][i]);
			check(fabs(lower[0][i] - lower[1][i]) <= tolerance, "bound: lower",
				  lower[0][i], lower[1][i]);
		}
		check((mask >> i & 1) == (lower[0][i] < b.threshold), "bound: mask", mask, i);
	}
}

static void
check_kernels(void)
{
	printf("  %s\n", spf_kernels->name);
	for (int i = 0; i < LENGTH_OF(dims); i++)
	{
		int			n = spf_padded(dims[i]);

		for (Kind kind = NORMAL; kind < OVERFLOWING; kind++)
			check_reductions(kind, n);
		check_grid_loss(n);
		check_meet(n, 1 + n / 8 % 23);
		for (int planes = 1; planes <= SPF_MAX_BITS; planes++)
			for (int lanes = 32; lanes >= 4; lanes /= 2)
				for (int extreme = 0; extreme < 2; extreme++)
					check_scan(n / 4, planes, lanes, extreme == 1);
	}
	for (int lanes = 4; lanes <= SPF_MAX_LANES; lanes += 4)
		for (int i = 0; i < 20; i++)
			check_bound(lanes, i % 2 == 1);
}

static void
check_selection(void)
{
	check(spf_kernels_select("portable") && strcmp(spf_kernels->name, "portable") == 0,
		  "select portable", 0, 0);
	check(!spf_kernels_select("abacus") && strcmp(spf_kernels->name, "portable") == 0,
		  "select what there is not", 0, 0);
	check(spf_kernels_select("auto") && spf_kernels->supported(), "select auto", 0, 0);
}

/* ---- rotation ---- */

static SpfRotation *
rotation(int dim, uint64_t seed)
{
	SpfRotation *rot = malloc(spf_rotation_size(dim));

	spf_rotation_init(rot, dim, seed);
	return rot;
}

static void
check_rotation_of(int dim)
{
	SpfRotation *rot = rotation(dim, dim * 77 + 5);
	int			n = spf_padded(dim);
	float	   *out = malloc(sizeof(float) * n);
	float	   *other_out = malloc(sizeof(float) * n);

	for (Kind kind = NORMAL; kind < OVERFLOWING; kind++)
	{
		float	   *x = vector(kind, dim, n);
		float	   *y = vector(kind, dim, dim);
		double		wanted = l2sq_double(x, y, dim);
		double		norms = dot_double(x, x, dim) + dot_double(y, y, dim);
		double		max = 0;

		spf_rotate(rot, x, out);
		spf_rotate(rot, y, other_out);
		check(fabs(sqrt(dot_double(out, out, n)) - sqrt(dot_double(x, x, dim))) <=
			  1e-6 * sqrt(norms) + 1e-38, "rotation keeps norms",
			  sqrt(dot_double(out, out, n)), sqrt(dot_double(x, x, dim)));
		check(fabs(l2sq_double(out, other_out, n) - wanted) <= 1e-6 * norms + 1e-38,
			  "rotation keeps distances", l2sq_double(out, other_out, n), wanted);
		for (int i = 0; i < n; i++)
			max = fabs(out[i]) > max ? fabs(out[i]) : max;
		if (dim >= 64 && (kind == ONE_HOT || kind == EQUAL))
			check(max < 5.5 / sqrt(n) * sqrt(dot_double(x, x, dim)), "rotation spreads",
				  max * sqrt(n), 5.5);
		spf_rotate(rot, x, x);
		check(memcmp(x, out, sizeof(float) * n) == 0, "rotation in place", 0, 0);
		free(x);
		free(y);
	}
	free(out);
	free(other_out);
	free(rot);
}

/* What indexes on disk depend on: never change these numbers. */
static void
check_golden(int dim, double wanted)
{
	SpfRotation *rot = rotation(dim, 20240607);
	int			n = spf_padded(dim);
	float	   *x = malloc(sizeof(float) * n);
	double		sum = 0;

	for (int i = 0; i < dim; i++)
		x[i] = (float) (i % 13 - 5);
	spf_rotate(rot, x, x);
	for (int i = 0; i < n; i++)
		sum += x[i] * (i % 7 + 1);
	check(fabs(sum - wanted) < 1e-3, "golden rotation", sum, wanted);
	free(x);
	free(rot);
}

static void
check_rotation(void)
{
	group("rotation");
	for (int i = 0; i < LENGTH_OF(dims); i++)
		check_rotation_of(dims[i]);
	check_golden(8, 22.0);
	check_golden(100, -83.599581);
	check_golden(768, -885.037317);
	check_golden(1024, 415.350952);
}

/* ---- record code ---- */

/*
 * One vector and one query through everything, as an index does it, and the
 * bound against the distance added up in the most careless way.
 */
static void
check_record(SpfMetric metric, const SpfRotation *rot, const float *x, const float *q,
			 const float *origin, double *gap)
{
	int			dim = rot->dim;
	int			n = rot->padded;
	float	   *xr = calloc(n, sizeof(float));
	float	   *qr = calloc(n, sizeof(float));
	float	   *decoded = malloc(sizeof(float) * n);
	int8_t	   *v = malloc(n);
	SpfShape	shape;
	SpfQuery   *query;
	SpfRecordNumbers numbers;
	double		truth;
	float		careless;
	float		est;
	float		lower;

	for (int i = 0; i < dim; i++)
	{
		xr[i] = x[i] - origin[i];
		qr[i] = metric == SPF_IP ? q[i] : q[i] - origin[i];
	}
	spf_rotate(rot, xr, xr);
	spf_rotate(rot, qr, qr);
	spf_shape_init(&shape, dim, 1, 32);
	query = malloc(spf_query_size(&shape));
	spf_query_init(query, &shape, metric, qr, (float) dot_double(q, origin, dim));
	query->origin_norm = (float) sqrt(dot_double(origin, origin, dim));
	spf_record_encode(xr, n, v, &numbers);
	spf_query_record(query, v, &numbers, &est, &lower);

	careless = metric == SPF_IP ? -dot_float(q, x, dim) : l2sq_float(q, x, dim);
	truth = metric == SPF_IP ? -dot_double(q, x, dim) : l2sq_double(q, x, dim);
	if (metric == SPF_COSINE)
	{
		careless = 1 - dot_float(q, x, dim) / sqrtf(dot_float(x, x, dim) * dot_float(q, q, dim));
		careless = careless < 0 ? 0 : careless;
		truth /= 2;
	}
	check(!isnan(est) && !isinf(est), "record: est", est, truth);
	check(!isnan(lower) && (lower <= est || isnan(careless)), "record: lower", lower, est);
	check(isnan(careless) || lower <= careless, "record: lower bound", lower, careless);
	check(!(truth < FLT_MAX) || lower <= truth, "record: lower bound of truth", lower, truth);
	*gap = truth - lower;

	spf_record_decode(v, numbers.scale, n, decoded);
	if (numbers.norm2 < FLT_MAX)
		check(sqrt(l2sq_double(xr, decoded, n)) <= numbers.err, "record: err",
			  sqrt(l2sq_double(xr, decoded, n)), numbers.err);
	free(xr);
	free(qr);
	free(decoded);
	free(v);
	free(query);
}

static void
normalise(float *x, int dim)
{
	double		norm = sqrt(dot_double(x, x, dim));

	for (int i = 0; i < dim; i++)
		x[i] = norm > 0 ? (float) (x[i] / norm) : (i == 0);
}

static void
check_records_with(void)
{
	for (int d = 0; d < LENGTH_OF(dims); d++)
	{
		int			dim = dims[d];
		SpfRotation *rot = rotation(dim, d + 1);

		for (int i = 0; i < (dim > 2000 ? 30 : 120); i++)
		{
			SpfMetric	metric = (SpfMetric) (i % 3);
			float	   *x = vector((Kind) (i % KINDS), dim, dim);
			float	   *q = vector((Kind) (next_random() % KINDS), dim, dim);
			float	   *origin = vector(i % 4 == 0 ? NORMAL : ZEROS, dim, dim);
			double		gap;

			if (i % 5 == 0)		/* the row itself, or something near it, is asked for */
				for (int j = 0; j < dim; j++)
					q[j] = x[j] * (float) (1 + 1e-3 * normal() * (i % 2));
			if (metric == SPF_COSINE)
			{
				normalise(x, dim);
				normalise(q, dim);
			}
			check_record(metric, rot, x, q, origin, &gap);
			free(x);
			free(q);
			free(origin);
		}
		free(rot);
	}
}

/* The code is not only right, it is good: of normal data little is lost. */
static void
check_record_quality(int dim, double wanted)
{
	SpfRecordNumbers numbers;
	int8_t	   *v = malloc(dim);
	double		sum = 0;

	for (int i = 0; i < 200; i++)
	{
		float	   *x = vector(NORMAL, dim, dim);

		spf_record_encode(x, dim, v, &numbers);
		sum += numbers.err / sqrt(numbers.norm2) / 200;
		free(x);
	}
	printf("  record code of %d: loses %.5f of the norm\n", dim, sum);
	check(sum < wanted, "record: quality", sum, wanted);
	free(v);
}

/* Among near neighbours, where a lower bound has to be sharp to be of use. */
static void
check_record_sharpness(int dim)
{
	SpfRotation *rot = rotation(dim, 9);
	float	   *origin = vector(ZEROS, dim, dim);
	double		sum = 0;

	for (int i = 0; i < 100; i++)
	{
		float	   *x = vector(NORMAL, dim, dim);
		float	   *q = malloc(sizeof(float) * dim);
		double		gap;

		for (int j = 0; j < dim; j++)
			q[j] = x[j] + 0.5f * (float) normal();
		check_record(SPF_L2, rot, x, q, origin, &gap);
		sum += gap / l2sq_double(x, q, dim) / 100;
		free(x);
		free(q);
	}
	printf("  record bound of %d: %.4f of the squared distance below it\n", dim, sum);
	check(sum < 0.06, "record: sharpness", sum, 0.06);
	free(origin);
	free(rot);
}

/* ---- entry code ---- */

static void
check_blocks_of(const SpfShape *shape)
{
	uint8_t    *block = malloc(shape->bytes);
	uint8_t    *copy = malloc(shape->bytes);
	uint8_t    *codes = malloc((size_t) shape->lanes * shape->padded);
	uint8_t    *code = malloc(shape->padded);
	SpfEntryNumbers numbers[SPF_MAX_LANES];
	SpfEntryNumbers got;
	int			wrong = 0;

	memset(block, 0x5a, shape->bytes);
	memset(copy, 0xa5, shape->bytes);
	for (int i = 0; i < shape->lanes; i++)
	{
		for (int j = 0; j < shape->padded; j++)
			codes[i * shape->padded + j] = (uint8_t) (next_random() % (1u << shape->bits));
		numbers[i].add = (float) normal();
		numbers[i].mul = (float) normal();
		numbers[i].perp = (float) fabs(normal());
		spf_block_put(shape, block, i, codes + i * shape->padded, &numbers[i]);
	}
	for (int i = 0; i < shape->lanes; i++)
		spf_block_copy(shape, copy, (i + 3) % shape->lanes, block, i);
	for (int i = 0; i < 2 * shape->lanes; i++)
	{
		int			lane = i / 2;

		if (i % 2 == 0)
			spf_block_get(shape, block, lane, code, &got);
		else
			spf_block_get(shape, copy, (lane + 3) % shape->lanes, code, &got);
		wrong += memcmp(code, codes + lane * shape->padded, shape->padded) != 0;
		wrong += got.add != numbers[lane].add || got.mul != numbers[lane].mul;
		wrong += !(got.perp >= numbers[lane].perp && got.perp <= numbers[lane].perp * 1.01f);
	}
	check(wrong == 0, "blocks: wrong lanes", wrong, 0);
	free(block);
	free(copy);
	free(codes);
	free(code);
}

/* What came out of scanning many random entries. */
typedef struct Outcome
{
	int			count;
	int			held;			/* lower bounds that hold */
	double		error;			/* sum of estimate - score, relative to the spread */
	double		error2;			/* sum of squares of it */
	double		width;			/* sum of estimate - lower bound, likewise */
} Outcome;

static double
score_double(SpfMetric metric, const float *q, const float *x, int n)
{
	if (metric == SPF_IP)
		return -dot_double(q, x, n);
	return l2sq_double(q, x, n) / (metric == SPF_COSINE ? 2 : 1);
}

/* Count one estimate of the score of x, a member of the posting of c. */
static void
count_outcome(Outcome *sum, double score, double unit, float est, float lower)
{
	double		error = (est - score) / unit;

	sum->count++;
	sum->held += lower <= score + 1e-6 * fabs(score) + 1e-38;
	sum->error += error;
	sum->error2 += error * error;
	sum->width += (est - lower) / unit;
	check(isfinite(est) && lower <= est, "entries: finite", est, lower);
}

/* A centroid scores the same by its code and decoded. */
static void
check_coded_centroid(const SpfQuery *query, const float *c, int n)
{
	SpfRecordNumbers numbers;
	int8_t	   *v = malloc(n);
	float	   *decoded = malloc(sizeof(float) * n);
	double		size;

	spf_record_encode(c, n, v, &numbers);
	spf_record_decode(v, numbers.scale, n, decoded);
	size = query->norm2 + dot_double(decoded, decoded, n);
	check(fabs((double) spf_query_coded_centroid(query, v, numbers.scale) -
			   spf_query_centroid(query, decoded)) <= 1e-5 * size + 1e-30,
		  "entries: coded centroid", spf_query_coded_centroid(query, v, numbers.scale),
		  spf_query_centroid(query, decoded));
	free(v);
	free(decoded);
}

/* One posting: a centroid and a block of vectors around it, and a query. */
static void
scan_one_block(SpfMetric metric, const SpfShape *shape, double spread, double scale, Outcome *sum)
{
	int			n = shape->padded;
	float	   *c = vector(NORMAL, n, n);
	float	   *q = vector(NORMAL, n, n);
	float	   *x = malloc(sizeof(float) * n * shape->lanes);
	uint8_t    *block = calloc(1, shape->bytes);
	uint8_t    *code = malloc(n);
	SpfQuery   *query = malloc(spf_query_size(shape));
	float		est[SPF_MAX_LANES];
	float		lower[SPF_MAX_LANES];
	int			used = 1 + next_random() % shape->lanes;
	float		threshold;
	SpfBound	bound;
	float		bold_est[SPF_MAX_LANES];
	float		bold[SPF_MAX_LANES];
	uint32_t	mask;

	for (int i = 0; i < n; i++)
	{
		c[i] *= (float) scale;
		q[i] = c[i] * 0.5f + q[i] * (float) scale;
	}
	for (int lane = 0; lane < used; lane++)
	{
		SpfEntryNumbers numbers;

		for (int i = 0; i < n; i++)
			x[lane * n + i] = c[i] + (float) (spread * scale * normal());
		spf_entry_encode(shape, x + lane * n, c, code, &numbers);
		spf_block_put(shape, block, lane, code, &numbers);
	}
	spf_query_init(query, shape, metric, q, 0);
	threshold = spf_query_centroid(query, c);
	check(fabs(threshold - score_double(metric, q, c, n)) <=
		  1e-5 * (dot_double(q, q, n) + dot_double(c, c, n)), "entries: centroid",
		  threshold, score_double(metric, q, c, n));
	check_coded_centroid(query, c, n);
	mask = spf_query_block(query, threshold, block, used, threshold, est, lower);

	/* less caution: nearer to the estimates, which are the same */
	spf_query_posting(query, threshold, 0.25f, &bound);
	check(spf_query_posting_block(query, &bound, block, used, bold_est, bold) ==
		  (uint32_t) ((UINT64_C(1) << used) - 1), "entries: no threshold", used, 0);
	for (int lane = 0; lane < used; lane++)
	{
		double		gap = (double) est[lane] - lower[lane];

		check(bold_est[lane] == est[lane] &&
			  fabs(bold[lane] - (est[lane] - 0.25 * gap)) <=
			  1e-5 * (fabs(est[lane]) + gap) + 1e-30, "entries: caution", bold[lane], gap);
	}
	for (int lane = 0; lane < used; lane++)
	{
		const float *member = x + lane * n;
		double		reach = metric == SPF_IP ? dot_double(q, q, n) : l2sq_double(q, c, n);
		double		unit = sqrt(l2sq_double(member, c, n) * reach / n);

		count_outcome(sum, score_double(metric, q, member, n),
					  metric == SPF_L2 ? 2 * unit : unit, est[lane], lower[lane]);
		check((mask >> lane & 1) == (lower[lane] < threshold), "entries: mask", mask, lane);
	}
	check(used == 32 || mask >> used == 0, "entries: mask of used lanes only", mask, used);
	free(c);
	free(q);
	free(x);
	free(block);
	free(code);
	free(query);
}

static void
check_entries_of(SpfMetric metric, int dim, int lanes, double scale)
{
	double		previous = INFINITY;

	for (int bits = 1; bits <= SPF_MAX_BITS; bits++)
	{
		SpfShape	shape;
		Outcome		sum = {0};
		double		rms;

		spf_shape_init(&shape, dim, bits, lanes);
		while (sum.count < 2000)
			scan_one_block(metric, &shape, 0.6, scale, &sum);
		rms = sqrt(sum.error2 / sum.count);
		check(sum.held >= 0.95 * sum.count, "entries: bounds that hold",
			  (double) sum.held / sum.count, 0.95);
		check(fabs(sum.error / sum.count) < 0.15 * rms + 1e-3, "entries: bias",
			  sum.error / sum.count, 0.15 * rms);
		check(rms < 0.75 * previous, "entries: more bits are better", rms, previous);
		if (dim == 128 && lanes == 32 && metric == SPF_L2 && scale == 1)
			printf("  %d bits: error %.4f, bound %.4f below, holds %.3f\n", bits, rms,
				   sum.width / sum.count, (double) sum.held / sum.count);
		previous = rms;
	}
}

static void
check_entries(void)
{
	for (int metric = SPF_L2; metric <= SPF_COSINE; metric++)
	{
		for (int lanes = 32; lanes >= 4; lanes /= 2)
			check_entries_of((SpfMetric) metric, 128, lanes, 1);
		check_entries_of((SpfMetric) metric, 64, 32, 1e-3);
		check_entries_of((SpfMetric) metric, 768, 32, 1e15);
		check_entries_of((SpfMetric) metric, 100, 16, 1e-15);
	}
}

static void
check_entry_encode(Kind kind, const SpfShape *shape, const float *c)
{
	int			n = shape->padded;
	float	   *x = vector(kind, shape->dim, n);
	uint8_t    *code = malloc(n);
	SpfEntryNumbers numbers;
	double		rr = 0;
	double		rg = 0;
	double		cg = 0;
	double		gg = 0;
	float		min;
	float		max;
	int			wrong = 0;

	spf_entry_encode(shape, x, c, code, &numbers);
	for (int i = 0; i < n; i++)
	{
		double		r = c != NULL ? (double) (x[i] - c[i]) : x[i];
		double		g = code[i] - ((1 << shape->bits) - 1) / 2.0;

		wrong += code[i] >> shape->bits != 0;
		rr += r * r;
		rg += r * g;
		gg += g * g;
		cg += c != NULL ? c[i] * g : 0;
	}
	check(wrong == 0, "entry: code in range", wrong, 0);
	check(isfinite(numbers.add) && isfinite(numbers.mul) && numbers.perp >= 0,
		  "entry: numbers", numbers.add, numbers.mul);
	if (rr <= 1e-60)
		check(numbers.add == 0 && numbers.mul == 0 && numbers.perp == 0, "entry: zero",
			  numbers.mul, 0);
	else if (isfinite(numbers.perp))
	{
		double		mul = rr / rg;
		double		add = rr + 2 * mul * cg;
		double		perp = sqrt(fmax(0, mul * mul * gg - rr));

		check(fabs(numbers.mul - mul) <= 1e-5 * mul, "entry: mul", numbers.mul, mul);
		check(fabs(numbers.add - add) <= 1e-5 * (rr + fabs(add)) + 1e-38, "entry: add",
			  numbers.add, add);
		check(fabs(numbers.perp - perp) <= 1e-3 * perp + 1e-6 * sqrt(rr), "entry: perp",
			  numbers.perp, perp);
		spf_entry_distance(shape, code, &numbers, &min, &max);
		check(min <= sqrt(rr) && sqrt(rr) <= max, "entry: its distance", min, sqrt(rr));
		check(perp * perp > 100 * rr || rr > 1e30 || max <= 1.01 * min + 1e-15,
			  "entry: its distance, sharp",
			  max, min);
	}
	else
		check(rr > 1e36 || fabs(cg) > 1e17, "entry: gives up only on huge numbers", rr, 1e36);
	free(x);
	free(code);
}

static void
check_entry_codes(void)
{
	for (int d = 0; d < LENGTH_OF(dims); d++)
		for (int bits = 1; bits <= SPF_MAX_BITS; bits++)
			for (Kind kind = NORMAL; kind < KINDS; kind++)
			{
				SpfShape	shape;
				Kind		other = (Kind) (next_random() % KINDS);
				float	   *c = vector(other, dims[d], spf_padded(dims[d]));

				spf_shape_init(&shape, dims[d], bits, 32 >> next_random() % 4);
				check_entry_encode(kind, &shape, c);
				check_entry_encode(kind, &shape, NULL);
				if (kind == NORMAL)
					check_blocks_of(&shape);
				free(c);
			}
}

/* What lies in a ring around a centroid is not nearer than is said, and seldom much farther. */
static void
check_rings(void)
{
	for (int i = 0; i < 300; i++)
	{
		int			dim = dims[next_random() % 12];
		int			n = spf_padded(dim);
		SpfMetric	metric = (SpfMetric) (i % 3);
		SpfShape	shape;
		SpfQuery   *query;
		float	   *q = vector(NORMAL, dim, n);
		float	   *c = vector(NORMAL, dim, n);
		float	   *x = vector(NORMAL, dim, n);
		double		away = 0;
		double		r = 0;
		double		qx = 0;
		float		bound;

		spf_shape_init(&shape, dim, 1, 32);
		query = malloc(spf_query_size(&shape));
		spf_query_init(query, &shape, metric, q, 0);
		for (int j = 0; j < n; j++)
		{
			x[j] = c[j] + (i % 5 == 0 ? 10 : 0.1f) * x[j];
			away += ((double) q[j] - c[j]) * ((double) q[j] - c[j]);
			r += ((double) x[j] - c[j]) * ((double) x[j] - c[j]);
			qx += ((double) q[j] - x[j]) * ((double) q[j] - x[j]);
		}
		away = sqrt(away);
		r = sqrt(r);
		bound = spf_query_ring(query, spf_query_centroid(query, c), (float) r, (float) r);
		if (metric == SPF_COSINE)
			qx /= 2;
		if (metric == SPF_IP)
			check(isinf(bound) && bound < 0, "ring: none", bound, -INFINITY);
		else
		{
			double		gap2 = (away - r) * (away - r) / (metric == SPF_COSINE ? 2 : 1);

			check(bound <= qx * (1 + 1e-6), "ring: a lower bound", bound, qx);
			check(bound >= 0.9 * gap2 - 1e-3, "ring: sharp", bound, gap2);
			check(spf_query_ring(query, spf_query_centroid(query, c), 0, FLT_MAX) == 0,
				  "ring: of everything", 0, 0);
		}
		free(query);
		free(q);
		free(c);
		free(x);
	}
}

/* Whatever meets whatever: no NaN, no infinity, and no bound above the truth. */
static void
check_wild_blocks(void)
{
	for (int i = 0; i < 600; i++)
	{
		int			dim = dims[next_random() % 20];
		SpfMetric	metric = (SpfMetric) (i % 3);
		SpfShape	shape;
		uint8_t    *block;
		uint8_t		code[SPF_MAX_DIM];
		SpfQuery   *query;
		float	   *x;
		float	   *q;
		float	   *c;
		float		est[SPF_MAX_LANES];
		float		lower[SPF_MAX_LANES];
		SpfEntryNumbers numbers;
		int			n = spf_padded(dim);
		float		centroid;
		int			bad = 0;

		spf_shape_init(&shape, dim, 1 + i % 4, 32 >> next_random() % 4);
		block = malloc(shape.bytes);
		query = malloc(spf_query_size(&shape));
		for (uint32_t j = 0; j < shape.bytes; j++)
			block[j] = (uint8_t) next_random();
		x = vector((Kind) (next_random() % KINDS), dim, n);
		q = vector((Kind) (next_random() % KINDS), dim, n);
		c = vector((Kind) (next_random() % KINDS), dim, n);
		spf_entry_encode(&shape, x, c, code, &numbers);
		spf_block_put(&shape, block, 0, code, &numbers);
		spf_query_init(query, &shape, metric, q, 0);
		centroid = spf_query_centroid(query, i % 5 == 0 ? NULL : c);
		spf_query_block(query, centroid, block, shape.lanes, INFINITY, est, lower);
		for (int j = 0; j < shape.lanes; j++)
			bad += !isfinite(est[j]) || !isfinite(lower[j]);
		check(isfinite(centroid), "wild: centroid", centroid, 0);
		check(bad == 0, "wild: block", bad, 0);
		free(x);
		free(q);
		free(c);
		free(block);
		free(query);
	}
}

/* ---- replicas ---- */

/* SOAR as its paper writes it */
static double
soar_double(int i, const float *x, int n, float *const *cand, const int *chosen, int nchosen)
{
	double		cost = l2sq_double(x, cand[i], n);

	for (int j = 0; j < nchosen; j++)
	{
		const float *c1 = cand[chosen[j]];
		double		product = 0;

		for (int k = 0; k < n; k++)
			product += ((double) x[k] - c1[k]) * ((double) x[k] - cand[i][k]);
		if (l2sq_double(x, c1, n) > 0)
			cost += product * product / l2sq_double(x, c1, n);
	}
	return cost;
}

static void
check_replicas_of(int n, int ncand, int want)
{
	float	   *x = vector(NORMAL, n, n);
	float	   *cand[20];
	float		dist2[20];
	int			chosen[8];
	int			count;

	for (int i = 0; i < ncand; i++)
	{
		cand[i] = vector(NORMAL, n, n);
		if (i == 0 && want % 3 == 0)
			memcpy(cand[i], x, sizeof(float) * n);
		dist2[i] = (float) l2sq_double(x, cand[i], n);
	}
	count = spf_choose_replicas(n, (const float *const *) cand, dist2, ncand, want, chosen);
	check(count == (want < ncand ? want : ncand), "replicas: how many", count, want);
	for (int k = 0; k < count; k++)
	{
		double		best = INFINITY;
		double		got = soar_double(chosen[k], x, n, cand, chosen, k);

		for (int j = 0; j < k; j++)
			check(chosen[j] != chosen[k], "replicas: different", chosen[j], chosen[k]);
		for (int i = 0; i < ncand; i++)
		{
			bool		taken = false;

			for (int j = 0; j < k; j++)
				taken = taken || chosen[j] == i;
			if (!taken)
				best = fmin(best, soar_double(i, x, n, cand, chosen, k));
		}
		check(got <= best * (1 + 1e-4), "replicas: the best", got, best);
	}
	for (int i = 0; i < ncand; i++)
		free(cand[i]);
	free(x);
}

static void
check_replicas(void)
{
	for (int i = 0; i < 400; i++)
		check_replicas_of(8 << i % 8, i % 20, 1 + i % 8);
}

/* ---- measuring ---- */

static double
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

static void
bench_scan(int dim, int bits, int misaligned)
{
	SpfShape	shape;
	uint8_t    *room;
	uint8_t    *blocks;
	SpfQuery   *query;
	float	   *q;
	float		est[SPF_MAX_LANES];
	float		lower[SPF_MAX_LANES];
	double		time;
	SpfBound	bound;
	int			nblocks;

	spf_shape_init(&shape, dim, bits, 32);
	nblocks = (1 << 18) / shape.bytes;
	room = malloc((size_t) shape.bytes * nblocks + 128);
	blocks = room + 64 - (uintptr_t) room % 64 + misaligned;
	for (size_t i = 0; i < (size_t) shape.bytes * nblocks; i++)
		blocks[i] = (uint8_t) next_random();
	q = vector(NORMAL, dim, shape.padded);
	query = malloc(spf_query_size(&shape));
	spf_query_init(query, &shape, SPF_L2, q, 0);
	spf_query_posting(query, 100, 1, &bound);
	bound.threshold = 100;
	MEASURE(time,
			for (int b = 0; b < nblocks; b++)
				spf_query_posting_block(query, &bound, blocks + (size_t) b * shape.bytes, 32,
										est, lower));
	printf("  scan %4d-d %d bits, blocks at 64n + %d: %6.2f ns an entry\n", dim, bits, misaligned,
		   time * 1e9 / nblocks / 32);
	free(room);
	free(query);
	free(q);
}

static void
bench_encode(int dim)
{
	SpfShape	shape;
	SpfRecordNumbers record;
	SpfEntryNumbers entry;
	SpfRotation *rot = rotation(dim, 3);
	int			n = spf_padded(dim);
	float	   *x = vector(NORMAL, dim, n);
	float	   *c = vector(NORMAL, dim, n);
	int8_t	   *v = malloc(n);
	uint8_t    *code = malloc(n);
	uint8_t    *block;
	SpfQuery   *query;
	double		time;
	float		est;
	float		lower;

	MEASURE(time, spf_rotate(rot, x, c));
	printf("  %4d-d: rotate %.2f us", dim, time * 1e6);
	MEASURE(time, spf_record_encode(x, n, v, &record));
	printf(", record %.2f us", time * 1e6);
	for (int bits = 1; bits <= 2; bits++)
	{
		spf_shape_init(&shape, dim, bits, 32);
		MEASURE(time, spf_entry_encode(&shape, x, c, code, &entry));
		printf(", entry of %d bits %.2f us", bits, time * 1e6);
	}
	block = calloc(1, shape.bytes);
	query = malloc(spf_query_size(&shape));
	MEASURE(time, spf_block_put(&shape, block, 5, code, &entry));
	printf(", put %.2f us", time * 1e6);
	MEASURE(time, spf_query_init(query, &shape, SPF_L2, x, 0));
	printf(", query %.2f us", time * 1e6);
	MEASURE(time, spf_query_record(query, v, &record, &est, &lower));
	printf(", bound %.0f ns\n", time * 1e9);
	free(rot);
	free(x);
	free(c);
	free(v);
	free(code);
	free(block);
	free(query);
}

static void
bench_float(int n)
{
	enum {ROWS = 64};
	float	   *x = vector(NORMAL, n, n);
	float	   *rows = vector(NORMAL, n * ROWS, n * ROWS);
	int8_t	   *v = malloc(n);
	float		out[ROWS];
	volatile float sink;
	double		time;

	MEASURE(time, spf_kernels->l2sq_rows(x, rows, ROWS, n, out));
	printf("  %4d-d: l2sq_rows %.1f GFlop/s", n, 3e-9 * n * ROWS / time);
	MEASURE(time, sink = spf_kernels->l2sq(x, rows, n));
	printf(", l2sq %.1f", 3e-9 * n / time);
	for (int i = 0; i < n; i++)
		v[i] = (int8_t) next_random();
	MEASURE(time, sink = spf_kernels->dot_i8(x, v, n));
	printf(", dot_i8 %.1f", 2e-9 * n / time);
	{
		static float at16[16];
		SpfRows16	rows16 = {(const uint8_t *) rows, at16, at16};
		SpfMeeting	meeting[SPF_MEET];
		uint32_t	below[SPF_MEET];

		for (int k = 0; k < SPF_MEET; k++)
			meeting[k] = (SpfMeeting) {v, 1, 0, 0, out};
		MEASURE(time, spf_kernels->meet(&rows16, n, meeting, SPF_MEET, below));
	}
	printf(", meet %.1f Gop/s\n", 2e-9 * n * 16 * SPF_MEET / time);
	(void) sink;
	free(x);
	free(rows);
	free(v);
}

/* ---- order ---- */

/* Sorting and picking, of keys of which some are equal, against the simplest way. */
static void
check_order_of(int n, int different)
{
	float		keys[2 * SPF_MAX_SORTED];
	int32_t		numbers[SPF_MAX_SORTED];
	int32_t		below[2 * SPF_MAX_SORTED];
	float		values[SPF_MAX_SORTED];
	int32_t		rank[SPF_MAX_SORTED];
	int			padded = (n + SPF_RANKS_PAD - 1) / SPF_RANKS_PAD * SPF_RANKS_PAD;
	int			found;
	int			bad = 0;

	for (int i = 0; i < 2 * n; i++)
		keys[i] = (float) ((int) (next_random() % different) - different / 2) * 1e30f;
	for (int i = 0; i < n; i++)
	{
		numbers[i] = 2 * i + 1;
		values[i] = keys[numbers[i]];
	}
	for (int i = n; i < padded; i++)
		values[i] = INFINITY;
	spf_kernels->ranks(values, padded, rank);
	for (int i = 0; i < n; i++)
	{
		int			smaller = 0;

		for (int j = 0; j < n; j++)
			smaller += values[j] < values[i];
		bad += rank[i] != smaller;
	}
	check(bad == 0, "ranks", bad, n);

	spf_keys_sort(keys, numbers, n);
	for (int i = 1; i < n; i++)
	{
		float		before = keys[numbers[i - 1]];
		float		here = keys[numbers[i]];

		bad += !(before < here || (before == here && numbers[i - 1] < numbers[i]));
	}
	check(bad == 0, "keys_sort", bad, n);
	for (int i = 0; i < n; i++)
		bad += spf_keys_ranked(values, n, i) != keys[numbers[i]];
	check(bad == 0, "keys_ranked", bad, n);

	found = spf_keys_below(keys, 2 * n, keys[0], below);
	for (int i = 0, j = 0; i < 2 * n; i++)
	{
		if (keys[i] < keys[0])
			bad += j >= found || below[j++] != i;
		else if (i == 2 * n - 1)
			bad += j != found;
	}
	check(bad == 0, "keys_below", bad, n);
}

static void
check_order(void)
{
	for (int n = 1; n <= SPF_MAX_SORTED; n++)
	{
		check_order_of(n, 1);
		check_order_of(n, 1 + n / 3);
		check_order_of(n, 1000000);
	}
}

static void
bench(void)
{
	printf("%s\n", spf_kernels->name);
	bench_scan(128, 1, 0);
	bench_scan(128, 1, 8);
	bench_scan(128, 2, 0);
	bench_scan(128, 2, 8);
	bench_scan(512, 1, 0);
	bench_scan(512, 1, 8);
	bench_scan(768, 1, 0);
	bench_scan(768, 1, 8);
	bench_float(128);
	bench_float(768);
	bench_encode(128);
	bench_encode(768);
}

int
main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--bench") == 0)
	{
		with_all_kernels(bench);
		return 0;
	}
	group("selection");
	check_selection();
	group("kernels");
	with_all_kernels(check_kernels);
	check_rotation();
	group("records");
	with_all_kernels(check_records_with);
	check_record_quality(128, 0.0062);
	check_record_quality(768, 0.0076);
	check_record_sharpness(128);
	check_record_sharpness(768);
	group("blocks and entry codes");
	with_all_kernels(check_entry_codes);
	group("estimates");
	with_all_kernels(check_entries);
	check_rings();
	group("overflow");
	with_all_kernels(check_wild_blocks);
	group("order");
	with_all_kernels(check_order);
	group("replicas");
	with_all_kernels(check_replicas);
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
