/*-------------------------------------------------------------------------
 *
 * row_value.c
 *	  Values that lie in a table's TOAST, fetched fast.
 *
 * A value's pieces ("chunks") are rows of the TOAST table: its number, theirs, and the bytes.  They are
 * looked for where this backend has met the value before, and otherwise through the TOAST table's index, as
 * PostgreSQL does.  What was remembered is a hint: all that the index would have answered for is checked on
 * the page (that it is a page of this table, the numbers of value and piece, the length, that the
 * snapshot for TOAST sees it), so it does not matter what has become of the table since.
 *
 * Locks: one page at a time, share mode, while a piece is copied.  The TOAST table and its index stay locked to the
 * end of the transaction, like every table and index that a statement reads.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/detoast.h"
#include "access/heaptoast.h"
#include "access/relscan.h"
#include "access/table.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#include "page.h"
#include "row_value.h"

struct SpfValueReader
{
	MemoryContext context;
	char	   *bytes;			/* the value, a varlena */
	Size		space;
	Relation	table;			/* NULL: not open */
	Snapshot	snapshot;
	SnapshotData snapshot_space;

	/* for values that are met for the first time; NULL: not open */
	Relation   *indexes;
	int			nindexes;
	IndexScanDesc scan;
	TupleTableSlot *slot;
};

/* ---- where values were met ---- */

/* A place that this backend has met; 16 bytes, as there may be many. */
typedef struct SpfPlaceHint
{
	uint32		key;			/* of value and table; other values may have the same */
	BlockNumber block;			/* the first piece */
	Buffer		buf;			/* had it; InvalidBuffer: nothing is known */
	OffsetNumber offset;
} SpfPlaceHint;

/* The table grows with what is put into it; a power of two. */
#define FEWEST_HINTS	(1 << 10)
#define MOST_HINTS		(1 << 17)

static SpfPlaceHint *hints = NULL;
static uint32 hints_space = 0;
static uint32 hints_used = 0;

/* Numbers of values that are loaded together follow each other, and so do their places here. */
static inline uint32
hint_key(Oid table, Oid value)
{
	return value + table * 7919;
}

static inline const SpfPlaceHint *
find_hint(Oid table, Oid value)
{
	uint32		key = hint_key(table, value);
	const SpfPlaceHint *hint;

	if (hints_space == 0)
		return NULL;
	hint = &hints[key & (hints_space - 1)];
	return hint->key == key && BufferIsValid(hint->buf) ? hint : NULL;
}

static void
put_hint(const SpfPlaceHint *hint)
{
	SpfPlaceHint *place = &hints[hint->key & (hints_space - 1)];

	hints_used += !BufferIsValid(place->buf);
	*place = *hint;
}

static void
grow_hints(void)
{
	SpfPlaceHint *old = hints;
	uint32		old_space = hints_space;
	uint32		space = Max(FEWEST_HINTS, old_space * 2);

	hints = MemoryContextAllocZero(TopMemoryContext, space * sizeof(SpfPlaceHint));
	hints_space = space;
	hints_used = 0;
	for (uint32 i = 0; i < old_space; i++)
	{
		if (BufferIsValid(old[i].buf))
			put_hint(&old[i]);
	}
	if (old != NULL)
		pfree(old);
}

static void
remember(Oid table, Oid value, Buffer buf, OffsetNumber offset)
{
	SpfPlaceHint hint = {hint_key(table, value), BufferGetBlockNumber(buf), buf, offset};

	/* a temporary table's pages are not where others can be */
	if (BufferIsLocal(buf))
		return;
	if (hints_used >= hints_space / 2 && hints_space < MOST_HINTS)
		grow_hints();
	put_hint(&hint);
}

/* ---- pieces ---- */

/* A value in TOAST, as it is being put together. */
typedef struct SpfPieces
{
	Oid			value;
	int32		size;			/* of all, without header */
	int			npieces;
	int			next;			/* the number of the next one */
	char	   *bytes;
} SpfPieces;

