/*-------------------------------------------------------------------------
 *
 * check_rows.c
 *	  The verifier, steps 3 to 5: records, the rows that they name, and all rows of the table.
 *
 * See check.c for what must hold.  Each record is copied under its page's lock; rows are read
 * without a lock.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <float.h>
#include <math.h>

#include "access/tableam.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "check_parts.h"
#include "record.h"

/* Of maintenance_work_mem, for the sort of rows' addresses */
#define SHARE_SORT		0.5

/* Rounding by the rotation, relative to what was rotated */
#define ROTATION_SLACK	5e-6

/* ---- 3. records ---- */

/* A copy of a record, made under the page's lock. */
typedef struct SpfRecordCopy
{
	SpfRecordRef ref;
	int			level;
	SpfVector	vector;			/* code: [padded] */
	BlockNumber more;
	int			ntids;
	ItemPointerData tids[SPF_PAGE_SPACE / sizeof(ItemPointerData)];
} SpfRecordCopy;

/* False if there is none, or one that was retired. */
static bool
copy_record(SpfCheck *check, BlockNumber block, uint16 offset, int *offsets, SpfRecordCopy *copy)
{
	Buffer		buf = spf_page_read_strategy(check->index->rel, block, BUFFER_LOCK_SHARE,
											 check->strategy);
	SpfRecordView view;
	uint16		version = 0;
	bool		found;

	*offsets = 0;
	if (!BufferIsValid(buf))
		return false;
	if (SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_RECORD)
	{
		*offsets = spf_record_offsets(buf);
		version = spf_record_version_at(check->index, buf, offset);
	}
	found = version != 0 && spf_record_view(check->index, buf, offset, version, -1, &view);
	if (found)
	{
		copy->ref = (SpfRecordRef) {block, offset, version};
		copy->level = view.level;
		copy->vector.numbers = view.numbers;
		memcpy(copy->vector.code, view.code, check->index->padded);
		copy->more = view.more;
		copy->ntids = view.ntids;
		memcpy(copy->tids, view.tids, view.ntids * sizeof(ItemPointerData));
	}
	UnlockReleaseBuffer(buf);
	return found;
}

/* Norm, code and error belong together: what is decoded is x's projection on the code. */
static void
check_numbers(SpfCheck *check, const SpfRecordCopy *record, const float *decoded)
{
	const SpfRecordNumbers *numbers = &record->vector.numbers;
	double		norm2 = numbers->norm2;
	double		err = numbers->err;
	double		decoded2 = spf_check_distance2(decoded, NULL, check->index->padded);

	if (norm2 < FLT_MAX && fabs(norm2 - decoded2 - err * err) > NUMBER_SLACK * norm2 + FLT_MIN)
		spf_violated(check, record->ref.block,
					 "The numbers of the record at (%u,%u) do not fit its code.",
					 record->ref.block, record->ref.offset);
}

static bool
was_reached(SpfCheck *check, BlockNumber block, uint16 offset)
{
	return spf_get_bit(check->reached, spf_check_bit_of(check, block, offset));
}

static void
row_fault(SpfCheck *check, const SpfRecordCopy *record, const ItemPointerData *tid,
		  const char *what)
{
	spf_violated(check, record->ref.block, "The record at (%u,%u) names row (%u,%u), %s.",
				 record->ref.block, record->ref.offset, ItemPointerGetBlockNumberNoCheck(tid),
				 ItemPointerGetOffsetNumberNoCheck(tid), what);
}

/* ---- 4. a record's rows ---- */

/*
 * The indexed value of the row in the slot as floats, not rotated.  False when such
 * a row is not indexed.
 */
static bool
row_vector(SpfCheck *check, Datum value, bool isnull)
{
	SpfIndex   *index = check->index;
	void	   *datum;
	int			dim;

	if (isnull)
		return false;
	datum = PG_DETOAST_DATUM(value);
	dim = index->type->dim(datum);
	if (dim > SPF_MAX_DIM || (index->dim > 0 && dim != index->dim))
		return false;
	return spf_index_floats(index, datum, dim, check->floats);
}

