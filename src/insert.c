/*-------------------------------------------------------------------------
 *
 * insert.c
 *	  A row comes in.
 *
 * The vector is rotated and coded; the nearest posting is asked for an equal
 * vector, whose record then just gets one more row.  Otherwise a record is
 * written first, and then its entries (place.c), so that a crash in between leaves
 * a record that nothing leads to, of a row that never was.
 *
 * The first row of an empty index gives it its dimension, its origin and its root; the heavyweight
 * lock on the meta page's number makes sure that there is one first row.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "catalog/pg_attribute.h"
#include "utils/memutils.h"

#include "fault.h"
#include "insert.h"
#include "place.h"
#include "posting.h"
#include "rebalance.h"
#include "record.h"
#include "route.h"

/* What a statement keeps between its rows. */
typedef struct SpfInsertState
{
	SpfIndex   *index;
	MemoryContext context;		/* the index */
} SpfInsertState;

/*
 * The memory of one row, for all statements of the session: its first block is kept, for to take it from
 * the operating system for each row would be felt.
 */
#define KEPT_BYTES		(192 * 1024)

static MemoryContext row_context = NULL;

/* Records that may be compared with a vector in the search for an equal one */
#define MAX_EQUAL_READS		8

int
spf_typmod_dim(Relation rel)
{
	int			typmod = TupleDescAttr(RelationGetDescr(rel), 0)->atttypmod;

	return typmod > 0 ? typmod : 0;
}

void
spf_check_dim(const SpfIndex *index, int dim, int expected)
{
	if (dim > index->type->max_dim)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("column cannot have more than %d dimensions for spfresh index",
						index->type->max_dim),
				 errdetail("Index \"%s\" was given %d.",
						   RelationGetRelationName(index->rel), dim)));
	if (expected > 0 && dim != expected)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("expected %d dimensions, not %d", expected, dim),
				 errdetail("Index \"%s\" got its dimensions from its first row.",
						   RelationGetRelationName(index->rel))));
}

void
spf_init_origin(SpfIndex *index, const float *origin, SpfMeta *meta)
{
	SpfVector	vector;

	vector.code = palloc(index->padded);
	spf_record_encode(origin, index->padded, vector.code, &vector.numbers);
	spf_record_decode(vector.code, vector.numbers.scale, index->padded, index->origin);
	meta->origin = spf_record_insert(index, SPF_ORIGIN_LEVEL, &vector, NULL, SPF_NO_PAGE,
									 InvalidBlockNumber);
	meta->seed = index->rotation->seed;
	meta->dim = index->dim;
	meta->padded = index->padded;
	meta->bits = index->bits;
	meta->lanes = index->shape.lanes;
	meta->replicas = index->replicas;
	meta->split_limit = index->split_limit;
	meta->merge_limit = index->merge_limit;
	pfree(vector.code);
}

/* The first row has come: everything that is fixed for good is fixed now. */
static void
first_row(SpfIndex *index, const void *datum, int dim)
{
	const SpfOptions *options = spf_options(index->rel);
	float	   *floats = palloc(spf_padded(dim) * sizeof(float));
	SpfMeta		meta;

	spf_lock_block(index->rel, SPF_META_BLOCK, ExclusiveLock);
	spf_meta_read(index->rel, &meta);
	if (meta.dim == 0)
	{
		Buffer		buf;
		SpfWrite	write;
		SpfMeta    *content;
		SpfPostingBirth birth = {.level = 0,.centroid = SPF_NO_RECORD};

		spf_index_floats(index, datum, dim, floats);
		spf_index_derive(index, dim, spf_choose_bits(options, dim), SPF_SEED);
		spf_choose_limits(index, options);
		spf_init_origin(index, floats, &meta);
		meta.root = spf_posting_create(index, &birth, NULL, 0);
		meta.root_level = 0;
		meta.counters.postings[0] = 1;
		buf = spf_meta_lock(index->rel);
		spf_write_begin(&write, index->rel, false);
		content = spf_meta_edit(&write, buf);
		*content = meta;
		spf_meta_seal(content);
		spf_write_finish(&write);
		UnlockReleaseBuffer(buf);
	}
	spf_unlock_block(index->rel, SPF_META_BLOCK, ExclusiveLock);
}

/* Is the record's vector this one, to the last bit of its code? */
static bool
is_equal(const SpfIndex *index, SpfRecordRef ref, const SpfVector *vector)
{
	Buffer		buf = spf_record_page(index->rel, ref.block, BUFFER_LOCK_SHARE);
	SpfRecordView view;
	bool		equal = false;

	if (!BufferIsValid(buf))
		return false;
	if (spf_record_view(index, buf, ref.offset, ref.version, 0, &view))
		equal = memcmp(&view.numbers, &vector->numbers, sizeof(SpfRecordNumbers)) == 0 &&
			memcmp(view.code, vector->code, index->padded) == 0;
	UnlockReleaseBuffer(buf);
	return equal;
}

