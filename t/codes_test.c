/*-------------------------------------------------------------------------
 *
 * codes_test.c
 *	  Checks of all that src/code.h promises of records and entries, their estimates and bounds,
 *	  against plain sums in double precision.
 *
 *	  codes_test			run the checks
 *	  codes_test --bench	measure
 *
 *-------------------------------------------------------------------------
 */
#include "numbers_test.h"

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

#define QUALITY_VECTORS		5000

/* The code is not only right, it is good: of normal data little is lost. */
static void
check_record_quality(int dim, double wanted)
{
	SpfRecordNumbers numbers;
	int8_t	   *v = malloc(dim);
	double		sum = 0;

	/* so many that the mean does not hang on which vectors they are */
	for (int i = 0; i < QUALITY_VECTORS; i++)
	{
		float	   *x = vector(NORMAL, dim, dim);

		spf_record_encode(x, dim, v, &numbers);
		sum += numbers.err / sqrt(numbers.norm2) / QUALITY_VECTORS;
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

/* ---- measuring ---- */

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
	bench_encode(128);
	bench_encode(768);
}

static void
checks(void)
{
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
}

int
main(int argc, char **argv)
{
	return run(argc, argv, checks, bench);
}
