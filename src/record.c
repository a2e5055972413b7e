/*-------------------------------------------------------------------------
 *
 * record.c
 *	  Vector records: where a vector lives, and the rows that have it.
 *
 * See record.h for what records are, and for the order of locks.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <float.h>
#include <math.h>

#include "storage/freespace.h"
#include "storage/indexfsm.h"

#include "io.h"
#include "patch.h"
#include "record_page.h"

/* ---- reading ---- */

Buffer
spf_record_page(Relation rel, BlockNumber block, int lockmode)
{
	Buffer		buf = spf_page_read(rel, block, lockmode);

	if (BufferIsValid(buf) && SpfPageOpaque(BufferGetPage(buf))->kind != SPF_PAGE_RECORD)
	{
		UnlockReleaseBuffer(buf);
		return InvalidBuffer;
	}
	return buf;
}

int
spf_record_offsets(Buffer buf)
{
	return PageGetMaxOffsetNumber(BufferGetPage(buf));
}

SpfRecordData *
spf_record_at(const SpfIndex *index, Buffer buf, Page page, uint16 offset)
{
	ItemId		item;
	SpfRecordData *record;
	uint32		start;
	uint32		length;

	if (offset < FirstOffsetNumber || offset > PageGetMaxOffsetNumber(page))
		return NULL;
	item = PageGetItemId(page, offset);
	if (!ItemIdIsNormal(item))
		return NULL;

	start = ItemIdGetOffset(item);
	length = ItemIdGetLength(item);
	if (start < ((PageHeader) page)->pd_upper || start != MAXALIGN(start) ||
		start + length > ((PageHeader) page)->pd_special ||
		length < offsetof(SpfRecordData, code) + index->padded)
		spf_page_corrupted(index->rel, BufferGetBlockNumber(buf),
						   "A record reaches beyond its page.");
	record = (SpfRecordData *) PageGetItem(page, item);
	if (record->code_bytes != index->padded ||
		length < RECORD_BYTES(index->padded, record->ntids) ||
		(record->level > 0 &&
		 (record->ntids > 0 || length < RECORD_BYTES(index->padded, 0) + sizeof(uint32))))
		spf_page_corrupted(index->rel, BufferGetBlockNumber(buf),
						   "A record's counts do not fit its length.");
	if (!isfinite(record->scale) ||
		(!(record->flags & RECORD_RETIRED) &&
		 (!(record->err >= 0) || !(record->norm2 >= 0) ||
		  !isfinite(record->err) || !isfinite(record->norm2) ||
		  (double) record->scale * record->scale > record->norm2 * 1.01 + FLT_MIN)))
		spf_page_corrupted(index->rel, BufferGetBlockNumber(buf),
						   "A record's numbers are out of range.");
	return record;
}

static SpfPageRef
record_child(const SpfRecordData *record)
{
	SpfPageRef	child;

	child.block = record->link;
	memcpy(&child.generation, RECORD_TAIL(record), sizeof(uint32));
	return child;
}

bool
spf_record_look(const SpfIndex *index, Buffer buf, uint16 offset, uint16 version,
				int level, SpfRecordView *view)
{
	SpfRecordData *record = spf_record_at(index, buf, BufferGetPage(buf), offset);

	if (record == NULL || record->version != version ||
		(level >= 0 && record->level != level))
		return false;
	view->level = record->level;
	view->version = record->version;
	view->retired = (record->flags & RECORD_RETIRED) != 0;
	view->numbers.scale = record->scale;
	view->numbers.err = view->retired ? 0 : record->err;
	view->numbers.norm2 = view->retired ? 0 : record->norm2;
	view->retired_at = InvalidFullTransactionId;
	view->lsn = InvalidXLogRecPtr;
	if (view->retired)
	{
		view->retired_at = record->retired_at;
		view->lsn = PageGetLSN(BufferGetPage(buf));
	}
	view->code = record->code;
	view->ntids = record->ntids;
	view->tids = RECORD_TIDS(record);
	view->more = InvalidBlockNumber;
	view->child = SPF_NO_PAGE;
	if (record->level == 0)
		view->more = record->link;
	else if (record->level != SPF_ORIGIN_LEVEL)
		view->child = record_child(record);
	return true;
}

