/*-------------------------------------------------------------------------
 *
 * page.c
 *	  What all pages of an index have in common, and how they are changed.
 *
 * See page.h.  Locks: functions that read return with the page locked as
 * asked; nothing here waits for a second lock while holding one.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "storage/indexfsm.h"
#include "storage/freespace.h"
#include "utils/memutils.h"

#include "page.h"

int
spf_record_ref_cmp(const void *a, const void *b)
{
	const SpfRecordRef *x = a;
	const SpfRecordRef *y = b;

	if (x->block != y->block)
		return x->block < y->block ? -1 : 1;
	if (x->offset != y->offset)
		return (int) x->offset - (int) y->offset;
	return (int) x->version - (int) y->version;
}

void
spf_page_corrupted(Relation index, BlockNumber block, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" contains a corrupted page at block %u",
					RelationGetRelationName(index), block),
			 errdetail("%s", what),
			 errhint("Please REINDEX it.")));
}

bool
spf_page_check(Relation index, Buffer buf)
{
	Page		page = BufferGetPage(buf);
	PageHeader	header = (PageHeader) page;

	if (PageIsNew(page))
		return false;
	if (header->pd_special != BLCKSZ - MAXALIGN(sizeof(SpfPageOpaqueData)) ||
		header->pd_lower < SizeOfPageHeaderData ||
		header->pd_lower > header->pd_upper ||
		header->pd_upper > header->pd_special ||
		SpfPageOpaque(page)->magic != SPF_PAGE_MAGIC ||
		SpfPageOpaque(page)->kind < SPF_PAGE_META ||
		SpfPageOpaque(page)->kind > SPF_PAGE_FREE)
		spf_page_corrupted(index, BufferGetBlockNumber(buf), "The page is not one of spfresh.");
	return true;
}

/*
 * Where this backend found blocks before.  A query visits a hundred pages for a
 * microsecond each; finding them in the shared hash table is a good part of that.  A
 * buffer that has another page by now is noticed by ReadRecentBuffer.
 */
#define HINTS			(1 << 16)

/* So often the shared table is asked all the same, for only that counts as use of the buffer. */
#define HINT_TURNS		32

typedef struct SpfHint
{
	uint32		key;
	Buffer		buf;
} SpfHint;

static SpfHint *hints = NULL;
static uint32 hint_turn = 0;

/* Two pages may have the same key: which one the buffer has is seen when it is pinned. */
static inline uint32
hint_key(Relation rel, BlockNumber block)
{
	return block + (uint32) spf_storage_number(rel) * 7919;
}

/* Where the block probably is, or InvalidBuffer. */
static inline Buffer
find_hint(Relation rel, BlockNumber block)
{
	uint32		key = hint_key(rel, block);

	/* a temporary relation may have a number that another one has, too */
	if (hints == NULL || hints[key % HINTS].key != key || RelationUsesLocalBuffers(rel))
		return InvalidBuffer;
	return hints[key % HINTS].buf;
}

static void
remember(Relation rel, BlockNumber block, Buffer buf)
{
	uint32		key = hint_key(rel, block);

	if (hints == NULL)
		hints = MemoryContextAllocZero(TopMemoryContext, HINTS * sizeof(SpfHint));
	hints[key % HINTS].key = key;
	hints[key % HINTS].buf = buf;
}

void
spf_page_met(Relation rel, Buffer buf)
{
	if (!BufferIsLocal(buf))
		remember(rel, BufferGetBlockNumber(buf), buf);
}

/* Pin a page that was in this buffer, if it still is. */
static Buffer
pin_hinted(Relation rel, BlockNumber block, Buffer buf)
{
	if (!BufferIsValid(buf) || ++hint_turn % HINT_TURNS == 0 ||
		!spf_read_recent(rel, block, buf))
		return InvalidBuffer;
	pgstat_count_buffer_read(rel);
	pgstat_count_buffer_hit(rel);
	return buf;
}

Buffer
spf_page_pin_known(Relation rel, BlockNumber block)
{
	return pin_hinted(rel, block, find_hint(rel, block));
}

static Buffer
read_buffer(Relation index, BlockNumber block)
{
	Buffer		buf = spf_page_pin_known(index, block);

	if (!BufferIsValid(buf))
	{
		buf = ReadBuffer(index, block);
		spf_page_met(index, buf);
	}
	return buf;
}

/* Is the block there?  The cached size serves, where it is known, for indexes rarely shrink. */
static bool
block_exists(Relation index, BlockNumber block)
{
	BlockNumber cached = RelationGetSmgr(index)->smgr_cached_nblocks[MAIN_FORKNUM];

	if (cached != InvalidBlockNumber && block < cached)
		return true;
	return BlockNumberIsValid(block) && block < RelationGetNumberOfBlocks(index);
}