/* Entries of a posting whose numbers are those that the vector would have there. */
static int
find_matches(const SpfIndex *index, SpfPageRef head, const SpfEntryNumbers *numbers,
			 SpfRecordRef *refs)
{
	SpfPageRef	page = head;
	BlockNumber pages = 0;
	int			n = 0;

	while (BlockNumberIsValid(page.block) && n < MAX_EQUAL_READS)
	{
		Buffer		buf = spf_page_follow(index->rel, page, SPF_PAGE_POSTING,
										  BUFFER_LOCK_SHARE);
		SpfPostingView view;

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf))
			break;
		if ((++pages & 63) == 0 && pages > RelationGetNumberOfBlocks(index->rel))
			spf_page_corrupted(index->rel, head.block, "A posting's pages have no end.");
		spf_posting_view(index, buf, &view);
		for (int b = 0; b < spf_posting_nblocks(index, &view); b++)
		{
			const uint8_t *block = spf_posting_block(index, &view, b);
			uint32		mask = spf_block_match(&index->shape, block,
											   spf_posting_lanes(index, &view, b), numbers);

			for (int lane = 0; mask != 0 && n < MAX_EQUAL_READS; lane++, mask >>= 1)
			{
				if (mask & 1)
					refs[n++] = spf_posting_ref(index, block, lane);
			}
		}
		page = view.next;
		UnlockReleaseBuffer(buf);
	}
	return n;
}

/* Let an equal vector's record have the row, if there is one in its nearest posting. */
static bool
join_equal(SpfIndex *index, const float *x, const SpfVector *vector,
		   const SpfRoute *nearest, ItemPointer tid)
{
	uint8_t    *code = palloc(index->padded);
	SpfEntryNumbers numbers;
	SpfRecordRef refs[MAX_EQUAL_READS];
	int			n;

	spf_entry_encode(&index->shape, x, nearest->centroid, code, &numbers);
	n = find_matches(index, nearest->posting, &numbers, refs);
	for (int i = 0; i < n; i++)
	{
		if (is_equal(index, refs[i], vector) && spf_record_add_tid(index, refs[i], tid))
			return true;
	}
	return false;
}

static void
insert_row(SpfIndex *index, const void *datum, ItemPointer tid, bool unchanged)
{
	int			padded = index->padded;
	float	   *x = palloc(padded * sizeof(float));
	SpfVector	vector;
	SpfRoute	routes[SPF_PLACE_CANDIDATES];
	SpfQuery   *query;
	SpfMeta		meta;
	int			n;

	spf_check_dim(index, index->type->dim(datum), index->dim);
	if (!spf_index_floats(index, datum, index->dim, x))
		return;
	spf_index_rotate(index, x, x);
	vector.code = palloc(padded);
	spf_record_encode(x, padded, vector.code, &vector.numbers);

	/* from here on the vector is what its record says */
	spf_record_decode(vector.code, vector.numbers.scale, padded, x);
	spf_meta_read(index->rel, &meta);
	query = spf_index_placement_query(index, x);

	/* the row's last version is there, and nearly always where it should be: less of a search finds it */
	if (unchanged && spf_route_nearest(index, &meta, query, 0, 1, routes) == 1 &&
		join_equal(index, x, &vector, &routes[0], tid))
		return;
	n = spf_route_nearest(index, &meta, query, 0, SPF_PLACE_CANDIDATES, routes);
	if (n == 0 || !join_equal(index, x, &vector, &routes[0], tid))
	{
		SpfRecordRef ref = spf_record_insert(index, 0, &vector, tid, SPF_NO_PAGE,
											 InvalidBlockNumber);

		spf_fault_point("record stored");
		spf_place(index, 0, x, ref, routes, n);
	}
}

bool
spf_insert(Relation rel, Datum *values, bool *isnull, ItemPointer tid,
		   Relation heap, IndexUniqueCheck unique, bool unchanged, IndexInfo *info)
{
	SpfInsertState *state = info->ii_AmCache;
	MemoryContext old;
	void	   *datum;

	if (isnull[0])
		return false;

	if (state == NULL)
	{
		old = MemoryContextSwitchTo(info->ii_Context);
		state = palloc0(sizeof(SpfInsertState));
		state->context = CurrentMemoryContext;
		state->index = spf_index_open(rel);
		info->ii_AmCache = state;
		MemoryContextSwitchTo(old);
	}

	if (row_context == NULL)
		row_context = AllocSetContextCreate(TopMemoryContext, "spfresh insert",
											KEPT_BYTES, KEPT_BYTES, ALLOCSET_DEFAULT_MAXSIZE);
	MemoryContextReset(row_context);	/* an error may have left something */
	old = MemoryContextSwitchTo(row_context);
	datum = PG_DETOAST_DATUM(values[0]);
	if (state->index->dim == 0)
	{
		spf_check_dim(state->index, state->index->type->dim(datum), spf_typmod_dim(rel));
		first_row(state->index, datum, state->index->type->dim(datum));
		MemoryContextSwitchTo(state->context);
		state->index = spf_index_open(rel);
		MemoryContextSwitchTo(row_context);
	}
	insert_row(state->index, datum, tid, unchanged);
	if (spf_work_noted)
	{
		spf_work_noted = false;
		spf_rebalance_soon(state->index);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(row_context);

	/* splits hold interrupts: a statement whose time ran out meanwhile must not pass that on to the next */
	CHECK_FOR_INTERRUPTS();
	return false;
}