/* Take a row of the TOAST table, if it is the next piece; what is wrong with it, or NULL. */
static const char *
take_piece(SpfPieces *pieces, HeapTuple tuple, TupleDesc desc)
{
	int			start = pieces->next * TOAST_MAX_CHUNK_SIZE;
	int			expected = Min(pieces->size - start, (int) TOAST_MAX_CHUNK_SIZE);
	bool		isnull[3];
	Datum		value = fastgetattr(tuple, 1, desc, &isnull[0]);
	Datum		number = fastgetattr(tuple, 2, desc, &isnull[1]);
	struct varlena *piece = (struct varlena *) DatumGetPointer(fastgetattr(tuple, 3, desc, &isnull[2]));

	if (isnull[0] || isnull[1] || isnull[2] || DatumGetObjectId(value) != pieces->value)
		return "not of this value";
	if (pieces->next >= pieces->npieces || DatumGetInt32(number) != pieces->next)
		return "unexpected number";
	if (VARATT_IS_EXTERNAL(piece) || VARATT_IS_COMPRESSED(piece) ||
		VARSIZE_ANY_EXHDR(piece) != expected)
		return "unexpected size";
	memcpy(pieces->bytes + start, VARDATA_ANY(piece), expected);
	pieces->next++;
	return NULL;
}

/*
 * Take pieces from a page, from an offset on, as long as they are those that come next.
 * Returns whether any was.
 */
static bool
take_from_page(SpfValueReader *reader, SpfPieces *pieces, Buffer buf, OffsetNumber offset)
{
	Page		page = BufferGetPage(buf);
	int			before = pieces->next;
	HeapTupleData tuple;

	LockBuffer(buf, BUFFER_LOCK_SHARE);
	for (; pieces->next < pieces->npieces && offset <= PageGetMaxOffsetNumber(page); offset++)
	{
		ItemId		item = PageGetItemId(page, offset);

		if (!ItemIdIsNormal(item))
			break;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = RelationGetRelid(reader->table);
		ItemPointerSet(&tuple.t_self, BufferGetBlockNumber(buf), offset);
		if (!HeapTupleSatisfiesVisibility(&tuple, reader->snapshot, buf) ||
			take_piece(pieces, &tuple, RelationGetDescr(reader->table)) != NULL)
			break;
	}
	LockBuffer(buf, BUFFER_LOCK_UNLOCK);
	return pieces->next > before;
}

/* From where the value was met before; later pieces lie behind the first, and on the pages that follow. */
static bool
read_remembered(SpfValueReader *reader, SpfPieces *pieces)
{
	Relation	table = reader->table;
	const SpfPlaceHint *hint = find_hint(RelationGetRelid(table), pieces->value);
	BlockNumber block;
	Buffer		buf;
	bool		found;

	if (hint == NULL || RelationUsesLocalBuffers(table))
		return false;
	block = hint->block;
	buf = spf_page_pin_near(table, block, hint->buf);
	if (!BufferIsValid(buf))
		return false;
	found = take_from_page(reader, pieces, buf, hint->offset);
	if (found && buf != hint->buf)
		remember(RelationGetRelid(table), pieces->value, buf, hint->offset);
	ReleaseBuffer(buf);
	while (found && pieces->next < pieces->npieces)
	{
		buf = spf_page_pin_known(table, ++block);
		if (!BufferIsValid(buf))
			return false;
		found = take_from_page(reader, pieces, buf, FirstOffsetNumber);
		ReleaseBuffer(buf);
	}
	return found;
}

static void
open_index(SpfValueReader *reader)
{
	MemoryContext old = MemoryContextSwitchTo(reader->context);
	int			valid = toast_open_indexes(reader->table, AccessShareLock, &reader->indexes,
										   &reader->nindexes);

	reader->slot = table_slot_create(reader->table, NULL);
	reader->scan = spf_index_beginscan(reader->table, reader->indexes[valid], reader->snapshot, 1);
	MemoryContextSwitchTo(old);
}

