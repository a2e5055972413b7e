/*-------------------------------------------------------------------------
 *
 * spill.c
 *	  Items sorted by two numbers, or kept in order, within bounded memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/tupdesc.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "storage/buffile.h"
#include "utils/tuplesort.h"

#include "spill.h"

struct SpfSort
{
	Tuplesortstate *state;
	TupleDesc	desc;
	TupleTableSlot *slot;
	char	   *buffer;			/* a bytea being put */
	Size		space;
};

SpfSort *
spf_sort_begin(int kilobytes)
{
	SpfSort    *sort = palloc0(sizeof(SpfSort));
	AttrNumber	columns[] = {1, 2};
	Oid			operators[] = {Int4LessOperator, Int4LessOperator};
	Oid			collations[] = {InvalidOid, InvalidOid};
	bool		nulls_first[] = {false, false};

	sort->desc = CreateTemplateTupleDesc(3);
	TupleDescInitEntry(sort->desc, 1, "major", INT4OID, -1, 0);
	TupleDescInitEntry(sort->desc, 2, "minor", INT4OID, -1, 0);
	TupleDescInitEntry(sort->desc, 3, "data", BYTEAOID, -1, 0);
	sort->state = tuplesort_begin_heap(sort->desc, 2, columns, operators, collations,
									   nulls_first, Max(kilobytes, 64), NULL, TUPLESORT_NONE);
	sort->slot = MakeSingleTupleTableSlot(sort->desc, &TTSOpsVirtual);
	return sort;
}

void
spf_sort_put(SpfSort *sort, int32 major, int32 minor, const void *data, Size length)
{
	TupleTableSlot *slot = sort->slot;

	if (sort->space < length + VARHDRSZ)
	{
		/* callers put from contexts that they reset */
		if (sort->buffer)
			pfree(sort->buffer);
		sort->space = length + VARHDRSZ;
		sort->buffer = MemoryContextAlloc(GetMemoryChunkContext(sort), sort->space);
	}
	SET_VARSIZE(sort->buffer, length + VARHDRSZ);
	memcpy(VARDATA(sort->buffer), data, length);

	ExecClearTuple(slot);
	slot->tts_values[0] = Int32GetDatum(major);
	slot->tts_values[1] = Int32GetDatum(minor);
	slot->tts_values[2] = PointerGetDatum(sort->buffer);
	memset(slot->tts_isnull, 0, 3 * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	tuplesort_puttupleslot(sort->state, slot);
}

void
spf_sort_perform(SpfSort *sort)
{
	tuplesort_performsort(sort->state);
	ExecDropSingleTupleTableSlot(sort->slot);
	sort->slot = MakeSingleTupleTableSlot(sort->desc, &TTSOpsMinimalTuple);
}

const void *
spf_sort_next(SpfSort *sort, int32 *major, int32 *minor, Size *length)
{
	struct varlena *data;

	if (!tuplesort_gettupleslot(sort->state, true, false, sort->slot, NULL))
		return NULL;
	slot_getallattrs(sort->slot);
	*major = DatumGetInt32(sort->slot->tts_values[0]);
	*minor = DatumGetInt32(sort->slot->tts_values[1]);
	data = (struct varlena *) DatumGetPointer(sort->slot->tts_values[2]);
	*length = VARSIZE_ANY_EXHDR(data);
	return VARDATA_ANY(data);
}

void
spf_sort_end(SpfSort *sort)
{
	ExecDropSingleTupleTableSlot(sort->slot);
	tuplesort_end(sort->state);
	if (sort->buffer)
		pfree(sort->buffer);
	pfree(sort);
}

struct SpfList
{
	BufFile    *file;
	Size		item_size;
	int64		count;
	int64		read;
};

SpfList *
spf_list_begin(Size item_size)
{
	SpfList    *list = palloc0(sizeof(SpfList));

	list->file = BufFileCreateTemp(false);
	list->item_size = item_size;
	return list;
}

void
spf_list_put(SpfList *list, const void *item)
{
	BufFileWrite(list->file, unconstify(void *, item), list->item_size);
	list->count++;
}

int64
spf_list_count(const SpfList *list)
{
	return list->count;
}

void
spf_list_rewind(SpfList *list)
{
	if (BufFileSeek(list->file, 0, 0, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rewind temporary file of an index build: %m")));
	list->read = 0;
}

bool
spf_list_next(SpfList *list, void *item)
{
	if (list->read >= list->count)
		return false;
	if (BufFileRead(list->file, item, list->item_size) != list->item_size)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read temporary file of an index build: %m")));
	list->read++;
	return true;
}

void
spf_list_end(SpfList *list)
{
	BufFileClose(list->file);
	pfree(list);
}
