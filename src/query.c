/*-------------------------------------------------------------------------
 *
 * query.c
 *	  A query, and what can be said of its distance to what is coded.
 *
 *-------------------------------------------------------------------------
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "code.h"
#include "rotate.h"
#include "sums.h"

/* How many standard deviations a probable bound is from the estimate. */
#define SIGMAS			1.9

/* Half of the last place of a float: what one operation may round, relatively. */
#define UNIT			(1.0 / (1 << 24))

/* What rotating a vector may do to it, relative to its norm; measured: 2.2e-7. */
#define ROTATION		1e-6

/* Squares below this may have vanished from a float, or be only roughly right. */
#define LOST2			1e-30

/* Whatever underflows in an exact distance does not add up to this. */
#define VANISHED		FLT_MIN

/* Scores beyond this are treated as this, so that no kernel's sum overflows. */
#define HUGE_SCORE		1e38f

#define ALIGNMENT		64

static float
to_float(double d)
{
	if (d >= FLT_MAX)
		return FLT_MAX;
	if (d <= -FLT_MAX)
		return -FLT_MAX;
	return (float) d;
}

size_t
spf_query_size(const SpfShape *shape)
{
	/* the table is as large as the vector: 16 bytes for each 4 floats */
	return sizeof(SpfQuery) + ALIGNMENT + 2 * sizeof(float) * shape->padded;
}

/* The first aligned place at or after p. */
static char *
align(char *p)
{
	return p + (ALIGNMENT - (uintptr_t) p % ALIGNMENT) % ALIGNMENT;
}

/*
 * The table: for each 4 dimensions and each nibble, sum of +-q/2 over the
 * nibble's bits, less the smallest of the 16, in units of lut_delta.
 */
static void
make_table(SpfQuery *query)
{
	int			groups = query->shape.padded / 4;
	double		planes = (1 << query->shape.bits) - 1;
	double		planes2 = ((1 << 2 * query->shape.bits) - 1) / 3;
	double		widest = 0;
	double		total = 0;
	double		inverse;

	for (int g = 0; g < groups; g++)
	{
		double		range = 0;

		for (int j = 0; j < 4; j++)
			range += fabs((double) query->q[4 * g + j]);
		widest = range > widest ? range : widest;
		total += range;
	}
	inverse = widest > 0 && widest <= DBL_MAX ? 255 / widest : 0;
	for (int g = 0; g < groups; g++)
	{
		float		sum[16] = {0.5f};	/* for the rounding of all */
		uint8_t		steps[16];	/* in a place that nothing else can be in, so that all are converted at once */

		float		part[4];

		for (int j = 0; j < 4; j++)
			part[j] = (float) (query->q[4 * g + j] * inverse);

		/* all bits at their worse value, then the nibbles with 1, 2, 4, 8 more bits */
		for (int j = 0; j < 4; j++)
			sum[0] -= part[j] < 0 ? part[j] : 0;
		for (int j = 0; j < 4; j++)
			for (int low = 0; low < 1 << j; low++)
				sum[(1 << j) + low] = sum[low] + part[j];
		for (int nibble = 0; nibble < 16; nibble++)
			steps[nibble] = (uint8_t) (int) sum[nibble];
		memcpy(query->lut + 16 * g, steps, sizeof(steps));
	}
	query->lut_delta = to_float(widest / 255);
	query->lut_base = to_float(-0.5 * total * planes);

	/* each lookup is wrong by up to half a step, evenly; plane p counts 2^p fold */
	query->lut_sigma = to_float(widest / 255 * sqrt(groups * planes2 / 12));
}

void
spf_query_init(SpfQuery *query, const SpfShape *shape, SpfMetric metric,
			   const float *rotated, float offset)
{
	char	   *room = align((char *) (query + 1));

	query->metric = metric;
	query->shape = *shape;
	query->offset = metric == SPF_IP ? offset : 0;
	query->origin_norm = 0;
	query->spread = (float) (SIGMAS / sqrt(shape->dim > 1 ? shape->dim - 1 : 1));
	query->q = (float *) room;
	query->lut = (uint8_t *) (query->q + shape->padded);
	memcpy(query->q, rotated, sizeof(float) * shape->padded);
	query->norm2 = to_float(spf_dot_double(rotated, rotated, shape->padded));
	make_table(query);
}

/*
 * How far <q, x> may be from <q, x^> for a record, x^ being what it decodes to.
 *
 * x - x^ is orthogonal to x^ and not longer than err, so only that part of q
 * counts that is orthogonal to x^, too.  |x^| follows from |x|^2 = |x^|^2 + e^2,
 * where e, the true error, is a little less than err; taking it too small
 * makes |x^| too large and the answer too large, which is the safe side, and so
 * is taking <q, x^> too small, by `rounding`.
 */
static double
product_gap(double q2, double dot, const SpfRecordNumbers *numbers, double rounding)
{
	double		x2 = numbers->norm2 * (1 + 2 * UNIT);
	double		e = fmax(0, numbers->err - 4e-7 * sqrt(x2));
	double		decoded2 = x2 - e * e;
	double		along = fmax(0, fabs(dot) - rounding);
	double		rest2 = q2;

	if (decoded2 > LOST2)
		rest2 = fmax(0, q2 - along * along / decoded2);
	return numbers->err * sqrt(rest2);
}

/*
 * All that was rounded on the way to the two numbers that will be compared:
 * rotations, the sums of dot_i8 (whose chains have a quarter of a vector's
 * length at most) on this side, and on the other a distance added up in any
 * order, in the worst case one by one (`exact`).
 */
