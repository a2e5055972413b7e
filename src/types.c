/*-------------------------------------------------------------------------
 *
 * types.c
 *	  pgvector's types, as this index reads them: one table row for each type and metric.
 *
 * The layouts are pgvector's on-disk format, which it keeps compatible:
 * a varlena header, the dimension, an unused (zero) field, the components.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "fmgr.h"

#include "index.h"

typedef struct PgVector
{
	int32		vl_len_;
	int16		dim;
	int16		unused;
	float		x[FLEXIBLE_ARRAY_MEMBER];
} PgVector;

typedef struct PgHalfVector
{
	int32		vl_len_;
	int16		dim;
	int16		unused;
	uint16		x[FLEXIBLE_ARRAY_MEMBER];
} PgHalfVector;

static int
vector_dim(const void *datum)
{
	return ((const PgVector *) datum)->dim;
}

static void
vector_to_floats(const void *datum, float *out)
{
	const PgVector *vector = datum;

	memcpy(out, vector->x, vector->dim * sizeof(float));
}

static int
halfvec_dim(const void *datum)
{
	return ((const PgHalfVector *) datum)->dim;
}

/* IEEE 754 binary16 to binary32, exactly. */
static float
half_to_float(uint16 half)
{
	uint32		sign = (uint32) (half & 0x8000) << 16;
	uint32		exponent = (half >> 10) & 0x1f;
	uint32		mantissa = half & 0x3ff;
	union
	{
		uint32		bits;
		float		value;
	}			u;

	if (exponent == 0)
	{
		float		value = ldexpf((float) mantissa, -24);

		return sign ? -value : value;
	}
	if (exponent == 31)
		u.bits = sign | 0x7f800000 | (mantissa << 13);
	else
		u.bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
	return u.value;
}

static void
halfvec_to_floats(const void *datum, float *out)
{
	const PgHalfVector *vector = datum;

	for (int i = 0; i < vector->dim; i++)
		out[i] = half_to_float(vector->x[i]);
}

#define SPF_TYPE_METRIC(name, metric_, type) \
static const SpfTypeMetric name = { \
	.metric = metric_, .type_name = #type, .max_dim = SPF_MAX_DIM, \
	.dim = type##_dim, .to_floats = type##_to_floats}; \
PG_FUNCTION_INFO_V1(spfresh_##name); \
Datum \
spfresh_##name(PG_FUNCTION_ARGS) \
{ \
	PG_RETURN_POINTER(&name); \
}

SPF_TYPE_METRIC(vector_l2_support, SPF_L2, vector)
SPF_TYPE_METRIC(vector_ip_support, SPF_IP, vector)
SPF_TYPE_METRIC(vector_cosine_support, SPF_COSINE, vector)
SPF_TYPE_METRIC(halfvec_l2_support, SPF_L2, halfvec)
SPF_TYPE_METRIC(halfvec_ip_support, SPF_IP, halfvec)
SPF_TYPE_METRIC(halfvec_cosine_support, SPF_COSINE, halfvec)

const SpfTypeMetric *
spf_type_metric(Relation rel)
{
	FmgrInfo   *support = index_getprocinfo(rel, 1, SPF_SUPPORT_PROC);

	return (const SpfTypeMetric *) DatumGetPointer(FunctionCall1(support, (Datum) 0));
}