/* Through the index, which knows all pieces in order. */
static void
read_by_index(SpfValueReader *reader, SpfPieces *pieces)
{
	ScanKeyData key;

	if (reader->scan == NULL)
		open_index(reader);
	pieces->next = 0;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(pieces->value));
	index_rescan(reader->scan, &key, 1, NULL, 0);
	while (index_getnext_slot(reader->scan, ForwardScanDirection, reader->slot))
	{
		HeapTuple	tuple = ExecFetchSlotHeapTuple(reader->slot, false, NULL);
		Buffer		buf = ((BufferHeapTupleTableSlot *) reader->slot)->buffer;
		const char *wrong;

		if (pieces->next == 0)
			remember(RelationGetRelid(reader->table), pieces->value, buf,
					 ItemPointerGetOffsetNumber(&tuple->t_self));
		spf_page_met(reader->table, buf);
		wrong = take_piece(pieces, tuple, RelationGetDescr(reader->table));
		if (wrong != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg_internal("unexpected chunk for toast value %u in \"%s\": %s",
									 pieces->value, RelationGetRelationName(reader->table), wrong)));
	}
	ExecClearTuple(reader->slot);
	if (pieces->next < pieces->npieces)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg_internal("missing chunk number %d for toast value %u in \"%s\"",
								 pieces->next, pieces->value,
								 RelationGetRelationName(reader->table))));
}

/* ---- values ---- */

/* Does a value lie in TOAST as it is? */
static bool
in_toast(Datum value, struct varatt_external *pointer)
{
	const struct varlena *attr = (const struct varlena *) DatumGetPointer(value);

	if (!VARATT_IS_EXTERNAL_ONDISK(attr))
		return false;
	VARATT_EXTERNAL_GET_POINTER(*pointer, attr);
	return !VARATT_EXTERNAL_IS_COMPRESSED(*pointer);
}

/* Have this TOAST table open; false if it is not of a kind that is known here. */
static bool
open_table(SpfValueReader *reader, Oid table)
{
	if (reader->table != NULL && RelationGetRelid(reader->table) != table)
		spf_value_reader_close(reader);
	if (reader->table == NULL)
	{
		reader->table = table_open(table, AccessShareLock);
		reader->snapshot = spf_toast_snapshot(&reader->snapshot_space);
	}
	return reader->table->rd_tableam == GetHeapamTableAmRoutine();
}

SpfValueReader *
spf_value_reader_make(void)
{
	SpfValueReader *reader = palloc0(sizeof(SpfValueReader));

	reader->context = CurrentMemoryContext;
	return reader;
}

Datum
spf_value_read(SpfValueReader *reader, Datum value)
{
	struct varatt_external pointer;
	SpfPieces	pieces;
	Size		size;

	if (!in_toast(value, &pointer) || !open_table(reader, pointer.va_toastrelid))
		return value;
	pieces.value = pointer.va_valueid;
	pieces.size = VARATT_EXTERNAL_GET_EXTSIZE(pointer);
	pieces.npieces = (pieces.size - 1) / TOAST_MAX_CHUNK_SIZE + 1;
	pieces.next = 0;
	size = pieces.size + VARHDRSZ;
	if (size > reader->space)
	{
		if (reader->bytes != NULL)
			pfree(reader->bytes);
		reader->bytes = NULL;
		reader->bytes = MemoryContextAlloc(reader->context, size);
		reader->space = size;
	}
	SET_VARSIZE(reader->bytes, size);
	pieces.bytes = VARDATA(reader->bytes);
	if (!read_remembered(reader, &pieces))
		read_by_index(reader, &pieces);
	return PointerGetDatum(reader->bytes);
}

void
spf_value_announce_page(SpfValueReader *reader, Datum value)
{
	struct varatt_external pointer;
	const SpfPlaceHint *hint;

	if (!in_toast(value, &pointer))
		return;
	hint = find_hint(pointer.va_toastrelid, pointer.va_valueid);
	if (hint != NULL)
		spf_buffer_announce(hint->buf, 64);
}

void
spf_value_announce(SpfValueReader *reader, Datum value)
{
	struct varatt_external pointer;
	const SpfPlaceHint *hint;

	if (!in_toast(value, &pointer))
		return;
	hint = find_hint(pointer.va_toastrelid, pointer.va_valueid);
	if (hint != NULL)
		spf_buffer_item_announce(hint->buf, hint->offset, pointer.va_rawsize);
}

void
spf_value_reader_close(SpfValueReader *reader)
{
	if (reader->scan != NULL)
	{
		index_endscan(reader->scan);
		ExecDropSingleTupleTableSlot(reader->slot);
		toast_close_indexes(reader->indexes, reader->nindexes, NoLock);
	}
	reader->scan = NULL;
	if (reader->table != NULL)
		table_close(reader->table, NoLock);
	reader->table = NULL;
}
