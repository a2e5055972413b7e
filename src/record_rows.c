/*-------------------------------------------------------------------------
 *
 * record_rows.c
 *	  The rows of vector records: adding them, reading them, vacuum.
 *
 * See record.h for what records are, and for the order of locks.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "storage/freespace.h"
#include "storage/indexfsm.h"

#include "patch.h"
#include "record_page.h"

/* ---- reading ---- */

int
spf_record_more(const SpfIndex *index, BlockNumber block, SpfRecordRef owner,
				ItemPointerData *tids, BlockNumber *next)
{
	Buffer		buf = spf_page_read(index->rel, block, BUFFER_LOCK_SHARE);
	int			ntids = 0;

	*next = InvalidBlockNumber;
	if (!BufferIsValid(buf))
		return 0;
	if (SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_TIDS)
	{
		SpfTidsData *content = SpfPageTids(BufferGetPage(buf));

		if (content->ntids > TIDS_CAPACITY)
			spf_page_corrupted(index->rel, block, "A TIDS page's count is out of range.");
		if (spf_record_ref_cmp(&content->owner, &owner) == 0)
		{
			ntids = content->ntids;
			memcpy(tids, content->tids, ntids * sizeof(ItemPointerData));
			*next = content->next;
		}
	}
	UnlockReleaseBuffer(buf);
	return ntids;
}

void
spf_tids_view(const SpfIndex *index, Buffer buf, SpfTidsView *view)
{
	const SpfTidsData *content = SpfPageTids(BufferGetPage(buf));

	if (content->ntids > TIDS_CAPACITY)
		spf_page_corrupted(index->rel, BufferGetBlockNumber(buf),
						   "A TIDS page's count is out of range.");
	view->owner = content->owner;
	view->unlinked = (content->flags & TIDS_UNLINKED) != 0;
	view->ntids = content->ntids;
	view->next = content->next;
	view->tids = content->tids;
}

const char *
spf_tids_page_fault(Buffer buf)
{
	Page		page = BufferGetPage(buf);
	const SpfTidsData *content = SpfPageTids(page);

	if (content->ntids > TIDS_CAPACITY)
		return "A TIDS page's count is out of range.";
	if ((content->flags & ~TIDS_UNLINKED) != 0)
		return "A TIDS page's flags are not known.";
	if ((content->flags & TIDS_UNLINKED) != 0)
		return content->ntids > 0 ? "An unlinked TIDS page has rows." : NULL;
	if (((PageHeader) page)->pd_lower != (char *) &content->tids[content->ntids] - (char *) page)
		return "A TIDS page's count does not fit its length.";
	return NULL;
}

/* ---- adding ---- */

/* Has the item at `offset` room to spare for another TID? */
static bool
has_spare(Buffer buf, uint16 offset, const SpfRecordData *record)
{
	return RECORD_BYTES(record->code_bytes, record->ntids + 1) <=
		ItemIdGetLength(PageGetItemId(BufferGetPage(buf), offset));
}

/* Put a TID there: what most updates of a row's other columns come to. */
static void
use_spare(const SpfIndex *index, Buffer buf, uint16 offset, const ItemPointerData *tid)
{
	SpfPatch	patch;
	Page		page = spf_patch_begin(&patch, index->rel, buf, index->building);
	SpfRecordData *record = (SpfRecordData *) PageGetItem(page, PageGetItemId(page, offset));
	ItemPointerData *place = RECORD_TIDS(record) + record->ntids++;

	*place = *tid;
	spf_patch_part(&patch, &record->ntids, sizeof(record->ntids));
	spf_patch_part(&patch, place, sizeof(ItemPointerData));
	spf_patch_finish(&patch);
}

/* Add a TID to the item at `offset` by making it longer, if the page has room. */
static bool
grow_record(SpfWrite *write, Buffer buf, uint16 offset, const SpfRecordData *old,
			const ItemPointerData *tid)
{
	PGAlignedBlock space;
	SpfRecordData *record = (SpfRecordData *) space.data;
	Size		old_bytes = RECORD_BYTES(old->code_bytes, old->ntids);
	Size		length = MAXALIGN(RECORD_BYTES(old->code_bytes, old->ntids + 1));

	if (length > MAXALIGN(old_bytes) &&
		PageGetExactFreeSpace(BufferGetPage(buf)) < length - MAXALIGN(old_bytes))
		return false;
	memset(space.data, 0, length);
	memcpy(record, old, old_bytes);
	RECORD_TIDS(record)[record->ntids++] = *tid;
	if (!PageIndexTupleOverwrite(spf_write_page(write, buf, false), offset,
								 (Item) record, length))
		elog(ERROR, "could not grow a record in index \"%s\"",
			 RelationGetRelationName(write->index));
	return true;
}

