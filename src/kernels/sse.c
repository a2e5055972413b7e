/*-------------------------------------------------------------------------
 *
 * sse.c
 *	  The kernels for SSSE3 and SSE4.1.
 *
 *-------------------------------------------------------------------------
 */
#include "sets.h"

#ifdef SPF_X86

#include <float.h>
#include <immintrin.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("ssse3,sse4.1"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("ssse3,sse4.1")
#endif

#define FLOATS	4

typedef __m128 VF;
typedef uint16_t VW __attribute__((vector_size(16)));

#include "x86.h"

static inline VF
vf_load(const float *p)
{
	return _mm_loadu_ps(p);
}

static inline void
vf_store(float *p, VF v)
{
	_mm_storeu_ps(p, v);
}

static inline VF
vf_set1(float v)
{
	return _mm_set1_ps(v);
}

static inline VF
vf_fma(VF a, VF b, VF c)
{
	return a * b + c;
}

static inline VF
vf_max(VF a, VF b)
{
	return _mm_max_ps(a, b);
}

static inline VF
vf_min(VF a, VF b)
{
	return _mm_min_ps(a, b);
}

static inline VF
vf_load_i8(const int8_t *p)
{
	int32_t		four;

	memcpy(&four, p, sizeof(four));
	return _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four)));
}

static inline VF
vf_load_u32(const uint32_t *p)
{
	return _mm_cvtepi32_ps(_mm_loadu_si128((const __m128i *) p));
}

static inline VF
vf_load_bf16(const uint16_t *p)
{
	__m128i		four = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *) p));

	return _mm_castsi128_ps(_mm_slli_epi32(four, 16));
}

static inline void
vf_sum4(VF a, VF b, VF c, VF d, float *out)
{
	store_sums4(a, b, c, d, out);
}

static inline uint32_t
vf_less(VF a, VF b)
{
	return (uint32_t) _mm_movemask_ps(_mm_cmplt_ps(a, b));
}

static inline VW
vw_shuffle(VW table, VW index)
{
	return vh_shuffle(table, index);
}

static inline VH
vw_fold(VW v)
{
	return v;
}

/* never called: SPF_PAD floats are no less than a whole vector */
#define vf_load_half	vf_load
#define vf_load_i8_half	vf_load_i8
#define vw_load_half	vw_load

static inline void
vh_add16(uint32_t *sums, VH a, VH b)
{
	const VH	zero = {0};
	VH			wide[4] = {
		vh_zip_lo(a, zero), vh_zip_hi(a, zero), vh_zip_lo(b, zero), vh_zip_hi(b, zero)
	};

	for (int i = 0; i < 4; i++)
	{
		__m128i    *at = (__m128i *) (sums + 4 * i);

		_mm_storeu_si128(at, _mm_add_epi32(_mm_loadu_si128(at), (__m128i) wide[i]));
	}
}

typedef __m128i VI;

static inline VI
vi_zero(void)
{
	return _mm_setzero_si128();
}

static inline VI
vi_load(const uint8_t *p)
{
	return _mm_loadu_si128((const __m128i *) p);
}

static inline VI
vi_set1(const int8_t *p)
{
	int32_t		four;

	memcpy(&four, p, 4);
	return _mm_set1_epi32(four);
}

static inline VF
vi_floats(VI v)
{
	return _mm_cvtepi32_ps(v);
}

/* two products of 7 by 8 bits do not overflow 16 */
static inline VI
vi_dot4(VI sum, VI a, VI b)
{
	return _mm_add_epi32(sum, _mm_madd_epi16(_mm_maddubs_epi16(a, b), _mm_set1_epi16(1)));
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
	return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1");
}

const SpfKernels spf_kernels_sse = {
	.name = "sse",
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