void
spf_query_record(const SpfQuery *query, const int8_t *v,
				 const SpfRecordNumbers *numbers, float *est, float *lower)
{
	int			n = query->shape.padded;
	double		dot = (double) spf_kernels->dot_i8(query->q, v, n) * numbers->scale;
	double		q2 = query->norm2 * (1 + 2 * UNIT) + FLT_MIN;
	double		x2 = numbers->norm2 * (1 + 2 * UNIT) + FLT_MIN;
	double		norms = sqrt(q2 * x2);
	double		sums = (n / 8 + 16) * UNIT;
	double		exact = (n + 8) * UNIT;
	double		gap;
	bool		known = isfinite(dot) && q2 < FLT_MAX && x2 < FLT_MAX;

	if (!known)
		dot = 0;
	gap = product_gap(q2, dot, numbers, sums * norms);

	if (query->metric == SPF_IP)
	{
		double		score = -(query->offset + dot);
		double		slack = (2 * ROTATION + sums + exact) * norms +
			exact * sqrt(q2) * query->origin_norm + 4 * UNIT * fabs(query->offset) + VANISHED;

		*est = to_float(score);
		score -= gap + slack;
		*lower = known && score > -FLT_MAX ? to_float(score) : -INFINITY;
	}
	else
	{
		double		half = query->metric == SPF_COSINE ? 0.5 : 1;
		double		both = q2 + x2 + 2 * norms; /* (|q| + |x|)^2 */
		double		score = (double) query->norm2 + numbers->norm2 - 2 * dot;
		double		low = score - 2 * gap - (2 * ROTATION + sums) * both;

		low = low * half * (1 - exact) - VANISHED;
		if (query->metric == SPF_COSINE)
			low -= 2 * exact;	/* 1 - cos is added up from numbers of size 1 */
		*est = to_float(fmax(0, score * half));
		*lower = known ? to_float(fmax(0, low)) : 0;
	}
}

/* A score is never NaN, whatever overflowed. */
static float
known_score(const SpfQuery *query, float score)
{
	if (isnan(score))
		return query->metric == SPF_IP ? 0 : FLT_MAX;
	return to_float(score);
}

float
spf_query_centroid(const SpfQuery *query, const float *c)
{
	int			n = query->shape.padded;
	float		score;

	if (query->metric == SPF_IP)
		return known_score(query, c == NULL ? -query->offset :
						   -(query->offset + spf_kernels->dot(query->q, c, n)));
	score = c != NULL ? spf_kernels->l2sq(query->q, c, n) : query->norm2;
	return known_score(query, query->metric == SPF_COSINE ? score / 2 : score);
}

float
spf_query_ring(const SpfQuery *query, float centroid, float min, float max)
{
	double		half = query->metric == SPF_COSINE ? 0.5 : 1;
	double		away = sqrt(fmax(0, centroid / half));
	double		gap = fmax(min - away, away - max);

	if (query->metric == SPF_IP || !(away < HUGE_SCORE))
		return -INFINITY;

	/* less what the numbers may have been rounded by: they are of the size of `away` */
	gap = fmax(0, gap - 1e-5 * (away + fabs(gap)));
	return to_float(gap * gap * half);
}

float
spf_query_coded_centroid(const SpfQuery *query, const int8_t *v, float scale)
{
	int			n = query->shape.padded;
	float		score;

	if (query->metric == SPF_IP)
		return known_score(query, -(query->offset +
									scale * spf_kernels->dot_i8(query->q, v, n)));
	score = spf_kernels->l2sq_i8(query->q, v, scale, n);
	return known_score(query, query->metric == SPF_COSINE ? score / 2 : score);
}

void
spf_query_posting(const SpfQuery *query, float centroid, float caution, SpfBound *out)
{
	float		length = query->metric == SPF_IP ? query->norm2 : fmaxf(0, centroid);
	bool		known = fabsf(centroid) < HUGE_SCORE && length < HUGE_SCORE;
	SpfBound	bound;

	bound.base = known ? centroid : (centroid < 0 ? -HUGE_SCORE : HUGE_SCORE);
	bound.a = 1;
	bound.m = 2;
	if (query->metric == SPF_IP)
	{
		bound.a = 0;
		bound.m = 1;
	}
	else if (query->metric == SPF_COSINE)
	{
		bound.a = 0.5f;
		bound.m = 1;
		length *= 2;			/* a score is half of a squared distance */
	}
	bound.lut_delta = query->lut_delta;
	bound.lut_base = query->lut_base;
	bound.perp_factor = known ? caution * bound.m * query->spread * sqrtf(length) : INFINITY;
	bound.lut_factor = to_float(caution * bound.m * SIGMAS * (double) query->lut_sigma);
	bound.threshold = INFINITY;
	*out = bound;
}

uint32_t
spf_query_posting_block(const SpfQuery *query, const SpfBound *bound, const uint8_t *block,
						int used, float *est, float *lower)
{
	const SpfShape *shape = &query->shape;
	const float *add = (const float *) (block + shape->codes_bytes);
	const float *mul = add + shape->lanes;
	const uint16_t *perp = (const uint16_t *) (mul + shape->lanes);
	uint32_t	sums[SPF_MAX_LANES];
	uint32_t	mask;

	/* all lanes, for unused ones cost nothing; their numbers mean nothing */
	spf_kernels->scan(block, query->lut, shape->padded / 4, shape->bits, shape->lanes, sums);
	mask = spf_kernels->bound(sums, add, mul, perp, shape->lanes, bound, est, lower);
	return used < SPF_MAX_LANES ? mask & ((UINT32_C(1) << used) - 1) : mask;
}

uint32_t
spf_query_block(const SpfQuery *query, float centroid, const uint8_t *block,
				int used, float threshold, float *est, float *lower)
{
	SpfBound	bound;

	spf_query_posting(query, centroid, 1, &bound);
	bound.threshold = threshold;
	return spf_query_posting_block(query, &bound, block, used, est, lower);
}