/* Start the chain of TIDS pages of a record, or put a new page in front of it. */
static void
push_tids_page(SpfWrite *write, Buffer record_buf, uint16 offset, Buffer tids_buf,
			   const ItemPointerData *tid)
{
	Page		page = spf_write_page(write, tids_buf, true);
	Page		record_page = spf_write_page(write, record_buf, false);
	SpfRecordData *record;
	SpfTidsData *content;

	record = (SpfRecordData *) PageGetItem(record_page, PageGetItemId(record_page, offset));
	spf_page_init(page, SPF_PAGE_TIDS);
	content = SpfPageTids(page);
	content->owner.block = BufferGetBlockNumber(record_buf);
	content->owner.offset = offset;
	content->owner.version = record->version;
	content->next = record->link;
	content->flags = 0;
	content->ntids = 1;
	content->tids[0] = *tid;
	((PageHeader) page)->pd_lower = (char *) &content->tids[1] - (char *) page;
	record->link = BufferGetBlockNumber(tids_buf);
}

/* Add to the first TIDS page; false when it is full. */
static bool
append_tid(SpfWrite *write, Buffer tids_buf, const ItemPointerData *tid)
{
	Page		page;
	SpfTidsData *content = SpfPageTids(BufferGetPage(tids_buf));

	if (content->ntids >= TIDS_CAPACITY)
		return false;
	page = spf_write_page(write, tids_buf, false);
	content = SpfPageTids(page);
	content->tids[content->ntids++] = *tid;
	((PageHeader) page)->pd_lower = (char *) &content->tids[content->ntids] - (char *) page;
	return true;
}

/* A record with fewer rows than this gets no TIDS page: another record costs less. */
#define MIN_CHAINED		SPF_WRITER_TIDS

/* What adding a TID has at hand, and what it may turn out to need. */
typedef struct SpfAddTid
{
	const SpfIndex *index;
	SpfRecordRef ref;
	const ItemPointerData *tid;
	Buffer		chain;			/* first TIDS page, pinned, or InvalidBuffer */
	Buffer		spare;			/* page to become a TIDS page, locked, or InvalidBuffer */
	BlockNumber want_chain;		/* set with ADD_NEEDS_CHAIN */
} SpfAddTid;

typedef enum SpfAddResult
{
	ADD_DONE,
	ADD_REFUSED,
	ADD_NEEDS_CHAIN,
	ADD_NEEDS_SPARE
} SpfAddResult;

/* Add a TID to a record whose page `buf` is locked: never waits for anything to be read in. */
static SpfAddResult
add_tid_locked(SpfAddTid *add, Buffer buf)
{
	SpfRecordData *record = spf_record_at(add->index, buf, BufferGetPage(buf), add->ref.offset);
	SpfWrite	write;
	bool		chained;
	bool		done;

	if (record == NULL || record->version != add->ref.version || record->level != 0)
		return ADD_REFUSED;
	chained = BlockNumberIsValid(record->link);
	if (!chained && has_spare(buf, add->ref.offset, record))
	{
		use_spare(add->index, buf, add->ref.offset, add->tid);
		return ADD_DONE;
	}
	if (chained && record->link == add->ref.block)
		spf_page_corrupted(add->index->rel, add->ref.block, "A record's TIDS page is its own.");
	if (chained &&
		(!BufferIsValid(add->chain) || BufferGetBlockNumber(add->chain) != record->link))
	{
		add->want_chain = record->link;
		return ADD_NEEDS_CHAIN;
	}
	if (chained)
	{
		LockBuffer(add->chain, BUFFER_LOCK_EXCLUSIVE);
		if (!spf_page_check(add->index->rel, add->chain) ||
			SpfPageOpaque(BufferGetPage(add->chain))->kind != SPF_PAGE_TIDS ||
			spf_record_ref_cmp(&SpfPageTids(BufferGetPage(add->chain))->owner, &add->ref) != 0)
			spf_page_corrupted(add->index->rel, record->link,
							   "The TIDS page is not of the record that leads to it.");
	}

	spf_write_begin(&write, add->index->rel, add->index->building);
	done = chained ? append_tid(&write, add->chain, add->tid) :
		grow_record(&write, buf, add->ref.offset, record, add->tid);
	if (!done && BufferIsValid(add->spare))
	{
		push_tids_page(&write, buf, add->ref.offset, add->spare, add->tid);
		done = true;
	}
	if (done)
		spf_write_finish(&write);
	else
		spf_write_abort(&write);
	if (chained)
		LockBuffer(add->chain, BUFFER_LOCK_UNLOCK);
	if (done)
		return ADD_DONE;
	return chained || record->ntids >= MIN_CHAINED ? ADD_NEEDS_SPARE : ADD_REFUSED;
}

