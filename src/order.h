/*-------------------------------------------------------------------------
 *
 * order.h
 *	  Picking and sorting small numbers of keys, without guessing.
 *
 * A branch that depends on a key is as often predicted wrong as right, which costs as
 * much as looking at dozens of keys.  So nothing here has one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_ORDER_H
#define SPF_ORDER_H

#include <stdint.h>

/* The numbers i < n with keys[i] < limit go to out[n], ascending; returns how many. */
extern int	spf_keys_below(const float *keys, int n, float limit, int32_t *out);

/* Sort numbers[n] by keys[numbers[i]], equal keys staying as they are; n <= SPF_MAX_SORTED. */
#define SPF_MAX_SORTED	192		/* a multiple of SPF_RANKS_PAD, below 256 */
extern void spf_keys_sort(const float *keys, int32_t *numbers, int n);

/* The key that `rank` of values[n] come before; n <= SPF_MAX_SORTED, rank < n. */
extern float spf_keys_ranked(const float *values, int n, int rank);

#endif							/* SPF_ORDER_H */
