/*-------------------------------------------------------------------------
 *
 * numbers_test.c
 *	  Checks of src/kernels, src/rotate.h, src/order.h and the choice of replicas, against plain
 *	  sums in double precision.
 *
 *	  numbers_test			run the checks
 *	  numbers_test --bench	measure
 *
 *-------------------------------------------------------------------------
 */
#include "numbers_test.h"

#include "order.h"

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

static void
bench(void)
{
	printf("%s\n", spf_kernels->name);
	bench_float(128);
	bench_float(768);
}

static void
checks(void)
{
	group("selection");
	check_selection();
	group("kernels");
	with_all_kernels(check_kernels);
	check_rotation();
	group("order");
	with_all_kernels(check_order);
	group("replicas");
	with_all_kernels(check_replicas);
}

int
main(int argc, char **argv)
{
	return run(argc, argv, checks, bench);
}
