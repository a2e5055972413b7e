/*-------------------------------------------------------------------------
 *
 * insert.h
 *	  A row comes in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_INSERT_H
#define SPF_INSERT_H

#include "postgres.h"

#include "access/genam.h"
#include "nodes/execnodes.h"

#include "index.h"
#include "meta.h"

/* aminsert */
extern bool spf_insert(Relation rel, Datum *values, bool *isnull, ItemPointer tid,
					   Relation heap, IndexUniqueCheck unique, bool unchanged,
					   IndexInfo *info);

/*
 * Check the dimension of an indexed value against the index (or, for the first value, against what the
 * access method can do).  `expected` is 0 for the first.
 */
extern void spf_check_dim(const SpfIndex *index, int dim, int expected);

/* The dimension that the indexed column's type modifier fixes, or 0. */
extern int	spf_typmod_dim(Relation rel);

/*
 * Give the index its dimension and origin: `index` is derived, a record of the origin
 * is stored (through the normal writer), `meta` learns of it.  No root yet.
 */
extern void spf_init_origin(SpfIndex *index, const float *origin, SpfMeta *meta);

/* The seed of every index's rotation: fixed, so that builds are reproducible. */
#define SPF_SEED		UINT64CONST(0x53504672657368)

#endif							/* SPF_INSERT_H */
