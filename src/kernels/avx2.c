/*-------------------------------------------------------------------------
 *
 * avx2.c
 *	  The kernels for AVX2 and FMA.
 *
 *-------------------------------------------------------------------------
 */
#include "sets.h"

#ifdef SPF_X86

#include <float.h>
#include <immintrin.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define FLOATS	8

typedef __m256 VF;
typedef uint16_t VW __attribute__((vector_size(32)));

#include "x86.h"

static inline VF
vf_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

static inline void
vf_store(float *p, VF v)
{
	_mm256_storeu_ps(p, v);
}

static inline VF
vf_set1(float v)
{
	return _mm256_set1_ps(v);
}

static inline VF
vf_fma(VF a, VF b, VF c)
{
	return _mm256_fmadd_ps(a, b, c);
}

static inline VF
vf_max(VF a, VF b)
{
	return _mm256_max_ps(a, b);
}

static inline VF
vf_min(VF a, VF b)
{
	return _mm256_min_ps(a, b);
}

static inline VF
vf_load_i8(const int8_t *p)
{
	__m128i		eight = _mm_loadl_epi64((const __m128i *) p);

	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
}

static inline VF
vf_load_u32(const uint32_t *p)
{
	return _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *) p));
}

static inline VF
vf_load_bf16(const uint16_t *p)
{
	__m256i		eight = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) p));

	return _mm256_castsi256_ps(_mm256_slli_epi32(eight, 16));
}

static inline __m128
halves(VF v)
{
	return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
}

static inline void
vf_sum4(VF a, VF b, VF c, VF d, float *out)
{
	store_sums4(halves(a), halves(b), halves(c), halves(d), out);
}

static inline uint32_t
vf_less(VF a, VF b)
{
	return (uint32_t) _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

static inline VW
vw_shuffle(VW table, VW index)
{
	return (VW) _mm256_shuffle_epi8((__m256i) table, (__m256i) index);
}

static inline VH
vw_fold(VW v)
{
	return (VH) _mm256_castsi256_si128((__m256i) v) +
		(VH) _mm256_extracti128_si256((__m256i) v, 1);
}

/* never called: SPF_PAD floats are no less than a whole vector */
#define vf_load_half	vf_load
#define vf_load_i8_half	vf_load_i8
#define vw_load_half	vw_load

static inline void
vh_add16(uint32_t *sums, VH a, VH b)
{
	__m256i    *at = (__m256i *) sums;
	__m256i		first = _mm256_cvtepu16_epi32((__m128i) a);
	__m256i		second = _mm256_cvtepu16_epi32((__m128i) b);

	_mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), first));
	_mm256_storeu_si256(at + 1, _mm256_add_epi32(_mm256_loadu_si256(at + 1), second));
}

typedef __m256i VI;

static inline VI
vi_zero(void)
{
	return _mm256_setzero_si256();
}

static inline VI
vi_load(const uint8_t *p)
{
	return _mm256_loadu_si256((const __m256i *) p);
}

static inline VI
vi_set1(const int8_t *p)
{
	int32_t		four;

	memcpy(&four, p, 4);
	return _mm256_set1_epi32(four);
}

static inline VF
vi_floats(VI v)
{
	return _mm256_cvtepi32_ps(v);
}

/* two products of 7 by 8 bits do not overflow 16 */
static inline VI
vi_dot4(VI sum, VI a, VI b)
{
	return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b),
												   _mm256_set1_epi16(1)));
}

#include "vector.h"


#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static bool
supported(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const SpfKernels spf_kernels_avx2 = {
	.name = "avx2",
	.supported = supported,
	.dot = dot,
	.dot_double = dot_double,
	.l2sq = l2sq,
	.l2sq_rows = l2sq_rows,
	.dot_i8 = dot_i8,
	.l2sq_i8 = l2sq_i8,
	.add = add,
	.add_i8 = add_i8,
	.meet = meet,
	.grid_loss = grid_loss,
	.scan = scan,
	.bound = bound,
	.ranks = ranks
};

#endif							/* SPF_X86 */
