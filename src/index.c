/*-------------------------------------------------------------------------
 *
 * index.c
 *	  An open index: its fixed properties, ready for computing.
 *
 * See index.h.  What it takes longest to derive (the origin and the signs of the
 * rotation) is kept in rd_amcache, as one chunk: an SpfIndex with its
 * rotation and origin behind it.  Every opener gets a copy, because the
 * cache may vanish at any invalidation.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "utils/memutils.h"

#include "index.h"
#include "meta.h"
#include "posting.h"
#include "record.h"

static void *
host_alloc(size_t bytes)
{
	return MemoryContextAllocHuge(CurrentMemoryContext, bytes);
}

static void
host_release(void *chunk)
{
	pfree(chunk);
}

static void
host_interrupt(void)
{
	CHECK_FOR_INTERRUPTS();
}

const SpfKmeansHost spf_host = {host_alloc, host_release, host_interrupt, NULL, NULL, NULL};

int
spf_choose_bits(const SpfOptions *options, int dim)
{
	if (options->code_bits > 0)
		return options->code_bits;
	return dim <= 256 ? 2 : 1;
}

/*
 * The limit of a posting is a page, and at least 32 entries, over more pages
 * where a page holds fewer.  A posting of few entries, each of them one of many
 * replicas, would make levels upon levels of hardly fewer postings each.
 */
#define MIN_LIMIT_PER_REPLICA	8

void
spf_choose_limits(SpfIndex *index, const SpfOptions *options)
{
	int			page = spf_posting_page_entries(index);
	int			chosen = page >= 32 ? page : (32 + page - 1) / page * page;

	index->replicas = options->replicas;
	index->split_limit = Max(options->split_limit > 0 ? options->split_limit : chosen,
							 MIN_LIMIT_PER_REPLICA * index->replicas);
	index->merge_limit = options->merge_limit > 0 ?
		Min(options->merge_limit, index->split_limit / 3) : index->split_limit / 4;
}

/* Sizes of the chunk: an SpfIndex, its rotation, its origin. */
static Size
rotation_space(int dim)
{
	return MAXALIGN(spf_rotation_size(dim));
}

static Size
chunk_size(int dim)
{
	return MAXALIGN(sizeof(SpfIndex)) + rotation_space(dim) + spf_padded(dim) * sizeof(float);
}

/* Let a chunk's pointers point into itself. */
static void
point_into_chunk(SpfIndex *index)
{
	index->rotation = (SpfRotation *) ((char *) index + MAXALIGN(sizeof(SpfIndex)));
	index->origin = (float *) ((char *) index->rotation + rotation_space(index->dim));
}

/* Fix what belongs to the relation rather than to the stored index. */
static SpfIndex *
bind_relation(SpfIndex *index, Relation rel)
{
	index->rel = rel;
	index->type = spf_type_metric(rel);
	index->distance = index_getprocinfo(rel, 1, SPF_DISTANCE_PROC);
	index->collation = rel->rd_indcollation[0];
	index->building = false;
	return index;
}

void
spf_index_derive(SpfIndex *index, int dim, int bits, uint64 seed)
{
	index->dim = dim;
	index->padded = spf_padded(dim);
	index->bits = bits;
	spf_posting_choose_shape(index);
	if (index->rotation == NULL)
	{
		index->rotation = palloc(rotation_space(dim));
		index->origin = palloc0(index->padded * sizeof(float));
	}
	spf_rotation_init(index->rotation, dim, seed);
}

static void
load_origin(SpfIndex *index, SpfRecordRef ref)
{
	SpfVector	vector;

	vector.code = palloc(index->padded);
	if (!spf_record_fetch(index, ref, SPF_ORIGIN_LEVEL, &vector, NULL))
		spf_page_corrupted(index->rel, ref.block, "The record of the origin is missing.");
	spf_record_decode(vector.code, vector.numbers.scale, index->padded, index->origin);
	pfree(vector.code);
}

