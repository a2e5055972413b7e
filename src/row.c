/*-------------------------------------------------------------------------
 *
 * row.c
 *	  Rows of the table: does the scan see them, do they pass, and how far are they?
 *
 * A row, and a value that lies in TOAST, are some cache lines each, somewhere in gigabytes: reading one after the
 * other is waiting for memory mostly.  So of a batch all rows are announced before the first is read, and all
 * values before the first is put together.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "access/detoast.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "utils/memutils.h"

#include "page.h"
#include "row.h"
#include "row_value.h"

/* A value that is fetched later: what its row has in its place. */
typedef union SpfPointer
{
	char		bytes[TOAST_POINTER_SIZE];
	int32		align;
} SpfPointer;

struct SpfRowReader
{
	IndexScanDesc desc;
	const SpfIndex *index;
	const SpfAbove *above;
	Datum		query;			/* detoasted */
	bool		any_order;
	MemoryContext context;		/* all of the following */
	MemoryContext row_context;	/* of one row's distance */

	/* opened when the first row is read */
	IndexFetchTableData *fetch;
	TupleTableSlot *slot;
	IndexInfo  *info;
	EState	   *estate;			/* for expressions */
	ExprState  *predicate;		/* of a partial index */
	AttrNumber	attnum;			/* of a plain column, else 0 */
	SpfValueReader *values;
};

SpfRowReader *
spf_row_reader_make(IndexScanDesc desc, const SpfIndex *index, const SpfAbove *above)
{
	SpfRowReader *reader = palloc0(sizeof(SpfRowReader));

	reader->desc = desc;
	reader->index = index;
	reader->above = above;
	reader->context = CurrentMemoryContext;
	reader->row_context = AllocSetContextCreate(CurrentMemoryContext, "spfresh row",
												ALLOCSET_DEFAULT_SIZES);
	return reader;
}

void
spf_row_reader_ask(SpfRowReader *reader, Datum query, bool any_order)
{
	reader->query = query;
	reader->any_order = any_order;
}

static void
open_table(SpfRowReader *reader)
{
	MemoryContext old = MemoryContextSwitchTo(reader->context);
	IndexScanDesc desc = reader->desc;

	reader->fetch = table_index_fetch_begin(desc->heapRelation);
	reader->slot = table_slot_create(desc->heapRelation, NULL);
	reader->info = BuildIndexInfo(desc->indexRelation);
	reader->attnum = reader->info->ii_IndexAttrNumbers[0];
	reader->values = spf_value_reader_make();
	if (reader->attnum == 0 || reader->info->ii_Predicate != NIL)
	{
		reader->estate = CreateExecutorState();
		GetPerTupleExprContext(reader->estate)->ecxt_scantuple = reader->slot;
		reader->predicate = ExecPrepareQual(reader->info->ii_Predicate, reader->estate);
	}
	MemoryContextSwitchTo(old);
}

/*
 * The indexed value of the row in the slot.  The predicate is looked at because nobody else
 * does, and a damaged record may lead to any row.
 */
static Datum
indexed_value(SpfRowReader *reader, bool *isnull)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	if (reader->estate != NULL)
		ResetPerTupleExprContext(reader->estate);
	if (reader->predicate != NULL &&
		!ExecQual(reader->predicate, GetPerTupleExprContext(reader->estate)))
	{
		*isnull = true;
		return (Datum) 0;
	}
	if (reader->attnum != 0)
		return slot_getattr(reader->slot, reader->attnum, isnull);
	FormIndexDatum(reader->info, reader->slot, reader->estate, values, nulls);
	*isnull = nulls[0];
	return values[0];
}

bool
spf_row_lend_page(Relation table, IndexFetchTableData *fetch, BlockNumber block)
{
	Buffer		buf = spf_fetched_page(table, fetch);

	if (BufferIsValid(buf) && BufferGetBlockNumber(buf) == block)
		return false;
	buf = spf_page_pin_known(table, block);
	if (!BufferIsValid(buf))
		return false;
	if (spf_lend_page(table, fetch, buf))
		return true;
	ReleaseBuffer(buf);
	return false;
}

