/*-------------------------------------------------------------------------
 *
 * code.h
 *	  What vectors are turned into, and what can be said of distances from it.
 *
 * Two codes, both of rotated vectors of `padded` floats (DESIGN: rotate.h):
 *
 * - the record code: 8 bits a dimension of x itself, with the exact norm of
 *   what it lost, which gives a true lower bound of any distance to x;
 * - the entry code (RaBitQ, SIGMOD 2024; its extended form for more bits,
 *   SIGMOD 2025): 1 to 4 bits a dimension of r = x - c, which gives an
 *   estimate and a probable lower bound.  Entries lie in blocks of `lanes`.
 *
 * Nothing here knows of pages or of PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_CODE_H
#define SPF_CODE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* What is small is near.  Cosine is L2 over normalised vectors. */
typedef enum SpfMetric
{
	SPF_L2 = 0,					/* score: |q - x|^2 */
	SPF_IP = 1,					/* score: -<q, x> */
	SPF_COSINE = 2				/* score: 1 - <q, x> / |q||x| = |qn - xn|^2 / 2 */
} SpfMetric;

/* ---- the record code ---- */

typedef struct SpfRecordNumbers
{
	float		scale;			/* decoded x = scale * v: x's projection on v */
	float		err;			/* |x - decoded|, rounded up past all float rounding */
	float		norm2;			/* |x|^2 */
} SpfRecordNumbers;

/* Encode x[n] into v[n] (-127..127); tries some 24 grid scales. */
extern void spf_record_encode(const float *x, int n, int8_t *v, SpfRecordNumbers *numbers);

/* out[n] = the decoded vector */
extern void spf_record_decode(const int8_t *v, float scale, int n, float *out);

/* ---- blocks of entries ---- */

/*
 * The shape of a block.  Its bytes: first the codes, then add[lanes] (float),
 * mul[lanes] (float), perp[lanes] (bfloat16, rounded up).
 *
 * Codes, plane by plane, most significant plane first; within a plane:
 * - lanes = 32: for each group of 4 dimensions 16 bytes; byte i holds the
 *   nibble of lane i (low half) and of lane i + 16 (high half);
 * - lanes = 16, 8 or 4: for each pair of groups `lanes` bytes; byte i holds
 *   lane i's nibble of the first group (low half) and of the second (high).
 * Bit j of a nibble belongs to dimension 4 * group + j.
 */
typedef struct SpfShape
{
	int			dim;
	int			padded;
	int			bits;			/* planes, 1..SPF_MAX_BITS */
	int			lanes;			/* 32, 16, 8 or 4 */
	uint32_t	codes_bytes;	/* bits * padded * lanes / 8 */
	uint32_t	bytes;			/* codes and numbers: codes_bytes + 10 * lanes */
} SpfShape;

extern void spf_shape_init(SpfShape *shape, int dim, int bits, int lanes);

/*
 * An entry's numbers.  With g = code - (2^bits - 1) / 2 (the symmetric grid)
 * and mul = |r|^2 / <r, g>:  add = |r|^2 + 2 * mul * <c, g>;  perp = |r| tan(r, g).
 * All zero for r = 0.
 */
typedef struct SpfEntryNumbers
{
	float		add;
	float		mul;
	float		perp;
} SpfEntryNumbers;

/*
 * Encode r = x - c: code[padded] gets values 0 .. 2^bits - 1, at the scale that
 * maximises the cosine between r and g.  c may be NULL: the zero vector.
 */
extern void spf_entry_encode(const SpfShape *shape, const float *x, const float *c,
							 uint8_t *code, SpfEntryNumbers *numbers);

/* The numbers that an entry with this code must have (the verifier). */
extern void spf_entry_numbers(const SpfShape *shape, const float *x, const float *c,
							  const uint8_t *code, SpfEntryNumbers *numbers);

/* Put an entry into a lane of a block, whatever was there before. */
extern void spf_block_put(const SpfShape *shape, uint8_t *block, int lane,
						  const uint8_t *code, const SpfEntryNumbers *numbers);

/* Copy one lane, codes and numbers, to a lane of this or another block. */
extern void spf_block_copy(const SpfShape *shape, uint8_t *to, int to_lane,
						   const uint8_t *from, int from_lane);

/* Read a lane's code back (tests, the verifier). */
extern void spf_block_get(const SpfShape *shape, const uint8_t *block, int lane,
						  uint8_t *code, SpfEntryNumbers *numbers);

/*
 * Between which distances from its centroid the vector of an entry is, as follows from its code and
 * numbers; max may be infinite.
 */
