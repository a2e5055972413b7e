/*-------------------------------------------------------------------------
 *
 * neon.c
 *	  The kernels for NEON, which every aarch64 processor has.
 *
 *-------------------------------------------------------------------------
 */
#include "sets.h"

#ifdef SPF_NEON

#include <float.h>
#include <arm_neon.h>
#include <string.h>

#define FLOATS	4

typedef float32x4_t VF;
typedef uint16x8_t VW;
typedef uint16x8_t VH;

static inline VF
vf_load(const float *p)
{
	return vld1q_f32(p);
}

static inline void
vf_store(float *p, VF v)
{
	vst1q_f32(p, v);
}

static inline VF
vf_set1(float v)
{
	return vdupq_n_f32(v);
}

static inline VF
vf_fma(VF a, VF b, VF c)
{
	return vfmaq_f32(c, a, b);
}

static inline VF
vf_max(VF a, VF b)
{
	return vmaxnmq_f32(a, b);
}

static inline VF
vf_min(VF a, VF b)
{
	return vminnmq_f32(a, b);
}

static inline VF
vf_load_i8(const int8_t *p)
{
	int32_t		four;
	int8x8_t	bytes;

	memcpy(&four, p, sizeof(four));
	bytes = vreinterpret_s8_s32(vdup_n_s32(four));
	return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}

static inline VF
vf_load_u32(const uint32_t *p)
{
	return vcvtq_f32_u32(vld1q_u32(p));
}

static inline VF
vf_load_bf16(const uint16_t *p)
{
	return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

static inline void
vf_sum4(VF a, VF b, VF c, VF d, float *out)
{
	vst1q_f32(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
}

static inline uint32_t
vf_less(VF a, VF b)
{
	static const uint32_t bits[4] = {1, 2, 4, 8};

	return vaddvq_u32(vandq_u32(vcltq_f32(a, b), vld1q_u32(bits)));
}

static inline VH
vh_shuffle(VH table, VH index)
{
	return vreinterpretq_u16_u8(vqtbl1q_u8(vreinterpretq_u8_u16(table),
										   vreinterpretq_u8_u16(index)));
}

static inline VH
vh_zip_lo(VH a, VH b)
{
	return vzip1q_u16(a, b);
}

static inline VH
vh_zip_hi(VH a, VH b)
{
	return vzip2q_u16(a, b);
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
		vst1q_u32(sums + 4 * i, vaddq_u32(vld1q_u32(sums + 4 * i),
										  vreinterpretq_u32_u16(wide[i])));
}

typedef int32x4_t VI;

static inline VI
vi_zero(void)
{
	return vdupq_n_s32(0);
}

static inline VI
vi_load(const uint8_t *p)
{
	return vreinterpretq_s32_u8(vld1q_u8(p));
}

static inline VI
vi_set1(const int8_t *p)
{
	int32_t		four;

	memcpy(&four, p, 4);
	return vdupq_n_s32(four);
}

static inline VF
vi_floats(VI v)
{
	return vcvtq_f32_s32(v);
}

/* what is under 128 is the same with a sign; two products of 7 by 8 bits do not overflow 16 */
static inline VI
vi_dot4(VI sum, VI a, VI b)
{
	int8x16_t	x = vreinterpretq_s8_s32(a);
	int8x16_t	y = vreinterpretq_s8_s32(b);

	return vpadalq_s16(sum, vpaddq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)),
									   vmull_s8(vget_high_s8(x), vget_high_s8(y))));
}

#include "vector.h"


static bool
supported(void)
{
	return true;
}

const SpfKernels spf_kernels_neon = {
	.name = "neon",
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

#endif							/* SPF_NEON */