bool
spf_record_add_tid(const SpfIndex *index, SpfRecordRef ref, const ItemPointerData *tid)
{
	SpfAddTid	add = {index, ref, tid, InvalidBuffer, InvalidBuffer, InvalidBlockNumber};
	SpfAddResult result;

	do
	{
		Buffer		buf = spf_record_page(index->rel, ref.block, BUFFER_LOCK_EXCLUSIVE);

		result = ADD_REFUSED;
		if (BufferIsValid(buf))
		{
			result = add_tid_locked(&add, buf);
			UnlockReleaseBuffer(buf);
		}
		if (result == ADD_NEEDS_CHAIN)
		{
			if (BufferIsValid(add.chain))
				ReleaseBuffer(add.chain);
			add.chain = spf_page_pin(index->rel, add.want_chain);
			if (!BufferIsValid(add.chain))
				spf_page_corrupted(index->rel, ref.block, "A record's TIDS page is missing.");
		}
		else if (result == ADD_NEEDS_SPARE)
			add.spare = spf_page_alloc(index->rel, index->building);
	} while (result == ADD_NEEDS_CHAIN || result == ADD_NEEDS_SPARE);

	if (BufferIsValid(add.chain))
		ReleaseBuffer(add.chain);
	if (BufferIsValid(add.spare))
	{
		/* not needed after all: somebody else made room */
		if (spf_page_reusable(BufferGetPage(add.spare)) && !index->building)
			RecordFreeIndexPage(index->rel, BufferGetBlockNumber(add.spare));
		UnlockReleaseBuffer(add.spare);
	}
	return result == ADD_DONE;
}

/* ---- vacuum ---- */

/* No page, however damaged, has more line pointers. */
#define SPF_MAX_OFFSETS		(BLCKSZ / sizeof(ItemIdData))

/* Keep the TIDs that are alive; returns how many. */
static int
filter_tids(SpfRecordVacuum *vacuum, ItemPointerData *tids, int ntids)
{
	int			kept = 0;

	for (int i = 0; i < ntids; i++)
	{
		if (!vacuum->is_dead(&tids[i], vacuum->state))
			tids[kept++] = tids[i];
	}
	vacuum->removed += ntids - kept;
	vacuum->kept += kept;
	return kept;
}

/* Has a record page no records, but at most unused line pointers? */
static bool
is_empty(Page page)
{
	int			maxoff = PageGetMaxOffsetNumber(page);

	for (uint16 off = FirstOffsetNumber; off <= maxoff; off++)
	{
		if (ItemIdIsUsed(PageGetItemId(page, off)))
			return false;
	}
	return true;
}

/* A record that may be left without rows once its TIDS pages are done. */
typedef struct SpfChained
{
	uint16		offset;
	uint16		version;
	BlockNumber more;
} SpfChained;

/*
 * The pass over one locked page.  Kills records that have neither rows nor
 * TIDS pages; notes those that have TIDS pages in `chained`.  Centroids retired long ago
 * go as well: nothing but stale entries leads to them.
 */