bool
spf_record_view(const SpfIndex *index, Buffer buf, uint16 offset, uint16 version,
				int level, SpfRecordView *view)
{
	return spf_record_look(index, buf, offset, version, level, view) && !view->retired;
}

uint16
spf_record_version_at(const SpfIndex *index, Buffer buf, uint16 offset)
{
	SpfRecordData *record = spf_record_at(index, buf, BufferGetPage(buf), offset);

	return record == NULL ? 0 : record->version;
}

bool
spf_record_fetch(const SpfIndex *index, SpfRecordRef ref, int level,
				 SpfVector *vector, SpfPageRef *child)
{
	Buffer		buf = spf_record_page(index->rel, ref.block, BUFFER_LOCK_SHARE);
	SpfRecordView view;
	bool		found;

	if (!BufferIsValid(buf))
		return false;
	found = spf_record_look(index, buf, ref.offset, ref.version, level, &view);
	if (found)
	{
		vector->numbers = view.numbers;
		memcpy(vector->code, view.code, index->padded);
		if (child != NULL)
			*child = view.child;
	}
	UnlockReleaseBuffer(buf);
	return found;
}

int
spf_record_read_batch(const SpfIndex *index, const SpfRecordRef *refs, int n,
					  int level, SpfRecordSeen seen, void *state)
{
	Buffer		bufs[SPF_RECORD_BATCH];
	BlockNumber blocks[SPF_RECORD_BATCH] = {0};
	int			found = 0;

	Assert(n <= SPF_RECORD_BATCH);
	for (int i = 0; i < n; i++)
		blocks[i] = refs[i].block;
	spf_io_ahead(index->rel, blocks, n);
	for (int i = 0; i < n; i++)
	{
		bufs[i] = InvalidBuffer;
		if (i == 0 || refs[i].block != refs[i - 1].block)
			bufs[i] = spf_page_pin(index->rel, refs[i].block);
	}
	for (int i = 0; i < n; i++)
		spf_item_announce(index->rel, refs[i].block, refs[i].offset);
	for (int i = 0; i < n;)
	{
		BlockNumber block = refs[i].block;
		Buffer		buf = spf_page_lock_pinned(index->rel, bufs[i], BUFFER_LOCK_SHARE);
		bool		usable = BufferIsValid(buf) &&
			SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_RECORD;

		for (; i < n && refs[i].block == block; i++)
		{
			SpfRecordView view;

			if (usable &&
				spf_record_look(index, buf, refs[i].offset, refs[i].version, level, &view))
			{
				seen(state, refs[i], &view);
				found++;
			}
		}
		if (BufferIsValid(buf))
			UnlockReleaseBuffer(buf);
	}
	return found;
}

/* ---- for the verifier and statistics ---- */

int
spf_record_page_most(const SpfIndex *index)
{
	return SPF_PAGE_SPACE / (MAXALIGN(RECORD_BYTES(index->padded, 0)) + sizeof(ItemIdData));
}

const char *
spf_record_page_fault(const SpfIndex *index, Buffer buf)
{
	Page		page = BufferGetPage(buf);
	PageHeader	header = (PageHeader) page;
	int			maxoff = PageGetMaxOffsetNumber(page);
	bool		taken[BLCKSZ / MAXIMUM_ALIGNOF] = {0};

	if (header->pd_lower > header->pd_upper ||
		(header->pd_lower - SizeOfPageHeaderData) % sizeof(ItemIdData) != 0)
		return "The page's free space is out of place.";
	if (maxoff > spf_record_page_most(index))
		return "The page has more line pointers than records fit.";
	for (uint16 off = FirstOffsetNumber; off <= maxoff; off++)
	{
		ItemId		item = PageGetItemId(page, off);

		if (spf_record_at(index, buf, page, off) == NULL)
		{
			if (ItemIdIsUsed(item))
				return "A line pointer leads to no record.";
			continue;
		}
		for (int at = ItemIdGetOffset(item); at < ItemIdGetOffset(item) + ItemIdGetLength(item);
			 at += MAXIMUM_ALIGNOF)
		{
			if (taken[at / MAXIMUM_ALIGNOF])
				return "Two records overlap.";
			taken[at / MAXIMUM_ALIGNOF] = true;
		}
	}
	return NULL;
}

