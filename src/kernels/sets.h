/*-------------------------------------------------------------------------
 *
 * sets.h
 *	  The sets of kernels that this machine's compiler can build.
 *
 * For the files of src/kernels only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_KERNELS_SETS_H
#define SPF_KERNELS_SETS_H

#include "kernels.h"

#if defined(__x86_64__)
#define SPF_X86
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SPF_NEON
#endif

#ifdef SPF_X86
extern const SpfKernels spf_kernels_avx512;
extern const SpfKernels spf_kernels_avx2;
extern const SpfKernels spf_kernels_sse;
#endif
#ifdef SPF_NEON
extern const SpfKernels spf_kernels_neon;
#endif
extern const SpfKernels spf_kernels_portable;

#endif							/* SPF_KERNELS_SETS_H */