SpfIndex *
spf_index_open(Relation rel)
{
	SpfIndex   *cached = (SpfIndex *) rel->rd_amcache;
	SpfIndex   *index;
	SpfMeta		meta;

	if (cached != NULL)
	{
		index = palloc(chunk_size(cached->dim));
		memcpy(index, cached, chunk_size(cached->dim));
		point_into_chunk(index);
		return bind_relation(index, rel);
	}

	spf_meta_read(rel, &meta);
	if (meta.dim == 0)
		return bind_relation(palloc0(sizeof(SpfIndex)), rel);

	index = palloc0(chunk_size(meta.dim));
	bind_relation(index, rel);
	index->dim = meta.dim;
	point_into_chunk(index);
	spf_index_derive(index, meta.dim, meta.bits, meta.seed);
	if (index->shape.lanes != meta.lanes || index->type->metric != meta.metric)
		spf_page_corrupted(rel, SPF_META_BLOCK, "The meta page does not fit the index.");
	index->replicas = meta.replicas;
	index->split_limit = meta.split_limit;
	index->merge_limit = meta.merge_limit;
	load_origin(index, meta.origin);

	/* someone may have cached it while the origin was read */
	if (rel->rd_amcache == NULL)
	{
		rel->rd_amcache = MemoryContextAlloc(rel->rd_indexcxt, chunk_size(meta.dim));
		memcpy(rel->rd_amcache, index, chunk_size(meta.dim));
	}
	return index;
}

bool
spf_index_floats(const SpfIndex *index, const void *datum, int dim, float *out)
{
	double		norm2 = 0;
	float		factor;

	index->type->to_floats(datum, out);
	memset(out + dim, 0, (spf_padded(dim) - dim) * sizeof(float));
	if (index->type->metric != SPF_COSINE)
		return true;

	for (int i = 0; i < dim; i++)
		norm2 += (double) out[i] * out[i];
	if (norm2 == 0)
		return false;

	/* by way of the largest component's size, or tiny vectors would be lost */
	factor = (float) (1 / sqrt(norm2));
	if (isinf(factor))
	{
		for (int i = 0; i < dim; i++)
			out[i] = (float) (out[i] / sqrt(norm2));
		return true;
	}
	for (int i = 0; i < dim; i++)
		out[i] *= factor;
	return true;
}

void
spf_index_rotate(const SpfIndex *index, const float *in, float *out)
{
	for (int i = 0; i < index->padded; i++)
		out[i] = in[i] - index->origin[i];
	spf_rotate(index->rotation, out, out);
}

SpfQuery *
spf_index_query(const SpfIndex *index, const float *floats)
{
	float	   *rotated = palloc(index->padded * sizeof(float));
	SpfQuery   *query = palloc(spf_query_size(&index->shape));
	float		offset = 0;

	if (index->type->metric == SPF_IP)
	{
		offset = spf_kernels->dot(floats, index->origin, index->padded);
		spf_rotate(index->rotation, floats, rotated);
	}
	else
		spf_index_rotate(index, floats, rotated);
	spf_query_init(query, &index->shape, index->type->metric, rotated, offset);
	if (index->type->metric == SPF_IP)
		query->origin_norm = sqrtf(spf_kernels->dot(index->origin, index->origin, index->padded));
	pfree(rotated);
	return query;
}

SpfQuery *
spf_index_row_query(const SpfIndex *index, const float *rotated)
{
	SpfQuery   *query = palloc(spf_query_size(&index->shape));
	float	   *q = palloc(index->padded * sizeof(float));
	float	   *origin = palloc(index->padded * sizeof(float));
	float		offset = 0;

	memcpy(q, rotated, index->padded * sizeof(float));
	if (index->type->metric == SPF_IP)
	{
		/* back to R x from R (x - origin) */
		spf_rotate(index->rotation, index->origin, origin);
		for (int i = 0; i < index->padded; i++)
			q[i] += origin[i];
		offset = spf_kernels->dot(q, origin, index->padded);
	}
	spf_query_init(query, &index->shape, index->type->metric, q, offset);
	pfree(q);
	pfree(origin);
	return query;
}

SpfQuery *
spf_index_placement_query(const SpfIndex *index, const float *rotated)
{
	SpfQuery   *query = palloc(spf_query_size(&index->shape));

	spf_query_init(query, &index->shape, SPF_L2, rotated, 0);
	return query;
}