/* ---- writing ---- */

/*
 * Further TIDs that a new item has room for, for new versions of its rows: what fillfactor says, but at
 * most MAX_SPARE_TIDS; and nothing that would cost a record, where only a few fit a page.  (Room
 * in the item, not on the page: an item that has to grow moves others, and all that is logged.)
 */
#define MAX_SPARE_TIDS	3

static int
records_of_length(const SpfIndex *index, int ntids)
{
	return SPF_PAGE_SPACE / (MAXALIGN(RECORD_BYTES(index->padded, ntids)) + sizeof(ItemIdData));
}

static int
spare_tids(const SpfIndex *index)
{
	int			fillfactor = spf_options(index->rel)->fillfactor;
	int			most = records_of_length(index, 1);

	for (int spare = MAX_SPARE_TIDS; spare > 0; spare--)
	{
		int			records = records_of_length(index, 1 + spare);

		if (most >= 16 ? records * 100 >= most * fillfactor : records == most)
			return spare;
	}
	return 0;
}

/* Form the item for a record; returns its length.  `record` has a page's space. */
static Size
form_record(const SpfIndex *index, SpfRecordData *record, int level,
			const SpfVector *vector, const ItemPointerData *tids, int ntids, SpfPageRef child)
{
	record->version = 0;
	record->level = level;
	record->flags = 0;
	record->ntids = 0;
	record->code_bytes = index->padded;
	record->link = InvalidBlockNumber;
	record->scale = vector->numbers.scale;
	record->err = vector->numbers.err;
	record->norm2 = vector->numbers.norm2;
	memcpy(record->code, vector->code, index->padded);
	if (ntids > 0)
	{
		record->ntids = ntids;
		memcpy(RECORD_TIDS(record), tids, ntids * sizeof(ItemPointerData));
		return MAXALIGN(RECORD_BYTES(index->padded, ntids + spare_tids(index)));
	}
	record->link = child.block;
	memcpy(RECORD_TAIL(record), &child.generation, sizeof(uint32));
	return MAXALIGN(RECORD_BYTES(index->padded, 0) + sizeof(uint32));
}

/* Put a formed record on a page being written, giving it its version; 0 if there is no room. */
static SpfRecordRef
put_record(Page page, BlockNumber block, SpfRecordData *record, Size length)
{
	SpfRecordRef ref = SPF_NO_RECORD;

	if (PageGetFreeSpace(page) < length)
		return ref;
	record->version = (uint16) spf_page_next_generation(page);
	ref.offset = PageAddItemExtended(page, (Item) record, length, InvalidOffsetNumber, 0);
	if (ref.offset == InvalidOffsetNumber)
		return ref;
	ref.block = block;
	ref.version = record->version;
	return ref;
}

/* Put a record on a locked page that is made a record page first. */
static SpfRecordRef
put_on_fresh_page(const SpfIndex *index, Buffer buf, SpfRecordData *record, Size length)
{
	SpfRecordRef ref;
	SpfWrite	write;
	Page		page;

	spf_write_begin(&write, index->rel, index->building);
	page = spf_write_page(&write, buf, true);
	spf_page_init(page, SPF_PAGE_RECORD);
	ref = put_record(page, BufferGetBlockNumber(buf), record, length);
	if (!BlockNumberIsValid(ref.block))
		elog(ERROR, "a record does not fit an empty page of index \"%s\"",
			 RelationGetRelationName(index->rel));
	spf_write_finish(&write);
	return ref;
}