/* Bring a row into the slot; false if the snapshot does not see it. */
static bool
fetch_row(SpfRowReader *reader, const ItemPointerData *tid)
{
	Relation	table = reader->desc->heapRelation;
	ItemPointerData target = *tid;
	bool		call_again = false;
	bool		all_dead = false;
	bool		seen;
	Buffer		page;

	if (spf_row_lend_page(table, reader->fetch, ItemPointerGetBlockNumber(tid)))
		heap_page_prune_opt(table, spf_fetched_page(table, reader->fetch));
	seen = table_index_fetch_tuple(reader->fetch, &target, reader->desc->xs_snapshot, reader->slot,
								   &call_again, &all_dead);
	page = spf_fetched_page(table, reader->fetch);
	if (BufferIsValid(page))
		spf_page_met(table, page);
	return seen;
}

static double
distance_of(SpfRowReader *reader, Datum value)
{
	MemoryContext old = MemoryContextSwitchTo(reader->row_context);
	double		distance;

	distance = DatumGetFloat8(FunctionCall2Coll(reader->index->distance, reader->index->collation,
												spf_value_read(reader->values, value),
												reader->query));
	MemoryContextSwitchTo(old);
	MemoryContextReset(reader->row_context);
	return isnan(distance) ? INFINITY : distance;
}

/*
 * Look at a row: is it there?  Its distance is computed at once, unless its value lies elsewhere: then *pointer
 * says where.  That of a row that does not pass is nobody's business.
 */
static bool
look_at_row(SpfRowReader *reader, SpfRow *row, SpfPointer *pointer, bool *elsewhere)
{
	MemoryContext old;
	Datum		value;
	bool		isnull;

	*elsewhere = false;
	if (!fetch_row(reader, &row->tid))
		return false;
	old = MemoryContextSwitchTo(reader->row_context);
	value = indexed_value(reader, &isnull);
	MemoryContextSwitchTo(old);
	if (isnull)
		return false;
	row->passes = !reader->above->filters || spf_above_passes(reader->above, reader->slot);
	if (!row->passes)
		return true;
	*elsewhere = VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value)) && !reader->any_order;
	if (*elsewhere)
		memcpy(pointer->bytes, DatumGetPointer(value), TOAST_POINTER_SIZE);
	else
		row->distance = reader->any_order ? 0 : distance_of(reader, value);
	return true;
}

int
spf_rows_read(SpfRowReader *reader, SpfRow *rows, int n)
{
	Relation	table = reader->desc->heapRelation;
	SpfPointer	pointers[SPF_ROW_BATCH];
	bool		elsewhere[SPF_ROW_BATCH] = {false};
	int			there = 0;

	Assert(n <= SPF_ROW_BATCH);
	if (reader->fetch == NULL)
		open_table(reader);
	for (int i = 0; i < n && n > 1; i++)
		spf_page_announce(table, ItemPointerGetBlockNumberNoCheck(&rows[i].tid), 128);
	for (int i = 0; i < n && n > 1; i++)
		spf_item_announce(table, ItemPointerGetBlockNumberNoCheck(&rows[i].tid),
						  ItemPointerGetOffsetNumberNoCheck(&rows[i].tid));
	for (int i = 0; i < n; i++)
	{
		SpfRow		row = rows[i];

		CHECK_FOR_INTERRUPTS();
		if (!look_at_row(reader, &row, &pointers[there], &elsewhere[there]))
			continue;
		if (elsewhere[there] && n > 1)
			spf_value_announce_page(reader->values, PointerGetDatum(&pointers[there]));
		rows[there++] = row;
	}
	for (int i = 0; i < there && there > 1; i++)
	{
		if (elsewhere[i])
			spf_value_announce(reader->values, PointerGetDatum(&pointers[i]));
	}
	for (int i = 0; i < there; i++)
	{
		if (elsewhere[i])
			rows[i].distance = distance_of(reader, PointerGetDatum(&pointers[i]));
	}
	return there;
}

void
spf_row_reader_reset(SpfRowReader *reader)
{
	if (reader->fetch != NULL)
		table_index_fetch_reset(reader->fetch);
}

void
spf_row_reader_end(SpfRowReader *reader)
{
	if (reader->fetch != NULL)
	{
		spf_value_reader_close(reader->values);
		table_index_fetch_end(reader->fetch);
		ExecDropSingleTupleTableSlot(reader->slot);
		if (reader->estate != NULL)
			FreeExecutorState(reader->estate);
	}
	MemoryContextDelete(reader->row_context);
	pfree(reader);
}