/* Compare a record with a row, unless nobody sees it.  Returns whether it is seen. */
static bool
check_row(SpfCheck *check, const SpfRecordCopy *record, const ItemPointerData *tid,
		  const float *decoded)
{
	ItemPointerData target = *tid;
	bool		call_again = false;
	bool		all_dead = false;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	const SpfRecordNumbers *numbers = &record->vector.numbers;
	MemoryContext old;
	double		lost;

	if (!ItemPointerIsValid(&target) ||
		ItemPointerGetOffsetNumber(&target) > MaxOffsetNumber)
		row_fault(check, record, tid, "which is not an address");
	if (ItemPointerGetBlockNumber(&target) >= check->heap_blocks)
		row_fault(check, record, tid, "which is beyond the table's end");
	if (!table_index_fetch_tuple(check->fetch, &target, check->snapshot, check->slot,
								 &call_again, &all_dead))
		return false;

	ResetPerTupleExprContext(check->estate);
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(check->estate));
	if (check->predicate != NULL && !ExecQual(check->predicate,
											  GetPerTupleExprContext(check->estate)))
		row_fault(check, record, tid, "which the index's predicate excludes");
	FormIndexDatum(check->info, check->slot, check->estate, values, nulls);
	if (!row_vector(check, values[0], nulls[0]))
		row_fault(check, record, tid, "which has no vector to be indexed");
	spf_index_rotate(check->index, check->floats, check->floats);
	lost = sqrt(spf_check_distance2(check->floats, decoded, check->index->padded));
	if (numbers->norm2 < FLT_MAX &&
		!(lost <= numbers->err + ROTATION_SLACK * (sqrt(numbers->norm2) + numbers->err) + FLT_MIN))
		row_fault(check, record, tid, "whose vector is not the record's");
	MemoryContextSwitchTo(old);
	check->rows_compared++;
	return true;
}

/* Addresses sort as unsigned blocks. */
#define ROW_MAJOR(block)	((int32) ((block) ^ 0x80000000u))
#define ROW_BLOCK(major)	((BlockNumber) (major) ^ 0x80000000u)

static void
check_rows(SpfCheck *check, const SpfRecordCopy *record, const ItemPointerData *tids, int ntids,
		   const float *decoded)
{
	bool		reached = was_reached(check, record->ref.block, record->ref.offset);

	for (int i = 0; i < ntids; i++)
	{
		CHECK_FOR_INTERRUPTS();
		check->index_rows++;
		if (check->rows == NULL)
			continue;
		if (check_row(check, record, &tids[i], decoded) && !reached)
			row_fault(check, record, &tids[i], "but no way leads there from the root");
		if (reached)
			spf_sort_put(check->rows, ROW_MAJOR(ItemPointerGetBlockNumber(&tids[i])),
						 ItemPointerGetOffsetNumber(&tids[i]), &record->ref);
	}
}

/* The record's TIDS pages. */
static void
check_chain(SpfCheck *check, const SpfRecordCopy *record, const float *decoded)
{
	BlockNumber from = record->ref.block;
	BlockNumber block = record->more;
	PGAlignedBlock space;

	while (BlockNumberIsValid(block))
	{
		Buffer		buf = spf_page_read(check->index->rel, block, BUFFER_LOCK_SHARE);
		SpfTidsView view;

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf) || SpfPageOpaque(BufferGetPage(buf))->kind != SPF_PAGE_TIDS)
			spf_violated(check, from,
						 "The rows of the record at (%u,%u) go on at block %u, which is no TIDS page.",
						 record->ref.block, record->ref.offset, block);
		spf_tids_view(check->index, buf, &view);
		if (memcmp(&view.owner, &record->ref, sizeof(SpfRecordRef)) != 0)
			spf_violated(check, block,
						 "The TIDS page is of the record at (%u,%u), but that at (%u,%u) leads to it.",
						 view.owner.block, view.owner.offset, record->ref.block,
						 record->ref.offset);
		if (view.unlinked)
			spf_violated(check, block,
						 "The record at (%u,%u) leads to a TIDS page that was unlinked.",
						 record->ref.block, record->ref.offset);
		if (spf_set_bit(check->claimed, block))
			spf_violated(check, block, "The TIDS page is led to twice.");
		memcpy(space.data, view.tids, view.ntids * sizeof(ItemPointerData));
		from = block;
		block = view.next;
		UnlockReleaseBuffer(buf);
		check_rows(check, record, (ItemPointerData *) space.data, view.ntids, decoded);
	}
}

static void
check_record(SpfCheck *check, const SpfRecordCopy *record, float *decoded)
{
	SpfRecordRef origin = check->meta.origin;

	spf_record_decode(record->vector.code, record->vector.numbers.scale, check->index->padded,
					  decoded);
	check_numbers(check, record, decoded);
	if (memcmp(&record->ref, &origin, sizeof(SpfRecordRef)) == 0)
	{
		if (record->level != SPF_ORIGIN_LEVEL)
			spf_violated(check, origin.block, "The record of the origin is of level %d.",
						 record->level);
		return;
	}
	if (!was_reached(check, record->ref.block, record->ref.offset))
		check->unreachable_records++;
	else if (record->level == 0)
		check->records++;
	if (record->level == 0)
	{
		check_rows(check, record, record->tids, record->ntids, decoded);
		check_chain(check, record, decoded);
	}
}

