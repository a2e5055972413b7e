/*-------------------------------------------------------------------------
 *
 * sums.h
 *	  Sums in double precision, where an exact answer matters more than time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_SUMS_H
#define SPF_SUMS_H

#include "kernels/kernels.h"

/* <a, b> */
static inline double
spf_dot_double(const float *a, const float *b, int n)
{
	return spf_kernels->dot_double(a, b, n);
}

#endif							/* SPF_SUMS_H */
