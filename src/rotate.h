/*-------------------------------------------------------------------------
 *
 * rotate.h
 *	  The fast random orthogonal transform that every vector goes through.
 *
 * Rounds of random signs + fast Hadamard transform over the largest power of
 * two that fits (alternately from the front and from the back) + Kac mixing
 * where the dimension is no power of two.  O(D log D), no matrix; all signs
 * come from a 64-bit seed, with a generator of our own that never changes,
 * for the seed lives in the index.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_ROTATE_H
#define SPF_ROTATE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

#define SPF_MAX_DIM		8000

/* dim rounded up to a multiple of SPF_PAD: the length of everything rotated */
static inline int
spf_padded(int dim)
{
	return (dim + SPF_PAD - 1) / SPF_PAD * SPF_PAD;
}

typedef struct SpfRotation
{
	int			dim;			/* what comes in */
	int			padded;			/* what goes out */
	uint64_t	seed;
	uint8_t		signs[];		/* rounds x padded bits */
} SpfRotation;

/* Bytes that a rotation of this dimension takes. */
extern size_t spf_rotation_size(int dim);

/* Fill in `rot`, which has spf_rotation_size(dim) bytes. */
extern void spf_rotation_init(SpfRotation *rot, int dim, uint64_t seed);

/* out[padded] = R * in[padded], norms and distances kept; in == out is fine. */
extern void spf_rotate(const SpfRotation *rot, const float *in, float *out);

#endif							/* SPF_ROTATE_H */