void
spf_check_records(SpfCheck *check)
{
	float	   *decoded = palloc(check->index->padded * sizeof(float));
	SpfRecordCopy *copy = palloc(sizeof(SpfRecordCopy));

	copy->vector.code = palloc(check->index->padded);
	for (BlockNumber block = check->part_begin; block < check->part_end; block++)
	{
		int			offsets = 1;

		CHECK_FOR_INTERRUPTS();
		for (int off = FirstOffsetNumber; off <= offsets; off++)
		{
			if (copy_record(check, block, off, &offsets, copy))
				check_record(check, copy, decoded);
		}
	}
	pfree(decoded);
	pfree(copy->vector.code);
	pfree(copy);
}

/* ---- 5. every row of the table ---- */

/* Take the next address off the sorted list. */
static void
next_row(SpfCheck *check)
{
	ItemPointerData last = check->next_row;
	int32		major;
	int32		minor;
	const SpfRecordRef *ref = spf_sort_next(check->rows, &major, &minor);

	check->at_end = ref == NULL;
	if (ref == NULL)
		return;
	ItemPointerSet(&check->next_row, ROW_BLOCK(major), minor);
	if (ItemPointerIsValid(&last) && ItemPointerEquals(&last, &check->next_row))
		spf_violated(check, ref->block, "Row (%u,%u) is in two records, one of them at (%u,%u).",
					 ItemPointerGetBlockNumber(&last), ItemPointerGetOffsetNumber(&last),
					 ref->block, ref->offset);
}

/* Is the row in the index?  Called with ascending blocks, within a block in any order. */
static bool
row_is_indexed(SpfCheck *check, ItemPointer tid)
{
	BlockNumber block = ItemPointerGetBlockNumber(tid);
	OffsetNumber offset = ItemPointerGetOffsetNumber(tid);

	if (check->row_block != block)
	{
		memset(check->row_bits, 0, sizeof(check->row_bits));
		check->row_block = block;
		while (!check->at_end && ItemPointerGetBlockNumber(&check->next_row) < block)
			next_row(check);
		while (!check->at_end && ItemPointerGetBlockNumber(&check->next_row) == block)
		{
			spf_set_bit(check->row_bits, ItemPointerGetOffsetNumber(&check->next_row));
			next_row(check);
		}
	}
	return spf_get_bit(check->row_bits, offset);
}

static void
check_heap_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	SpfCheck   *check = state;

	CHECK_FOR_INTERRUPTS();
	check->heap_rows++;
	if (!row_is_indexed(check, tid) && row_vector(check, values[0], isnull[0]))
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("row (%u,%u) of table \"%s\" is missing from index \"%s\"",
						ItemPointerGetBlockNumber(tid), ItemPointerGetOffsetNumber(tid),
						RelationGetRelationName(check->heap), RelationGetRelationName(rel)),
				 errhint("Please REINDEX it.")));
}

static void
check_heap(SpfCheck *check)
{
	TableScanDesc scan;
	IndexInfo  *info;

	spf_sort_perform(check->rows);
	next_row(check);
	check->row_block = InvalidBlockNumber;

	/* from the start of the table: the addresses are in order */
	info = BuildIndexInfo(check->index->rel);
	info->ii_Concurrent = true;
	scan = table_beginscan_strat(check->heap, check->snapshot, 0, NULL, true, false);
	table_index_build_scan(check->heap, check->index->rel, info, true, false,
						   check_heap_row, check, scan);

	/* what is left may still have been entered twice */
	while (!check->at_end)
		next_row(check);
}

void
spf_check_rows_begin(SpfCheck *check)
{
	check->snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(check->snapshot);
	check->heap_blocks = RelationGetNumberOfBlocks(check->heap);
	check->rows = spf_sort_begin(sizeof(SpfRecordRef), (int) (maintenance_work_mem * SHARE_SORT));
	check->fetch = table_index_fetch_begin(check->heap);
	check->slot = table_slot_create(check->heap, NULL);
	check->info = BuildIndexInfo(check->index->rel);
	check->estate = CreateExecutorState();
	GetPerTupleExprContext(check->estate)->ecxt_scantuple = check->slot;
	check->predicate = ExecPrepareQual(check->info->ii_Predicate, check->estate);
	check->floats = palloc(SPF_MAX_DIM * sizeof(float));
}

void
spf_check_rows_end(SpfCheck *check)
{
	check_heap(check);
	table_index_fetch_end(check->fetch);
	ExecDropSingleTupleTableSlot(check->slot);
	FreeExecutorState(check->estate);
	spf_sort_end(check->rows);
	PopActiveSnapshot();
	UnregisterSnapshot(check->snapshot);
}
