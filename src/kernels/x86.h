/*-------------------------------------------------------------------------
 *
 * x86.h
 *	  The primitives of vector.h that the x86 sets have in common.
 *
 * Included, like vector.h, inside a region compiled for the instruction set.
 *
 *-------------------------------------------------------------------------
 */

typedef uint16_t VH __attribute__((vector_size(16)));

static inline VH
vh_shuffle(VH table, VH index)
{
	return (VH) _mm_shuffle_epi8((__m128i) table, (__m128i) index);
}

static inline VH
vh_zip_lo(VH a, VH b)
{
	return (VH) _mm_unpacklo_epi16((__m128i) a, (__m128i) b);
}

static inline VH
vh_zip_hi(VH a, VH b)
{
	return (VH) _mm_unpackhi_epi16((__m128i) a, (__m128i) b);
}

/* The sums of four vectors of four. */
static inline void
store_sums4(__m128 a, __m128 b, __m128 c, __m128 d, float *out)
{
	_mm_storeu_ps(out, _mm_hadd_ps(_mm_hadd_ps(a, b), _mm_hadd_ps(c, d)));
}
