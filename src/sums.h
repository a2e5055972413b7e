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

/* <a, b>; n is a multiple of SPF_PAD, and so many sums run side by side */
static inline double
spf_dot_double(const float *a, const float *b, int n)
{
	double		lane[SPF_PAD] = {0};

	for (int i = 0; i < n; i += SPF_PAD)
		for (int j = 0; j < SPF_PAD; j++)
			lane[j] += (double) a[i + j] * (double) b[i + j];
	return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
		((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

#endif							/* SPF_SUMS_H */