Buffer
spf_page_pin_near(Relation rel, BlockNumber block, Buffer buf)
{
	buf = pin_hinted(rel, block, buf);
	return BufferIsValid(buf) || !block_exists(rel, block) ? buf : ReadBuffer(rel, block);
}

bool
spf_page_cached(Relation rel, BlockNumber block)
{
	Buffer		buf = find_hint(rel, block);

	if (BufferIsValid(buf) && spf_buffer_holds(rel, block, buf))
		return true;
	if (!block_exists(rel, block))
		return true;
	buf = spf_find_buffer(rel, block);
	if (!BufferIsValid(buf))
		return false;
	remember(rel, block, buf);
	return true;
}

Buffer
spf_page_lock_pinned(Relation index, Buffer buf, int lockmode)
{
	if (!BufferIsValid(buf))
		return InvalidBuffer;
	LockBuffer(buf, lockmode);
	if (!spf_page_check(index, buf))
	{
		UnlockReleaseBuffer(buf);
		return InvalidBuffer;
	}
	return buf;
}

Buffer
spf_page_read_strategy(Relation index, BlockNumber block, int lockmode,
					   BufferAccessStrategy strategy)
{
	if (!block_exists(index, block))
		return InvalidBuffer;
	return spf_page_lock_pinned(index, strategy == NULL ? read_buffer(index, block) :
								ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_NORMAL,
												   strategy),
								lockmode);
}

Buffer
spf_page_read(Relation index, BlockNumber block, int lockmode)
{
	return spf_page_read_strategy(index, block, lockmode, NULL);
}

Buffer
spf_page_pin(Relation index, BlockNumber block)
{
	Buffer		buf;
	char	   *page;

	if (!block_exists(index, block))
		return InvalidBuffer;
	buf = read_buffer(index, block);
	page = BufferGetPage(buf);
	spf_prefetch_memory(page, 1024);
	spf_prefetch_memory(page + BLCKSZ - 64, 64);
	return buf;
}

Buffer
spf_page_follow_pinned(Relation index, Buffer buf, SpfPageRef ref, uint16 kind, int lockmode)
{
	SpfPageOpaqueData *opaque;

	buf = spf_page_lock_pinned(index, buf, lockmode);
	if (!BufferIsValid(buf))
		return InvalidBuffer;
	opaque = SpfPageOpaque(BufferGetPage(buf));
	if (opaque->kind != kind || opaque->generation != ref.generation)
	{
		UnlockReleaseBuffer(buf);
		return InvalidBuffer;
	}
	return buf;
}

Buffer
spf_page_follow(Relation index, SpfPageRef ref, uint16 kind, int lockmode)
{
	if (!block_exists(index, ref.block))
		return InvalidBuffer;
	return spf_page_follow_pinned(index, read_buffer(index, ref.block), ref, kind, lockmode);
}

void
spf_buffer_announce(Buffer buf, Size bytes)
{
	spf_prefetch_descriptor(buf);
	spf_prefetch_memory(BufferGetBlock(buf), bytes);
}

void
spf_page_announce(Relation rel, BlockNumber block, Size bytes)
{
	Buffer		buf = find_hint(rel, block);

	if (!BufferIsValid(buf))
		return;
	spf_buffer_announce(buf, bytes);
	spf_prefetch_memory((char *) BufferGetBlock(buf) + BLCKSZ - 64, 64);
}

void
spf_buffer_item_announce(Buffer buf, OffsetNumber offset, Size most)
{
	Page		page = (Page) BufferGetBlock(buf);
	uint32		start;
	uint32		length;

	if (!OffsetNumberIsValid(offset) ||
		SizeOfPageHeaderData + offset * sizeof(ItemIdData) > BLCKSZ)
		return;
	start = ItemIdGetOffset(PageGetItemId(page, offset));
	length = ItemIdGetLength(PageGetItemId(page, offset));
	if (start + length <= BLCKSZ)
		spf_prefetch_memory((char *) page + start, Min(length, most));
}

void
spf_item_announce(Relation rel, BlockNumber block, OffsetNumber offset)
{
	Buffer		buf = find_hint(rel, block);

	if (BufferIsValid(buf))
		spf_buffer_item_announce(buf, offset, SPF_ANNOUNCED);
}

static ItemPointerData
block_address(BlockNumber block)
{
	ItemPointerData tid;

	ItemPointerSet(&tid, block, FirstOffsetNumber);
	return tid;
}

void
spf_lock_block(Relation index, BlockNumber block, LOCKMODE mode)
{
	ItemPointerData tid = block_address(block);

	LockTuple(index, &tid, mode);
}

bool
spf_try_lock_block(Relation index, BlockNumber block, LOCKMODE mode)
{
	ItemPointerData tid = block_address(block);

	return spf_conditional_lock_tuple(index, &tid, mode);
}

