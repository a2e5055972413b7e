/*-------------------------------------------------------------------------
 *
 * avx512.c
 *	  The kernels for AVX-512 (F, BW, VL, DQ).
 *
 *-------------------------------------------------------------------------
 */
#include "sets.h"

#ifdef SPF_X86

#include <float.h>
#include <immintrin.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push( \
	__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")
#endif

#define FLOATS	16

typedef __m512 VF;
typedef uint16_t VW __attribute__((vector_size(64)));

#include "x86.h"

static inline VF
vf_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

static inline void
vf_store(float *p, VF v)
{
	_mm512_storeu_ps(p, v);
}

static inline VF
vf_set1(float v)
{
	return _mm512_set1_ps(v);
}

static inline VF
vf_fma(VF a, VF b, VF c)
{
	return _mm512_fmadd_ps(a, b, c);
}

static inline VF
vf_max(VF a, VF b)
{
	return _mm512_max_ps(a, b);
}

static inline VF
vf_min(VF a, VF b)
{
	return _mm512_min_ps(a, b);
}

static inline VF
vf_load_half(const float *p)
{
	return _mm512_zextps256_ps512(_mm256_loadu_ps(p));
}

static inline VF
vf_load_i8(const int8_t *p)
{
	__m128i		many = _mm_loadu_si128((const __m128i *) p);

	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(many));
}

static inline VF
vf_load_i8_half(const int8_t *p)
{
	__m128i		eight = _mm_loadl_epi64((const __m128i *) p);

	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(eight));
}

static inline VF
vf_load_u32(const uint32_t *p)
{
	return _mm512_cvtepi32_ps(_mm512_loadu_si512(p));
}

static inline VF
vf_load_bf16(const uint16_t *p)
{
	__m512i		many = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) p));

	return _mm512_castsi512_ps(_mm512_slli_epi32(many, 16));
}

static inline __m128
quarters(VF v)
{
	__m256		half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));

	return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

static inline void
vf_sum4(VF a, VF b, VF c, VF d, float *out)
{
	store_sums4(quarters(a), quarters(b), quarters(c), quarters(d), out);
}

static inline uint32_t
vf_less(VF a, VF b)
{
	return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

static inline VW
vw_load_half(const uint8_t *p)
{
	return (VW) _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *) p));
}

static inline VW
vw_shuffle(VW table, VW index)
{
	return (VW) _mm512_shuffle_epi8((__m512i) table, (__m512i) index);
}

static inline VH
vw_fold(VW v)
{
	__m256i		half = _mm256_add_epi16(_mm512_castsi512_si256((__m512i) v),
										_mm512_extracti64x4_epi64((__m512i) v, 1));

	return (VH) _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

static inline void
vh_add16(uint32_t *sums, VH a, VH b)
{
	__m256i		both = _mm256_castsi128_si256((__m128i) a);

	both = _mm256_inserti128_si256(both, (__m128i) b, 1);
	_mm512_storeu_si512(sums, _mm512_add_epi32(_mm512_loadu_si512(sums),
											   _mm512_cvtepu16_epi32(both)));
}

typedef __m512i VI;

static inline VI
vi_zero(void)
{
	return _mm512_setzero_si512();
}

static inline VI
vi_load(const uint8_t *p)
{
	return _mm512_loadu_si512(p);
}

static inline VI
vi_set1(const int8_t *p)
{
	int32_t		four;

	memcpy(&four, p, 4);
	return _mm512_set1_epi32(four);
}

static inline VF
vi_floats(VI v)
{
	return _mm512_cvtepi32_ps(v);
}

/* two products of 7 by 8 bits do not overflow 16 */
static inline VI
vi_dot4(VI sum, VI a, VI b)
{
	return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b),
												   _mm512_set1_epi16(1)));
}

#include "vector.h"


#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

/* The same with one instruction for four products, where there is one. */
#if defined(__clang__)
#pragma clang attribute push( \
	__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma"))), \
	apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")
#endif

#define MEET			meet_vnni
#define MEET_DOT4		_mm512_dpbusd_epi32
#include "meet.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static void
meet_best(const SpfRows16 *rows, int n, const SpfMeeting *x, int nx, uint32_t *below)
{
	if (__builtin_cpu_supports("avx512vnni"))
		meet_vnni(rows, n, x, nx, below);
	else
		meet(rows, n, x, nx, below);
}

static bool
supported(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

const SpfKernels spf_kernels_avx512 = {
	.name = "avx512",
	.supported = supported,
	.dot = dot,
	.dot_double = dot_double,
	.l2sq = l2sq,
	.l2sq_rows = l2sq_rows,
	.dot_i8 = dot_i8,
	.l2sq_i8 = l2sq_i8,
	.add = add,
	.add_i8 = add_i8,
	.meet = meet_best,
	.grid_loss = grid_loss,
	.scan = scan,
	.bound = bound,
	.ranks = ranks
};

#endif							/* SPF_X86 */