static void
vacuum_records(SpfRecordVacuum *vacuum, Buffer buf, SpfRecordRef *killed, int *nkilled,
			   SpfChained *chained, int *nchained)
{
	const SpfIndex *index = vacuum->index;
	BlockNumber block = BufferGetBlockNumber(buf);
	PGAlignedBlock space;
	SpfRecordData *copy = (SpfRecordData *) space.data;
	Page		page = NULL;
	int			maxoff = spf_record_offsets(buf);
	SpfWrite	write;

	for (uint16 off = FirstOffsetNumber; off <= maxoff; off++)
	{
		SpfRecordData *record = spf_record_at(index, buf,
										   page ? page : BufferGetPage(buf), off);
		int			kept;

		if (record != NULL && (record->flags & RECORD_RETIRED) != 0 &&
			spf_retired_long_ago(record->retired_at))
		{
			/* whoever was on the way to its posting has arrived */
			spf_announce_reuse(index->rel, block, record->retired_at, vacuum->announced);
			if (page == NULL)
			{
				spf_write_begin(&write, index->rel, false);
				page = spf_write_page(&write, buf, false);
			}
			spf_record_delete(page, off);
			continue;
		}
		if (record == NULL || record->level != 0)
			continue;
		if (vacuum->is_dead == NULL)
		{
			vacuum->kept += record->ntids;
			continue;
		}
		memcpy(copy, record, RECORD_BYTES(index->padded, record->ntids));
		kept = filter_tids(vacuum, RECORD_TIDS(copy), copy->ntids);
		if (BlockNumberIsValid(record->link))
		{
			SpfChained	noted = {off, record->version, record->link};

			chained[(*nchained)++] = noted;
		}
		else if (kept > 0)
			vacuum->records++;
		if (kept == record->ntids && (kept > 0 || BlockNumberIsValid(record->link)))
			continue;

		if (page == NULL)
		{
			spf_write_begin(&write, index->rel, false);
			page = spf_write_page(&write, buf, false);
		}
		if (kept == 0 && !BlockNumberIsValid(copy->link))
		{
			SpfRecordRef ref = {block, off, copy->version};

			killed[(*nkilled)++] = ref;
			spf_record_delete(page, off);
		}
		else
		{
			/* the room is kept: rows that had versions will have others */
			record = (SpfRecordData *) PageGetItem(page, PageGetItemId(page, off));
			record->ntids = kept;
			memcpy(RECORD_TIDS(record), RECORD_TIDS(copy), kept * sizeof(ItemPointerData));
		}
	}
	if (page != NULL)
	{
		if (is_empty(page))
			spf_page_make_free(page, true);
		spf_write_finish(&write);
	}
}

/*
 * Take dead rows out of one TIDS page of a record; returns how many are left, and the next
 * page.
 */
static int
vacuum_tids_page(SpfRecordVacuum *vacuum, SpfRecordRef ref, Buffer buf, BlockNumber *next)
{
	PGAlignedBlock space;
	ItemPointerData *tids = (ItemPointerData *) space.data;
	SpfTidsData *content;
	int			ntids;
	int			kept;

	LockBuffer(buf, BUFFER_LOCK_EXCLUSIVE);
	content = SpfPageTids(BufferGetPage(buf));
	if (!spf_page_check(vacuum->index->rel, buf) ||
		SpfPageOpaque(BufferGetPage(buf))->kind != SPF_PAGE_TIDS ||
		content->ntids > TIDS_CAPACITY || (content->flags & TIDS_UNLINKED) != 0 ||
		spf_record_ref_cmp(&content->owner, &ref) != 0)
		spf_page_corrupted(vacuum->index->rel, BufferGetBlockNumber(buf),
						   "A record's TIDS page is none.");
	ntids = content->ntids;
	*next = content->next;
	memcpy(tids, content->tids, ntids * sizeof(ItemPointerData));
	kept = filter_tids(vacuum, tids, ntids);
	if (kept < ntids)
	{
		SpfWrite	write;
		Page		page;

		spf_write_begin(&write, vacuum->index->rel, false);
		page = spf_write_page(&write, buf, false);
		content = SpfPageTids(page);
		content->ntids = kept;
		memcpy(content->tids, tids, kept * sizeof(ItemPointerData));
		((PageHeader) page)->pd_lower = (char *) &content->tids[kept] - (char *) page;
		spf_write_finish(&write);
	}
	LockBuffer(buf, BUFFER_LOCK_UNLOCK);
	return kept;
}