void
spf_unlock_block(Relation index, BlockNumber block, LOCKMODE mode)
{
	ItemPointerData tid = block_address(block);

	UnlockTuple(index, &tid, mode);
}

void
spf_write_begin(SpfWrite *write, Relation index, bool building)
{
	write->index = index;
	write->nbuffers = 0;
	write->state = building ? NULL : GenericXLogStart(index);
}

Page
spf_write_page(SpfWrite *write, Buffer buf, bool fresh)
{
	if (write->state != NULL)
		return GenericXLogRegisterBuffer(write->state, buf,
										 fresh ? GENERIC_XLOG_FULL_IMAGE : 0);
	if (write->nbuffers >= MAX_GENERIC_XLOG_PAGES)
		elog(ERROR, "too many pages in one change");
	write->buffers[write->nbuffers++] = buf;
	return BufferGetPage(buf);
}

void
spf_write_finish(SpfWrite *write)
{
	if (write->state != NULL)
		GenericXLogFinish(write->state);
	else
	{
		for (int i = 0; i < write->nbuffers; i++)
			MarkBufferDirty(write->buffers[i]);
	}
}

void
spf_write_abort(SpfWrite *write)
{
	if (write->state != NULL)
		GenericXLogAbort(write->state);
}

uint32
spf_page_next_generation(Page page)
{
	SpfPageOpaqueData *opaque = SpfPageOpaque(page);

	opaque->generation++;
	/* neither a generation nor a version (its low half) is ever zero */
	if ((uint16) opaque->generation == 0)
		opaque->generation++;
	return opaque->generation;
}

uint32
spf_page_init(Page page, uint16 kind)
{
	uint32		generation = 0;
	SpfPageOpaqueData *opaque;

	if (!PageIsNew(page))
		generation = SpfPageOpaque(page)->generation;
	PageInit(page, BLCKSZ, sizeof(SpfPageOpaqueData));
	opaque = SpfPageOpaque(page);
	opaque->generation = generation;
	opaque->kind = kind;
	opaque->magic = SPF_PAGE_MAGIC;
	return spf_page_next_generation(page);
}

void
spf_page_make_free(Page page, bool unused)
{
	SpfFreePageData *content;

	spf_page_init(page, SPF_PAGE_FREE);
	content = (SpfFreePageData *) PageGetContents(page);
	content->retired = unused ? InvalidFullTransactionId : ReadNextFullTransactionId();
	((PageHeader) page)->pd_lower = MAXALIGN(SizeOfPageHeaderData) + sizeof(SpfFreePageData);
}

bool
spf_page_reusable(Page page)
{
	if (PageIsNew(page))
		return true;
	if (SpfPageOpaque(page)->kind != SPF_PAGE_FREE)
		return false;
	return spf_retired_long_ago(((SpfFreePageData *) PageGetContents(page))->retired);
}

bool
spf_retired_long_ago(FullTransactionId retired)
{
	return GlobalVisCheckRemovableFullXid(NULL, retired);
}

void
spf_announce_reuse(Relation index, BlockNumber block, FullTransactionId retired,
				   FullTransactionId *announced)
{
	if (!FullTransactionIdFollows(retired, *announced))
		return;
	if (XLogStandbyInfoActive() && RelationNeedsWAL(index))
		spf_log_reuse(index, block, retired);
	*announced = retired;
}

bool
spf_may_forget(Relation index, BlockNumber block, FullTransactionId superseded)
{
	FullTransactionId announced = InvalidFullTransactionId;

	if (!FullTransactionIdIsValid(superseded) || !spf_retired_long_ago(superseded))
		return false;
	spf_announce_reuse(index, block, superseded, &announced);
	return true;
}

void
spf_page_free(Relation index, Buffer buf, bool unused)
{
	SpfWrite	write;

	spf_write_begin(&write, index, false);
	spf_page_make_free(spf_write_page(&write, buf, false), unused);
	spf_write_finish(&write);
}

Buffer
spf_page_alloc(Relation index, bool building)
{
	while (!building)
	{
		/* Only wholly free pages: partly filled record pages are in the map, too. */
		BlockNumber block = GetPageWithFreeSpace(index, MaxHeapTupleSize);
		Buffer		buf;

		if (block == InvalidBlockNumber)
			break;
		RecordPageWithFreeSpace(index, block, 0);
		if (block >= RelationGetNumberOfBlocks(index))
			continue;
		buf = ReadBuffer(index, block);

		/*
		 * Another backend may have got the same page, and the map is not
		 * crash-safe: only the page itself tells.
		 */
		if (ConditionalLockBuffer(buf))
		{
			(void) spf_page_check(index, buf);
			if (spf_page_reusable(BufferGetPage(buf)))
				return buf;
			LockBuffer(buf, BUFFER_LOCK_UNLOCK);
		}
		ReleaseBuffer(buf);
	}
	return spf_extend_buffer(index);
}