extern void spf_entry_distance(const SpfShape *shape, const uint8_t *code,
							   const SpfEntryNumbers *numbers, float *min, float *max);

/*
 * The mask of lanes, of the first `used`, whose numbers are these: equal vectors in
 * the same posting have equal numbers (but for the last bits, between
 * instruction sets), and hardly any others do.
 */
extern uint32_t spf_block_match(const SpfShape *shape, const uint8_t *block, int used,
								const SpfEntryNumbers *numbers);

/* ---- a query, ready to meet both codes ---- */

/*
 * q is the rotated query: of (q - origin) for L2 and cosine, of q itself for
 * inner product, where offset = <q, origin> has to be added to <Rq, x'>.
 * Under SPF_COSINE q was normalised before the origin was taken off.
 */
typedef struct SpfQuery
{
	SpfMetric	metric;
	SpfShape	shape;
	float		offset;			/* SPF_IP only */
	float		origin_norm;	/* SPF_IP: |origin|, set after spf_query_init; 0 there */
	float		norm2;			/* |q|^2 */
	float		lut_delta;
	float		lut_base;
	float		spread;			/* 1.9 / sqrt(dim - 1): how far errors of estimates go */
	float		lut_sigma;		/* standard deviation of s from the table's rounding */
	float	   *q;				/* [padded], points into this allocation */
	uint8_t    *lut;			/* [padded / 4][16], likewise */
} SpfQuery;

/* Bytes for a query and its table, one allocation. */
extern size_t spf_query_size(const SpfShape *shape);

/* Lay out `query` (spf_query_size bytes), copy `rotated` into it, make the table. */
extern void spf_query_init(SpfQuery *query, const SpfShape *shape, SpfMetric metric,
						   const float *rotated, float offset);

/*
 * Estimate and true lower bound of the score of a record.  A lower bound holds in spite of
 * float rounding, here and in the exact distance it will be compared with.
 */
extern void spf_query_record(const SpfQuery *query, const int8_t *v,
							 const SpfRecordNumbers *numbers, float *est, float *lower);

/*
 * The score (exact but for float rounding) of a decoded centroid c[padded],
 * NULL for the zero vector.
 */
extern float spf_query_centroid(const SpfQuery *query, const float *c);

/* Likewise of one as its record holds it: of scale * v. */
extern float spf_query_coded_centroid(const SpfQuery *query, const int8_t *v, float scale);

/*
 * A lower bound of the scores of all vectors that lie between `min` and `max` from a centroid of
 * this score: by the triangle inequality.  None (minus infinity) under SPF_IP.
 */
extern float spf_query_ring(const SpfQuery *query, float centroid, float min, float max);

/*
 * What the blocks of a posting have in common, whose centroid has the score `centroid` (of the kind
 * that spf_query_record's est or spf_query_centroid give).  Lower bounds will be
 * `caution` times 1.9 standard deviations below the estimates.  The threshold, at first
 * infinite, is the caller's to set.
 */
extern void spf_query_posting(const SpfQuery *query, float centroid, float caution,
							  SpfBound *bound);

/*
 * Scan the first `used` lanes of a block of such a posting.  Lane i's estimated score and
 * probable lower bound go to est[i], lower[i] (room for SPF_MAX_LANES each);
 * returns the mask of lanes with lower < bound->threshold.
 */
extern uint32_t spf_query_posting_block(const SpfQuery *query, const SpfBound *bound,
										const uint8_t *block, int used, float *est,
										float *lower);

/* Both in one, for a single block: with a caution of 1. */
extern uint32_t spf_query_block(const SpfQuery *query, float centroid, const uint8_t *block,
								int used, float threshold, float *est, float *lower);

/* ---- which postings a vector goes to ---- */

/*
 * Of `ncand` centroids (cand[i][padded], dist2[i] = |x - cand[i]|^2) choose up to `want`: first
 * the nearest, then by SOAR (NeurIPS 2023): the one that
 * minimises |r2|^2 + sum over the chosen r1 of (<r1, r2> / |r1|)^2.  Indexes go to
 * chosen[]; returns how many.
 */
extern int	spf_choose_replicas(int padded, const float *const *cand, const float *dist2,
								int ncand, int want, int *chosen);

/* The same of candidates that are known by dist2, and by how far they are apart, squared: (i, k). */
typedef float (*SpfApart) (void *state, int i, int k);

extern int	spf_choose_replicas_by(const float *dist2, int ncand, int want, int *chosen,
								   SpfApart apart, void *state);

#endif							/* SPF_CODE_H */