/* The edits of taking a TIDS page out of its chain. */
static void
write_unlinked(Page page)
{
	SpfTidsData *content = SpfPageTids(page);
	FullTransactionId *unlinked_at = (FullTransactionId *) content->tids;

	content->flags |= TIDS_UNLINKED;
	content->ntids = 0;
	*unlinked_at = ReadNextFullTransactionId();
	((PageHeader) page)->pd_lower = (char *) (unlinked_at + 1) - (char *) page;
}

int
spf_tids_count(Page page)
{
	return SpfPageTids(page)->ntids;
}

bool
spf_tids_unlinked(Page page, FullTransactionId *unlinked_at)
{
	SpfTidsData *content = SpfPageTids(page);

	if ((content->flags & TIDS_UNLINKED) == 0)
		return false;
	*unlinked_at = *(FullTransactionId *) content->tids;
	return true;
}

/*
 * Unlink the first TIDS page of a record if it is empty, and kill the record
 * with it if that was the last of its rows.  Returns true when it was unlinked.
 */
static bool
unlink_first(SpfRecordVacuum *vacuum, SpfRecordRef ref, Buffer first, bool *killed)
{
	const SpfIndex *index = vacuum->index;
	Buffer		buf = spf_record_page(index->rel, ref.block, BUFFER_LOCK_EXCLUSIVE);
	SpfRecordData *record;
	bool		unlinked = false;

	if (!BufferIsValid(buf))
		return false;
	record = spf_record_at(index, buf, BufferGetPage(buf), ref.offset);
	LockBuffer(first, BUFFER_LOCK_EXCLUSIVE);
	if (record != NULL && record->version == ref.version && record->level == 0 &&
		record->link == BufferGetBlockNumber(first) &&
		SpfPageTids(BufferGetPage(first))->ntids == 0)
	{
		BlockNumber next = SpfPageTids(BufferGetPage(first))->next;
		SpfWrite	write;
		Page		page;

		spf_write_begin(&write, index->rel, false);
		page = spf_write_page(&write, buf, false);
		write_unlinked(spf_write_page(&write, first, false));
		record = (SpfRecordData *) PageGetItem(page, PageGetItemId(page, ref.offset));
		record->link = next;
		if (record->ntids == 0 && !BlockNumberIsValid(next))
		{
			spf_record_delete(page, ref.offset);
			*killed = true;
			if (is_empty(page))
				spf_page_make_free(page, true);
		}
		spf_write_finish(&write);
		unlinked = true;
	}
	LockBuffer(first, BUFFER_LOCK_UNLOCK);
	UnlockReleaseBuffer(buf);
	return unlinked;
}

/* Unlink a TIDS page that comes behind another one, if it is (still) empty. */
static void
unlink_behind(SpfRecordVacuum *vacuum, Buffer before, Buffer buf)
{
	Page		page;
	SpfWrite	write;

	LockBuffer(before, BUFFER_LOCK_EXCLUSIVE);
	LockBuffer(buf, BUFFER_LOCK_EXCLUSIVE);
	spf_write_begin(&write, vacuum->index->rel, false);
	page = spf_write_page(&write, before, false);
	SpfPageTids(page)->next = SpfPageTids(BufferGetPage(buf))->next;
	write_unlinked(spf_write_page(&write, buf, false));
	spf_write_finish(&write);
	LockBuffer(buf, BUFFER_LOCK_UNLOCK);
	LockBuffer(before, BUFFER_LOCK_UNLOCK);
}

/*
 * The TIDS pages of one record; returns true if the record was killed.  Only the first page
 * ever gets new rows, and nobody else unlinks any: what is empty behind it stays empty.
 */
static bool
vacuum_chain(SpfRecordVacuum *vacuum, SpfRecordRef ref, BlockNumber first)
{
	Relation	rel = vacuum->index->rel;
	BlockNumber block = first;
	BlockNumber pages = 0;
	Buffer		before = InvalidBuffer; /* the last page that stays, pinned */
	bool		killed = false;

	while (BlockNumberIsValid(block) && !killed)
	{
		Buffer		buf;
		BlockNumber next;
		int			left;
		bool		unlinked = false;

		spf_vacuum_delay_point();
		if (block >= RelationGetNumberOfBlocks(rel) ||
			pages++ > RelationGetNumberOfBlocks(rel))
			spf_page_corrupted(rel, ref.block, "A record's TIDS pages have no end.");
		buf = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, vacuum->strategy);
		left = vacuum_tids_page(vacuum, ref, buf, &next);
		if (left == 0 && !BufferIsValid(before))
			unlinked = unlink_first(vacuum, ref, buf, &killed);
		else if (left == 0)
		{
			unlink_behind(vacuum, before, buf);
			unlinked = true;
		}
		if (unlinked)
			ReleaseBuffer(buf);
		else
		{
			if (BufferIsValid(before))
				ReleaseBuffer(before);
			before = buf;
		}
		block = next;
	}
	if (BufferIsValid(before))
		ReleaseBuffer(before);
	return killed;
}