/* Put a record on a locked record page, if it has room. */
static SpfRecordRef
put_on_used_page(const SpfIndex *index, Buffer buf, SpfRecordData *record, Size length)
{
	SpfPatch	patch;
	Page		page = spf_patch_begin(&patch, index->rel, buf, index->building);
	SpfRecordRef ref = put_record(page, BufferGetBlockNumber(buf), record, length);

	if (!BlockNumberIsValid(ref.block))
		return ref;
	spf_patch_part(&patch, page, ((PageHeader) page)->pd_lower);
	spf_patch_part(&patch, PageGetItem(page, PageGetItemId(page, ref.offset)), length);
	spf_patch_part(&patch, SpfPageOpaque(page), sizeof(SpfPageOpaqueData));
	spf_patch_finish(&patch);
	return ref;
}

/*
 * The map counts in units that are larger than the differences of interest here: it is told of whole records, in
 * its units.
 */
#define MAP_UNIT		(BLCKSZ / 256)

Size
spf_record_room(const SpfIndex *index, Page page)
{
	Size		each = MAXALIGN(RECORD_BYTES(index->padded, 1 + spare_tids(index))) +
		sizeof(ItemIdData);
	Size		records = (PageGetFreeSpace(page) + sizeof(ItemIdData)) / each;

	/* a record page is never taken for a wholly free one */
	return Min(records * TYPEALIGN(MAP_UNIT, each), MaxHeapTupleSize - MAP_UNIT);
}

/*
 * Try to put a record on the page of `block`: a record page with room, or one that may be used
 * again for anything; with `pass` the latter is left alone, and *pass is set.
 */
static SpfRecordRef
try_page(const SpfIndex *index, BlockNumber block, SpfRecordData *record, Size length,
		 bool *pass)
{
	Buffer		buf = spf_page_read(index->rel, block, BUFFER_LOCK_EXCLUSIVE);
	SpfRecordRef ref = SPF_NO_RECORD;

	if (!BufferIsValid(buf))
		return ref;
	if (spf_page_reusable(BufferGetPage(buf)))
	{
		if (pass != NULL)
			*pass = true;
		else
			ref = put_on_fresh_page(index, buf, record, length);
	}
	else if (SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_RECORD &&
			 PageGetFreeSpace(BufferGetPage(buf)) >= length)
		ref = put_on_used_page(index, buf, record, length);
	UnlockReleaseBuffer(buf);
	return ref;
}

/* Wholly free pages that are passed over, for postings to use, in the search for a record page with room */
#define MAX_PASSED		8

/* Put a record where the free space map knows of room, after `full`, which had none. */
static SpfRecordRef
fill_hole(const SpfIndex *index, BlockNumber full, SpfRecordData *record, Size length)
{
	Size		needed = length + sizeof(ItemIdData);
	SpfRecordRef ref = SPF_NO_RECORD;
	BlockNumber passed[MAX_PASSED];
	int			npassed = 0;
	BlockNumber block;

	if (BlockNumberIsValid(full))
		block = RecordAndGetPageWithFreeSpace(index->rel, full, 0, needed);
	else
		block = GetPageWithFreeSpace(index->rel, needed);
	while (BlockNumberIsValid(block))
	{
		bool		pass = false;

		ref = try_page(index, block, record, length,
					   npassed < MAX_PASSED ? &pass : NULL);
		if (BlockNumberIsValid(ref.block))
			break;
		if (pass)
			passed[npassed++] = block;

		/* the map was wrong, or the page is full by now: do not be sent there again */
		block = RecordAndGetPageWithFreeSpace(index->rel, block, 0, needed);
	}
	for (int i = 0; i < npassed; i++)
		RecordFreeIndexPage(index->rel, passed[i]);
	if (!BlockNumberIsValid(ref.block) && npassed > 0)
		ref = try_page(index, passed[0], record, length, NULL);
	if (BlockNumberIsValid(ref.block))
		RelationSetTargetBlock(index->rel, ref.block);
	return ref;
}

