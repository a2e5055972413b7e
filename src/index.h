/*-------------------------------------------------------------------------
 *
 * index.h
 *	  An open index: its fixed properties, ready for computing.
 *
 * What an index is (type, metric, dimension, shape of its entries, rotation, origin) is fixed
 * when its first row comes and never changes for the life of its storage, so it is cached with
 * the relation.  What moves (the root, counters) is read from the meta page each time: see
 * meta.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_INDEX_H
#define SPF_INDEX_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/rel.h"

#include "code.h"
#include "kmeans.h"
#include "page.h"
#include "rotate.h"

/* Support functions of an operator class */
#define SPF_DISTANCE_PROC	1	/* pgvector's: what final order goes by */
#define SPF_SUPPORT_PROC	2	/* ours: returns a const SpfTypeMetric * */
#define SPF_NUM_PROCS		2

#define SPF_MAX_LEVELS		16

/* What an operator class stands for: a type and a metric. */
typedef struct SpfTypeMetric
{
	SpfMetric	metric;
	const char *type_name;
	int			max_dim;

	/* dimension of a detoasted datum */
	int			(*dim) (const void *datum);

	/* its components as floats */
	void		(*to_floats) (const void *datum, float *out);
} SpfTypeMetric;

/* Storage parameters; 0 means chosen. */
typedef struct SpfOptions
{
	int32		vl_len_;
	int			replicas;
	int			code_bits;
	int			split_limit;
	int			merge_limit;
	int			reassign_range;
	int			initial_postings;
	int			fillfactor;
	int			centroids;		/* offset of a string: see spf_option_centroids */
} SpfOptions;

/* The table that gives the centroids to build with; NULL: they are trained. */
static inline const char *
spf_option_centroids(const SpfOptions *options)
{
	return options->centroids > 0 ? (const char *) options + options->centroids : NULL;
}

typedef struct SpfIndex
{
	Relation	rel;
	const SpfTypeMetric *type;
	FmgrInfo   *distance;
	Oid			collation;
	bool		building;		/* pages are written without WAL */

	/* zero until the first row has come */
	int			dim;
	int			padded;
	int			bits;
	int			replicas;
	int			split_limit;	/* entries of a posting; a root may have SPF_ROOT_SHARE times as many */
	int			merge_limit;
	SpfShape	shape;
	uint32		block_bytes;	/* of one block of a posting, references included */
	int			page_blocks;	/* blocks that a posting page holds */
	SpfRotation *rotation;
	float	   *origin;			/* [padded], not rotated */
} SpfIndex;

#define SPF_ROOT_SHARE		4


/*
 * Open `rel` for computing; `index->dim` is 0 when no row has come yet.  Allocated, in one piece of context,
 * in the current memory context; nothing to close.
 */
extern SpfIndex *spf_index_open(Relation rel);

/* Fill in everything derived from dim, bits, seed and origin (allocates rotation and origin). */
extern void spf_index_derive(SpfIndex *index, int dim, int bits, uint64 seed);

/* Bits and limits that an index of this dimension gets, from options and defaults. */
extern int	spf_choose_bits(const SpfOptions *options, int dim);
extern void spf_choose_limits(SpfIndex *index, const SpfOptions *options);

/*
 * A detoasted datum becomes floats, normalised under cosine.  Returns false where the value cannot be
 * indexed (a zero vector under cosine).
 * out has spf_padded(dim) floats; the padding is zeroed.  The caller has checked the dimension.
 */
extern bool spf_index_floats(const SpfIndex *index, const void *datum, int dim, float *out);

/* x' = R(x - origin), in place allowed. */
extern void spf_index_rotate(const SpfIndex *index, const float *in, float *out);

/* A query: for L2 and cosine like a row; for inner product not shifted, with an offset. */
extern SpfQuery *spf_index_query(const SpfIndex *index, const float *floats);

/* The query that a row of the index, rotated, would be. */
extern SpfQuery *spf_index_row_query(const SpfIndex *index, const float *rotated);

/* A query by L2 from an already rotated vector: for placing it, whatever the metric. */
extern SpfQuery *spf_index_placement_query(const SpfIndex *index, const float *rotated);

/* memory, interrupts for numeric code */
extern const SpfKmeansHost spf_host;

/* types.c */
extern const SpfTypeMetric *spf_type_metric(Relation rel);

/* spfresh_am.c */
extern const SpfOptions *spf_options(Relation rel);

#endif							/* SPF_INDEX_H */