void
spf_record_vacuum_page(SpfRecordVacuum *vacuum, BlockNumber block)
{
	SpfRecordRef killed[SPF_MAX_OFFSETS];
	SpfChained	chained[SPF_MAX_OFFSETS];
	int			nkilled = 0;
	int			nchained = 0;
	Buffer		buf = spf_page_read_strategy(vacuum->index->rel, block, BUFFER_LOCK_EXCLUSIVE,
											 vacuum->strategy);
	Size		space;
	bool		freed;

	if (!BufferIsValid(buf))
		return;
	if (SpfPageOpaque(BufferGetPage(buf))->kind != SPF_PAGE_RECORD)
	{
		UnlockReleaseBuffer(buf);
		return;
	}
	vacuum_records(vacuum, buf, killed, &nkilled, chained, &nchained);
	freed = SpfPageOpaque(BufferGetPage(buf))->kind != SPF_PAGE_RECORD;
	space = freed ? 0 : spf_record_room(vacuum->index, BufferGetPage(buf));
	UnlockReleaseBuffer(buf);

	if (freed)
		RecordFreeIndexPage(vacuum->index->rel, block);
	else
		RecordPageWithFreeSpace(vacuum->index->rel, block, space);

	for (int i = 0; i < nchained; i++)
	{
		SpfRecordRef ref = {block, chained[i].offset, chained[i].version};

		if (vacuum_chain(vacuum, ref, chained[i].more))
			killed[nkilled++] = ref;
		else
			vacuum->records++;
	}
	for (int i = 0; i < nkilled; i++)
		vacuum->killed(vacuum->state, killed[i]);
}

void
spf_record_forget(const SpfIndex *index, SpfRecordRef ref, int level)
{
	Buffer		buf = spf_record_page(index->rel, ref.block, BUFFER_LOCK_EXCLUSIVE);
	SpfRecordView view;

	if (!BufferIsValid(buf))
		return;
	if (spf_record_look(index, buf, ref.offset, ref.version, level, &view) && view.retired &&
		spf_retired_long_ago(view.retired_at))
	{
		SpfWrite	write;
		Page		page;

		spf_write_begin(&write, index->rel, false);
		page = spf_write_page(&write, buf, false);
		spf_record_delete(page, ref.offset);
		if (is_empty(page))
			spf_page_make_free(page, true);
		spf_write_finish(&write);
	}
	UnlockReleaseBuffer(buf);
}

void
spf_record_retire_lost(const SpfIndex *index, BlockNumber block, const SpfPageRef *postings,
					   int n)
{
	Buffer		buf = spf_record_page(index->rel, block, BUFFER_LOCK_EXCLUSIVE);
	int			maxoff;

	if (!BufferIsValid(buf))
		return;
	maxoff = spf_record_offsets(buf);
	for (uint16 off = FirstOffsetNumber; off <= maxoff; off++)
	{
		SpfRecordData *record = spf_record_at(index, buf, BufferGetPage(buf), off);
		SpfPageRef	child;
		SpfWrite	write;

		if (record == NULL || record->level == 0 || (record->flags & RECORD_RETIRED) != 0)
			continue;
		child.block = record->link;
		memcpy(&child.generation, RECORD_TAIL(record), sizeof(uint32));
		for (int i = 0; i < n; i++)
		{
			if (!SpfPageRefEquals(child, postings[i]))
				continue;
			spf_write_begin(&write, index->rel, false);
			spf_record_retire(spf_write_page(&write, buf, false), off);
			spf_write_finish(&write);
			break;
		}
	}
	UnlockReleaseBuffer(buf);
}
