/*-------------------------------------------------------------------------
 *
 * check_parts.h
 *	  What the parts of the verifier have in common: check.c, check_walk.c, check_rows.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_CHECK_PARTS_H
#define SPF_CHECK_PARTS_H

#include "postgres.h"

#include "access/tableam.h"
#include "nodes/execnodes.h"

#include "index.h"
#include "meta.h"
#include "record.h"
#include "spill.h"

/* Rounding, relative to what was rounded: generous, for kernels differ in it. */
#define NUMBER_SLACK	1e-4

typedef uint8 *SpfBits;

typedef struct SpfCheck
{
	Relation	heap;
	SpfIndex   *index;
	SpfMeta		meta;
	BufferAccessStrategy strategy;
	BlockNumber nblocks;

	/* pages */
	SpfBits		claimed;		/* some posting's, or some record's */
	SpfBits		visited;		/* heads walked through */
	SpfBits		dependent;		/* nothing by themselves: of a posting or a record */

	/* records of the part of the index at hand that live entries lead to */
	SpfBits		reached;
	int			stride;			/* bits a page */
	BlockNumber part_begin;
	BlockNumber part_end;
	bool		first_part;

	/* rows; rows is NULL when they are not asked for */
	SpfSort    *rows;
	Snapshot	snapshot;
	BlockNumber heap_blocks;
	IndexFetchTableData *fetch;
	TupleTableSlot *slot;
	IndexInfo  *info;
	EState	   *estate;
	ExprState  *predicate;
	float	   *floats;			/* [SPF_MAX_DIM] */

	/* the merge of rows with the table */
	bool		at_end;
	ItemPointerData next_row;	/* not yet passed */
	BlockNumber row_block;		/* the block whose rows are in row_bits */
	uint8		row_bits[(MaxOffsetNumber + 8) / 8];

	/* what there was */
	int64		live_postings;
	int64		entries;
	int64		stale;
	int64		records;
	int64		index_rows;
	int64		rows_compared;
	int64		heap_rows;
	int64		free_pages;
	int64		retired;
	int64		unreachable_pages;
	int64		unreachable_records;
} SpfCheck;

/* Raise: what is wrong with a block. */
extern _Noreturn void spf_violated(const SpfCheck *check, BlockNumber block,
								   const char *format,...) __attribute__((format(printf, 3, 4)));

/* |a - b|^2, where b may be NULL for zero: in doubles, for it is to judge floats */
extern double spf_check_distance2(const float *a, const float *b, int n);

/* Step 2: everything that the root leads to. */
extern void spf_check_walk(SpfCheck *check);

/* Steps 3 and 4: the records of the part of the index at hand, and the rows that they name. */
extern void spf_check_records(SpfCheck *check);

/* Around these, when rows are to be compared; the second does step 5, by all rows of the table. */
extern void spf_check_rows_begin(SpfCheck *check);
extern void spf_check_rows_end(SpfCheck *check);

/* ---- bits ---- */

static inline SpfBits
spf_make_bits(uint64 n)
{
	return palloc_extended(n / 8 + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static inline bool
spf_get_bit(SpfBits bits, uint64 i)
{
	return (bits[i / 8] & (1 << (i % 8))) != 0;
}

/* Set it; returns what it was. */
static inline bool
spf_set_bit(SpfBits bits, uint64 i)
{
	bool		was = spf_get_bit(bits, i);

	bits[i / 8] |= 1 << (i % 8);
	return was;
}

/* The bit of a record within `reached`, of a block of the part at hand */
static inline uint64
spf_check_bit_of(const SpfCheck *check, BlockNumber block, uint16 offset)
{
	return (uint64) (block - check->part_begin) * check->stride + offset - 1;
}

#endif							/* SPF_CHECK_PARTS_H */
