/*-------------------------------------------------------------------------
 *
 * packed.h
 *	  Rows of 7 bits a component by sixteens, and vectors of 8 bits to meet them.
 *
 * Which of many centroids is the nearest to each of many points is most of the
 * work of a build.  The points are there as codes of 8 bits; with the centroids in 7,
 * one instruction does what takes 8 and more on floats, and the centroids take a
 * quarter of the cache.  What rounding a centroid moves a distance by is a few
 * thousandths of it: enough to choose candidates by, and to train.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_PACKED_H
#define SPF_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

typedef struct SpfPacked
{
	int			padded;
	uint8_t    *codes;			/* [blocks x padded x 16] */
	float	   *norm2;			/* [blocks x 16] */
	float	   *scale;			/* [blocks x 16] */
} SpfPacked;

/* Bytes for so many blocks; a multiple of 64. */
extern size_t spf_packed_space(int padded, size_t blocks);

/* Lay them out in memory that begins at a line of the cache. */
extern SpfPacked spf_packed_map(void *memory, int padded, size_t blocks);

/* Put row c[padded], less origin[padded] (may be NULL), into its place. */
extern void spf_packed_put(const SpfPacked *packed, size_t at, const float *c,
						   const float *origin);

/* Places from `at` to the end of its block hold nothing: infinitely far from everything. */
extern void spf_packed_end(const SpfPacked *packed, size_t at);

static inline SpfRows16
spf_packed_rows(const SpfPacked *packed, size_t block)
{
	return (SpfRows16) {
		packed->codes + block * 16 * (size_t) packed->padded,
			packed->norm2 + block * 16, packed->scale + block * 16
	};
}

/* A vector that will meet rows: scale * code[n]. */
extern void spf_meeting_init(SpfMeeting *meeting, const int8_t *code, float scale, int n);

/* Round x[n], less origin[n], to 8 bits; returns the scale. */
extern float spf_round_8bit(const float *x, const float *origin, int n, int8_t *code);

#endif							/* SPF_PACKED_H */