SpfRecordRef
spf_record_insert(const SpfIndex *index, int level, const SpfVector *vector,
				  const ItemPointerData *tid, SpfPageRef child, BlockNumber near)
{
	PGAlignedBlock space;
	SpfRecordData *record = (SpfRecordData *) space.data;
	Size		length;
	SpfRecordRef ref = SPF_NO_RECORD;
	BlockNumber block;
	Buffer		buf;

	memset(space.data, 0, BLCKSZ);
	length = form_record(index, record, level, vector, tid, tid != NULL ? 1 : 0, child);

	if (BlockNumberIsValid(near))
		ref = try_page(index, near, record, length, NULL);
	if (BlockNumberIsValid(ref.block))
		return ref;

	/* pages made anew are filled first, then holes that vacuum made */
	block = RelationGetTargetBlock(index->rel);
	if (BlockNumberIsValid(block))
		ref = try_page(index, block, record, length, NULL);
	if (BlockNumberIsValid(ref.block))
	{
		RelationSetTargetBlock(index->rel, block);
		return ref;
	}
	ref = fill_hole(index, block, record, length);
	if (BlockNumberIsValid(ref.block))
		return ref;

	buf = spf_page_alloc(index->rel, index->building);
	ref = put_on_fresh_page(index, buf, record, length);
	RelationSetTargetBlock(index->rel, BufferGetBlockNumber(buf));
	UnlockReleaseBuffer(buf);
	return ref;
}

void
spf_record_delete(Page page, uint16 offset)
{
	PageIndexTupleDeleteNoCompact(page, offset);
	PageSetHasFreeLinePointers(page);
	spf_page_next_generation(page);
}

void
spf_record_retire(Page page, uint16 offset)
{
	SpfRecordData *record = (SpfRecordData *) PageGetItem(page, PageGetItemId(page, offset));

	record->flags |= RECORD_RETIRED;
	record->retired_at = ReadNextFullTransactionId();
}

void
spf_record_set_child(Page page, uint16 offset, SpfPageRef child)
{
	SpfRecordData *record = (SpfRecordData *) PageGetItem(page, PageGetItemId(page, offset));

	record->link = child.block;
	memcpy(RECORD_TAIL(record), &child.generation, sizeof(uint32));
}

/* ---- writing in bulk ---- */

void
spf_record_writer_begin(SpfRecordWriter *writer, SpfIndex *index)
{
	Assert(index->building);
	writer->index = index;
	writer->buf = InvalidBuffer;
}

SpfRecordRef
spf_record_writer_add(SpfRecordWriter *writer, int level, const SpfVector *vector,
					  const ItemPointerData *tids, int ntids, SpfPageRef child)
{
	PGAlignedBlock space;
	SpfRecordData *record = (SpfRecordData *) space.data;
	Size		length;
	SpfRecordRef ref;
	Page		page;

	memset(space.data, 0, MAXALIGN(RECORD_BYTES(writer->index->padded, ntids + 1 + MAX_SPARE_TIDS)));
	length = form_record(writer->index, record, level, vector, tids, ntids, child);

	if (BufferIsValid(writer->buf))
	{
		LockBuffer(writer->buf, BUFFER_LOCK_EXCLUSIVE);
		page = BufferGetPage(writer->buf);
		if (PageGetMaxOffsetNumber(page) > 0 &&
			PageGetFreeSpace(page) < length)
		{
			LockBuffer(writer->buf, BUFFER_LOCK_UNLOCK);
			spf_record_writer_end(writer);
		}
	}
	if (!BufferIsValid(writer->buf))
	{
		writer->buf = spf_page_alloc(writer->index->rel, true);
		spf_page_init(BufferGetPage(writer->buf), SPF_PAGE_RECORD);
	}
	page = BufferGetPage(writer->buf);
	ref = put_record(page, BufferGetBlockNumber(writer->buf), record, length);
	Assert(BlockNumberIsValid(ref.block));
	MarkBufferDirty(writer->buf);
	LockBuffer(writer->buf, BUFFER_LOCK_UNLOCK);
	return ref;
}

void
spf_record_writer_end(SpfRecordWriter *writer)
{
	if (BufferIsValid(writer->buf))
	{
		ReleaseBuffer(writer->buf);
		writer->buf = InvalidBuffer;
	}
}
