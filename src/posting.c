/*-------------------------------------------------------------------------
 *
 * posting.c
 *	  Postings: clusters of entries, one page each unless they overflow.
 *
 * See posting.h for what they are, and for the order of locks.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <float.h>
#include <math.h>

#include "storage/freespace.h"
#include "storage/indexfsm.h"

#include "patch.h"
#include "posting.h"

#define POSTING_HEAD		0x0001
#define POSTING_RETIRED		0x0002
#define POSTING_UNPROVEN	0x0004
#define POSTING_DUE			0x0008

/* The content of a POSTING page starts with this; then come its blocks. */
typedef struct SpfPostingData
{
	uint16		level;
	uint16		flags;
	uint16		used;
	uint16		count;			/* of changes, as far as it goes; of forwards when retired */
	uint32		total;
	uint32		split_at;
	SpfPageRef	next;
	union
	{
		SpfRecordRef centroid;	/* of a head */
		SpfPageRef	owner;		/* of a chain page: its head */
	}			of;
	union
	{
		FullTransactionId superseded_at;	/* of a head: 0 if no entry is */
		struct
		{
			float		min;
			float		max;	/* 0: not known */
		}			rest;		/* of a chain page: distances from the centroid of all entries behind it */
	}			also;
} SpfPostingData;

StaticAssertDecl(MAXALIGN(SizeOfPageHeaderData) + sizeof(SpfPostingData) == 64,
				 "blocks are scanned faster when aligned to cache lines");
StaticAssertDecl(sizeof(SpfPostingData) == 40, "on-disk size of SpfPostingData");

/* What a retired head has instead of blocks. */
typedef struct SpfRetiredData
{
	FullTransactionId retired;
	SpfPageRef	forwards[SPF_MAX_FORWARDS];
} SpfRetiredData;

#define SpfPagePosting(page)	((SpfPostingData *) PageGetContents(page))
#define POSTING_BLOCKS(page)	((uint8_t *) (SpfPagePosting(page) + 1))
#define POSTING_SPACE			(SPF_PAGE_SPACE - sizeof(SpfPostingData))

/* One block's references follow its codes and numbers: 8 bytes a lane. */
#define REF_BYTES				8

static void
set_lower(const SpfIndex *index, Page page)
{
	int			nblocks = (SpfPagePosting(page)->used + index->shape.lanes - 1) /
		index->shape.lanes;

	((PageHeader) page)->pd_lower = MAXALIGN(SizeOfPageHeaderData) + sizeof(SpfPostingData) +
		nblocks * index->block_bytes;
}

/* Entries of blocks of so many lanes that a page holds. */
static int
entries_with_lanes(const SpfIndex *index, int lanes)
{
	SpfShape	shape;

	spf_shape_init(&shape, index->dim, index->bits, lanes);
	return POSTING_SPACE / (shape.bytes + REF_BYTES * lanes) * lanes;
}

/*
 * The widest blocks that hold at least four fifths of what any would: wide
 * ones are faster to scan.
 */
void
spf_posting_choose_shape(SpfIndex *index)
{
	int			most = 0;
	int			lanes;

	for (lanes = SPF_MAX_LANES; lanes >= 4; lanes /= 2)
		most = Max(most, entries_with_lanes(index, lanes));
	if (most == 0 && index->bits > 1)
	{
		/* with so many dimensions a page has no room for so many bits of each */
		index->bits--;
		spf_posting_choose_shape(index);
		return;
	}
	if (most == 0)
		elog(ERROR, "no block of %d dimensions fits a page", index->dim);
	for (lanes = SPF_MAX_LANES; entries_with_lanes(index, lanes) * 5 < most * 4;)
		lanes /= 2;
	spf_shape_init(&index->shape, index->dim, index->bits, lanes);
	index->block_bytes = index->shape.bytes + REF_BYTES * lanes;
	index->page_blocks = POSTING_SPACE / index->block_bytes;
}

void
spf_posting_view(const SpfIndex *index, Buffer buf, SpfPostingView *view)
{
	Page		page = BufferGetPage(buf);
	const SpfPostingData *posting = SpfPagePosting(page);

	view->level = posting->level;
	view->head = (posting->flags & POSTING_HEAD) != 0;
	view->retired = (posting->flags & POSTING_RETIRED) != 0;
	view->unproven = (posting->flags & POSTING_UNPROVEN) != 0;
	view->used = posting->used;
	view->total = posting->total;
	view->split_at = posting->split_at;
	view->due = (posting->flags & POSTING_DUE) != 0;
	view->changes = view->head && !view->retired ? posting->count : 0;
	view->superseded_at = view->head ? posting->also.superseded_at : InvalidFullTransactionId;
	view->next = posting->next;
	view->rest_min = view->head ? 0 : posting->also.rest.min;
	view->rest_max = view->head ? 0 : posting->also.rest.max;
	view->centroid = view->head ? posting->of.centroid : SPF_NO_RECORD;
	view->owner = view->head ? SPF_NO_PAGE : posting->of.owner;
	view->retired_at = InvalidFullTransactionId;
	view->nforwards = 0;
	view->forwards = NULL;
	view->blocks = POSTING_BLOCKS(page);

	if (posting->level >= SPF_MAX_LEVELS ||
		posting->used > spf_posting_page_entries(index))
		spf_page_corrupted(index->rel, BufferGetBlockNumber(buf),
						   "A posting's counts are out of range.");
	if (view->retired)
	{
		if (posting->count > SPF_MAX_FORWARDS || posting->used > 0)
			spf_page_corrupted(index->rel, BufferGetBlockNumber(buf),
							   "A retired posting's counts are out of range.");
		view->retired_at = ((const SpfRetiredData *) view->blocks)->retired;
		view->nforwards = posting->count;
		view->forwards = ((const SpfRetiredData *) view->blocks)->forwards;
	}
}

/* A view that outlives the lock: without what it would lead to on the page. */
static void
view_and_unlock(const SpfIndex *index, Buffer buf, SpfPostingView *view)
{
	spf_posting_view(index, buf, view);
	view->forwards = NULL;
	view->blocks = NULL;
	UnlockReleaseBuffer(buf);
}

bool
spf_posting_look(const SpfIndex *index, SpfPageRef ref, SpfPostingView *view)
{
	Buffer		buf = spf_page_follow(index->rel, ref, SPF_PAGE_POSTING, BUFFER_LOCK_SHARE);

	if (!BufferIsValid(buf))
		return false;
	view_and_unlock(index, buf, view);
	return true;
}

bool
spf_posting_look_at(const SpfIndex *index, BlockNumber block, BufferAccessStrategy strategy,
					SpfPageRef *ref, SpfPostingView *view)
{
	Buffer		buf = spf_page_read_strategy(index->rel, block, BUFFER_LOCK_SHARE, strategy);

	if (!BufferIsValid(buf))
		return false;
	if (SpfPageOpaque(BufferGetPage(buf))->kind != SPF_PAGE_POSTING)
	{
		UnlockReleaseBuffer(buf);
		return false;
	}
	ref->block = block;
	ref->generation = SpfPageOpaque(BufferGetPage(buf))->generation;
	view_and_unlock(index, buf, view);
	return true;
}

const char *
spf_posting_page_fault(const SpfIndex *index, Buffer buf)
{
	Page		page = BufferGetPage(buf);
	const SpfPostingData *posting = SpfPagePosting(page);
	SpfPostingView view;
	const uint8_t *end;

	spf_posting_view(index, buf, &view);
	if ((posting->flags & ~(POSTING_HEAD | POSTING_RETIRED | POSTING_UNPROVEN | POSTING_DUE)) != 0 ||
		(view.retired && !view.head))
		return "A posting's flags are not known.";
	if (!view.head && (posting->count > 0 || (posting->flags & POSTING_DUE) != 0))
		return "A page behind a posting's head says what only a head says.";
	if (!(view.rest_min >= 0 && view.rest_min <= view.rest_max && isfinite(view.rest_max)))
		return "A posting's range of distances is none.";
	if (view.retired && view.total > 0)
		return "A retired posting has entries.";
	if (!view.head && view.total > 0)
		return "A page behind a posting's head has a total.";
	end = view.retired ? (const uint8_t *) &view.forwards[view.nforwards] :
		spf_posting_block(index, &view, spf_posting_nblocks(index, &view));
	if (((PageHeader) page)->pd_lower != end - (const uint8_t *) page)
		return "A posting's counts do not fit its page's length.";
	return NULL;
}

static void
put_ref(const SpfIndex *index, uint8_t *block, int lane, SpfRecordRef ref, bool superseded)
{
	uint8_t    *refs = block + index->shape.bytes;
	int			lanes = index->shape.lanes;

	if (superseded)
		ref.offset |= SPF_SUPERSEDED;
	memcpy(refs + lane * 4, &ref.block, 4);
	memcpy(refs + lanes * 4 + lane * 2, &ref.offset, 2);
	memcpy(refs + lanes * 6 + lane * 2, &ref.version, 2);
}

/* Count entries that came or went; beyond what the field holds it makes no difference. */
static void
count_changes(SpfPostingData *posting, int changes)
{
	posting->count = Min(posting->count + changes, PG_UINT16_MAX);
}

/* Put an entry into the next lane of a page being written. */
static void
add_entry(const SpfIndex *index, Page page, const SpfEntry *entry)
{
	SpfPostingData *posting = SpfPagePosting(page);
	int			lanes = index->shape.lanes;
	int			lane = posting->used % lanes;
	uint8_t    *block = POSTING_BLOCKS(page) +
		(Size) (posting->used / lanes) * index->block_bytes;

	if (lane == 0)
		memset(block, 0, index->block_bytes);
	spf_block_put(&index->shape, block, lane, entry->code, &entry->numbers);
	put_ref(index, block, lane, entry->ref, entry->superseded);
	posting->used++;
	set_lower(index, page);
}

static void
move_entry(const SpfIndex *index, Page page, int to, int from)
{
	int			lanes = index->shape.lanes;
	uint8_t    *to_block = POSTING_BLOCKS(page) + (Size) (to / lanes) * index->block_bytes;
	uint8_t    *from_block = POSTING_BLOCKS(page) + (Size) (from / lanes) * index->block_bytes;
	SpfRecordRef ref = spf_posting_ref(index, from_block, from % lanes);

	spf_block_copy(&index->shape, to_block, to % lanes, from_block, from % lanes);
	put_ref(index, to_block, to % lanes, ref,
			spf_posting_superseded(index, from_block, from % lanes));
}

static SpfPostingData *
init_posting(const SpfIndex *index, Page page, int level)
{
	SpfPostingData *posting;

	spf_page_init(page, SPF_PAGE_POSTING);
	posting = SpfPagePosting(page);
	memset(posting, 0, sizeof(SpfPostingData));
	posting->level = level;
	posting->split_at = index->split_limit;
	posting->next = SPF_NO_PAGE;
	set_lower(index, page);
	return posting;
}

/* Pages that are written, and so locked, at a time. */
#define MAX_CREATE_PAGES	64

/* Write one page of a new posting, with what `header` says of it. */
static void
create_page(const SpfIndex *index, Buffer buf, const SpfPostingData *header,
			const SpfEntry *entries, int nentries)
{
	SpfWrite	write;
	Page		page;
	SpfPostingData *posting;

	spf_write_begin(&write, index->rel, index->building);
	page = spf_write_page(&write, buf, true);
	posting = init_posting(index, page, header->level);
	posting->flags = header->flags;
	posting->count = header->count;
	posting->also = header->also;
	posting->total = header->total;
	posting->next = header->next;
	posting->of = header->of;
	for (int i = 0; i < nentries; i++)
		add_entry(index, page, &entries[i]);
	spf_write_finish(&write);
}

/*
 * Widen a range of distances from the centroid by those of some entries; 0 to 0 is the
 * range of none.
 */
static void
widen_range(const SpfIndex *index, const SpfEntry *entries, int nentries, float *min, float *max)
{
	for (int i = 0; i < nentries; i++)
	{
		float		nearest;
		float		farthest;

		spf_entry_distance(&index->shape, entries[i].code, &entries[i].numbers, &nearest,
						   &farthest);
		*min = *max > 0 ? Min(*min, nearest) : nearest;
		*max = Max(*max, Min(farthest, FLT_MAX));
	}
}

/* The generation that spf_page_init will give to a page. */
static uint32
generation_to_come(Page page)
{
	PGAlignedBlock copy;

	memcpy(copy.data, page, BLCKSZ);
	return spf_page_init(copy.data, SPF_PAGE_POSTING);
}

SpfPageRef
spf_posting_create(const SpfIndex *index, const SpfPostingBirth *birth,
				   const SpfEntry *entries, int nentries)
{
	int			per_page = spf_posting_page_entries(index);
	int			now = Min(nentries, per_page * MAX_CREATE_PAGES);
	int			npages = Max(1, (now + per_page - 1) / per_page);
	Buffer		bufs[MAX_CREATE_PAGES];
	SpfPageRef	refs[MAX_CREATE_PAGES + 1];
	float		rest_min = 0;
	float		rest_max = 0;

	/*
	 * Allocated in order, so that the pages are contiguous where the relation
	 * is extended, and locked until written, so that nobody else is given them.
	 */
	for (int i = 0; i < npages; i++)
	{
		bufs[i] = spf_page_alloc(index->rel, index->building);
		refs[i].block = BufferGetBlockNumber(bufs[i]);
		refs[i].generation = generation_to_come(BufferGetPage(bufs[i]));
	}
	refs[npages] = SPF_NO_PAGE;

	/* From the back, so that no link is logged before what it leads to. */
	for (int i = npages - 1; i >= 0; i--)
	{
		SpfPostingData header = {.level = birth->level,.next = refs[i + 1]};

		if (i == 0)
		{
			header.flags = POSTING_HEAD | (index->building ? 0 : POSTING_UNPROVEN) |
				(birth->due ? POSTING_DUE : 0);
			header.count = Min(birth->changes, PG_UINT16_MAX);
			header.also.superseded_at = birth->superseded_at;
			header.total = now;
			header.of.centroid = birth->centroid;
		}
		else
		{
			header.of.owner = refs[0];
			header.also.rest.min = rest_min;
			header.also.rest.max = rest_max;
		}
		create_page(index, bufs[i], &header, &entries[i * per_page],
					Min(now - i * per_page, per_page));
		UnlockReleaseBuffer(bufs[i]);
		if (i > 0)
			widen_range(index, &entries[i * per_page], Min(now - i * per_page, per_page),
						&rest_min, &rest_max);
	}

	for (int e = now; e < nentries; e++)
	{
		SpfPostingDue due;

		CHECK_FOR_INTERRUPTS();
		while (spf_posting_append(index, refs[0], birth->level, &entries[e], &due) == SPF_APPEND_FULL)
			spf_posting_push_down(index, refs[0]);
	}
	return refs[0];
}

/* Lock a pinned head that takes entries; InvalidBuffer if there is none. */
static Buffer
lock_live_head(const SpfIndex *index, Buffer pinned, SpfPageRef head, SpfPostingView *view)
{
	Buffer		buf = spf_page_follow_pinned(index->rel, pinned, head, SPF_PAGE_POSTING,
											 BUFFER_LOCK_EXCLUSIVE);

	if (!BufferIsValid(buf))
		return InvalidBuffer;
	spf_posting_view(index, buf, view);
	if (!spf_posting_is_live(view))
	{
		UnlockReleaseBuffer(buf);
		return InvalidBuffer;
	}
	return buf;
}

static SpfPostingDue
how_due(uint32 total, uint32 split_at)
{
	return total <= split_at ? SPF_NOT_DUE :
		total / SPF_OVERDUE_SHARE > split_at ? SPF_OVERDUE : SPF_DUE;
}

SpfAppendResult
spf_posting_append(const SpfIndex *index, SpfPageRef head, int level, const SpfEntry *entry,
				   SpfPostingDue *due)
{
	SpfPostingView view;
	Buffer		buf = lock_live_head(index, spf_page_pin(index->rel, head.block), head, &view);
	SpfPatch	patch;
	Page		page;

	*due = SPF_NOT_DUE;
	if (!BufferIsValid(buf))
		return SPF_APPEND_GONE;
	if (view.level != level)
	{
		UnlockReleaseBuffer(buf);
		return SPF_APPEND_GONE;
	}
	if (view.used >= spf_posting_page_entries(index))
	{
		*due = how_due(view.total + 1, view.split_at);
		UnlockReleaseBuffer(buf);
		return SPF_APPEND_FULL;
	}
	page = spf_patch_begin(&patch, index->rel, buf, index->building);
	add_entry(index, page, entry);
	SpfPagePosting(page)->total++;
	if (!entry->moved)
		count_changes(SpfPagePosting(page), 1);
	*due = how_due(SpfPagePosting(page)->total, view.split_at);
	spf_patch_part(&patch, page, POSTING_BLOCKS(page) - (uint8_t *) page);
	spf_patch_part(&patch, POSTING_BLOCKS(page) +
				   (Size) (view.used / index->shape.lanes) * index->block_bytes,
				   index->block_bytes);
	spf_patch_finish(&patch);
	UnlockReleaseBuffer(buf);
	return SPF_APPENDED;
}

void
spf_posting_push_down(const SpfIndex *index, SpfPageRef head)
{
	Buffer		pinned = spf_page_pin(index->rel, head.block);
	Buffer		fresh = spf_page_alloc(index->rel, index->building);
	SpfPostingView view;
	Buffer		buf = lock_live_head(index, pinned, head, &view);

	if (BufferIsValid(buf) && view.used >= spf_posting_page_entries(index))
	{
		SpfWrite	write;
		Page		page;
		Page		head_page;
		SpfPostingData *posting;
		SpfPageRef	ref;

		spf_write_begin(&write, index->rel, index->building);
		page = spf_write_page(&write, fresh, true);
		head_page = spf_write_page(&write, buf, false);
		posting = init_posting(index, page, view.level);
		posting->used = view.used;
		posting->next = view.next;
		posting->of.owner = head;
		memcpy(POSTING_BLOCKS(page), POSTING_BLOCKS(head_page),
			   (Size) index->page_blocks * index->block_bytes);
		set_lower(index, page);
		ref.block = BufferGetBlockNumber(fresh);
		ref.generation = SpfPageOpaque(page)->generation;
		SpfPagePosting(head_page)->next = ref;
		SpfPagePosting(head_page)->used = 0;
		set_lower(index, head_page);
		spf_write_finish(&write);
	}
	if (BufferIsValid(buf))
		UnlockReleaseBuffer(buf);
	UnlockReleaseBuffer(fresh);
}

/* Append the references of a page's entries to `entries`, which has room for *space. */
static void
collect_refs(const SpfIndex *index, const SpfPostingView *view, SpfPostingEntries *entries,
			 int *space)
{
	if (entries->n + view->used > *space)
	{
		*space = Max(*space * 2, entries->n + view->used);
		entries->refs = repalloc_huge(entries->refs, *space * sizeof(SpfRecordRef));
		entries->superseded = repalloc_huge(entries->superseded, *space * sizeof(bool));
	}
	for (int b = 0; b < spf_posting_nblocks(index, view); b++)
	{
		const uint8_t *block = spf_posting_block(index, view, b);
		int			lanes = spf_posting_lanes(index, view, b);

		for (int lane = 0; lane < lanes; lane++)
		{
			bool		superseded = spf_posting_superseded(index, block, lane);

			entries->superseded[entries->n] = superseded;
			entries->nsuperseded += superseded;
			entries->refs[entries->n++] = spf_posting_ref(index, block, lane);
		}
	}
}

bool
spf_posting_read(const SpfIndex *index, SpfPageRef head, SpfPostingEntries *entries)
{
	SpfPageRef	page = head;
	int			space = spf_posting_page_entries(index);
	BlockNumber pages = 0;

	entries->head = head;
	entries->n = entries->nsuperseded = 0;
	entries->refs = palloc(space * sizeof(SpfRecordRef));
	entries->superseded = palloc(space * sizeof(bool));
	while (BlockNumberIsValid(page.block))
	{
		Buffer		buf = spf_page_follow(index->rel, page, SPF_PAGE_POSTING,
										  BUFFER_LOCK_SHARE);
		SpfPostingView view;

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf))
			return false;
		spf_posting_view(index, buf, &view);
		if (pages == 0)
		{
			if (!spf_posting_is_live(&view))
			{
				UnlockReleaseBuffer(buf);
				return false;
			}
			entries->level = view.level;
			entries->total = view.total;
			entries->changes = view.changes;
			entries->due = view.due;
			entries->superseded_at = view.superseded_at;
			entries->centroid = view.centroid;
		}
		else if (view.head || !SpfPageRefEquals(view.owner, head))
			spf_page_corrupted(index->rel, page.block, "A posting goes on at another's page.");

		/* what came since the head was read is not among what is read behind it */
		collect_refs(index, &view, entries, &space);
		if (entries->n > entries->total ||
			pages++ > RelationGetNumberOfBlocks(index->rel))
			spf_page_corrupted(index->rel, head.block,
							   "A posting has more entries than it counts.");
		page = view.next;
		UnlockReleaseBuffer(buf);
	}
	return true;
}

/* What a head says, edited. */
static SpfPostingData
edited(const SpfPostingData *posting, const SpfPostingEdit *edit)
{
	SpfPostingData says = *posting;

	if (edit->proven)
		says.flags &= ~POSTING_UNPROVEN;
	if (edit->done)
		says.flags &= ~POSTING_DUE;
	if (edit->settled)
		says.count = 0;
	if (edit->swept)
		says.also.superseded_at = InvalidFullTransactionId;
	if (edit->split_at > 0)
		says.split_at = edit->split_at;
	if (edit->centroid != NULL)
		says.of.centroid = *edit->centroid;
	return says;
}

bool
spf_posting_edit(const SpfIndex *index, SpfPageRef head, const SpfPostingEdit *edit)
{
	SpfPostingView view;
	Buffer		buf = lock_live_head(index, spf_page_pin(index->rel, head.block), head, &view);
	SpfPostingData says;

	if (!BufferIsValid(buf))
		return false;
	says = edited(SpfPagePosting(BufferGetPage(buf)), edit);
	if (memcmp(&says, SpfPagePosting(BufferGetPage(buf)), sizeof(says)) != 0)
	{
		SpfWrite	write;

		spf_write_begin(&write, index->rel, index->building);
		*SpfPagePosting(spf_write_page(&write, buf, false)) = says;
		spf_write_finish(&write);
	}
	UnlockReleaseBuffer(buf);
	return true;
}

void
spf_posting_set_centroid(Page page, SpfRecordRef centroid)
{
	SpfPagePosting(page)->of.centroid = centroid;
}

void
spf_posting_retire(Page page, const SpfPageRef *forwards, int nforwards)
{
	SpfPostingData *posting = SpfPagePosting(page);
	SpfRetiredData *content = (SpfRetiredData *) POSTING_BLOCKS(page);

	Assert(nforwards <= SPF_MAX_FORWARDS);
	posting->flags |= POSTING_RETIRED;
	posting->flags &= ~POSTING_DUE;
	posting->used = 0;
	posting->total = 0;
	posting->count = nforwards;
	content->retired = ReadNextFullTransactionId();
	memcpy(content->forwards, forwards, nforwards * sizeof(SpfPageRef));
	((PageHeader) page)->pd_lower =
		(char *) &content->forwards[nforwards] - (char *) page;
}

/* Free a page of a retired posting, and say so; its next page is returned. */
static SpfPageRef
free_page(const SpfIndex *index, SpfPageRef head, SpfPageRef page, int *freed)
{
	Buffer		buf = spf_page_follow(index->rel, page, SPF_PAGE_POSTING, BUFFER_LOCK_EXCLUSIVE);
	bool		is_head = SpfPageRefEquals(head, page);
	SpfPageRef	next = SPF_NO_PAGE;
	SpfPostingView view;

	if (!BufferIsValid(buf))
		return next;
	spf_posting_view(index, buf, &view);
	if (is_head ? view.retired : !view.head && SpfPageRefEquals(view.owner, head))
	{
		next = view.next;
		spf_page_free(index->rel, buf, true);
		UnlockReleaseBuffer(buf);
		RecordFreeIndexPage(index->rel, page.block);
		FreeSpaceMapVacuumRange(index->rel, page.block, page.block + 1);
		(*freed)++;
	}
	else
		UnlockReleaseBuffer(buf);
	return next;
}

int
spf_posting_free(const SpfIndex *index, SpfPageRef head, SpfPageRef next)
{
	int			freed = 0;

	while (BlockNumberIsValid(next.block))
	{
		CHECK_FOR_INTERRUPTS();
		next = free_page(index, head, next, &freed);
	}
	(void) free_page(index, head, head, &freed);
	return freed;
}

/*
 * A page of a posting, locked together with its head: counts of both change together.  Nothing is read in
 * under a lock.
 */
typedef struct SpfLockedPage
{
	Buffer		head;			/* InvalidBuffer when the posting is gone */
	Buffer		buf;			/* the page; may be the head; InvalidBuffer when it is gone */
	SpfPostingView view;		/* of the page */
} SpfLockedPage;

static bool
lock_with_head(const SpfIndex *index, SpfPageRef head, SpfPageRef page, SpfLockedPage *locked)
{
	bool		is_head = SpfPageRefEquals(head, page);
	Buffer		pinned = is_head ? InvalidBuffer : spf_page_pin(index->rel, page.block);

	locked->head = lock_live_head(index, spf_page_pin(index->rel, head.block), head,
								  &locked->view);
	locked->buf = locked->head;
	if (!BufferIsValid(locked->head))
	{
		if (BufferIsValid(pinned))
			ReleaseBuffer(pinned);
		return false;
	}
	if (is_head)
		return true;
	if (page.block == head.block)
		spf_page_corrupted(index->rel, head.block, "A posting goes on at its own head.");
	locked->buf = spf_page_follow_pinned(index->rel, pinned, page, SPF_PAGE_POSTING,
										 BUFFER_LOCK_EXCLUSIVE);
	if (!BufferIsValid(locked->buf))
	{
		UnlockReleaseBuffer(locked->head);
		return false;
	}
	spf_posting_view(index, locked->buf, &locked->view);
	if (locked->view.head || !SpfPageRefEquals(locked->view.owner, head))
		spf_page_corrupted(index->rel, page.block, "A posting goes on at another's page.");
	return true;
}

/* Both pages, for writing: returns the page, and the head's in *head. */
static Page
write_locked(SpfWrite *write, const SpfLockedPage *locked, Page *head)
{
	*head = spf_write_page(write, locked->head, false);
	return locked->buf == locked->head ? *head : spf_write_page(write, locked->buf, false);
}

static void
unlock_with_head(const SpfLockedPage *locked)
{
	if (locked->buf != locked->head)
		UnlockReleaseBuffer(locked->buf);
	UnlockReleaseBuffer(locked->head);
}

/* Which entries of a page are to stay: fills keep[], returns how many go, and *live, how many of those were live. */
static int
choose_dead(const SpfIndex *index, const SpfPostingView *view, SpfRefIsDead is_dead,
			void *state, bool *keep, int *live)
{
	int			dead = 0;

	*live = 0;
	for (int i = 0; i < view->used; i++)
	{
		const uint8_t *block = spf_posting_block(index, view, i / index->shape.lanes);
		int			lane = i % index->shape.lanes;
		bool		superseded = spf_posting_superseded(index, block, lane);

		keep[i] = !is_dead(spf_posting_ref(index, block, lane), superseded, state);
		dead += !keep[i];
		*live += !keep[i] && !superseded;
	}
	return dead;
}

int
spf_posting_sweep_page(const SpfIndex *index, SpfPageRef head, SpfPageRef page,
					   SpfRefIsDead is_dead, void *state, SpfPageRef *next)
{
	SpfLockedPage locked;
	bool	   *keep;
	int			dead;
	int			live;

	*next = SPF_NO_PAGE;
	if (!lock_with_head(index, head, page, &locked))
		return 0;
	*next = locked.view.next;
	keep = palloc(Max(locked.view.used, 1) * sizeof(bool));
	dead = choose_dead(index, &locked.view, is_dead, state, keep, &live);
	if (dead > 0)
	{
		SpfWrite	write;
		Page		head_page;
		Page		p;
		int			to = 0;

		spf_write_begin(&write, index->rel, false);
		p = write_locked(&write, &locked, &head_page);
		for (int from = 0; from < locked.view.used; from++)
		{
			if (!keep[from])
				continue;
			if (to != from)
				move_entry(index, p, to, from);
			to++;
		}
		SpfPagePosting(p)->used = to;
		set_lower(index, p);
		SpfPagePosting(head_page)->total -= Min((uint32) dead, SpfPagePosting(head_page)->total);
		count_changes(SpfPagePosting(head_page), live);
		spf_write_finish(&write);
	}
	unlock_with_head(&locked);
	pfree(keep);
	return dead;
}

static bool
is_among(SpfRecordRef ref, const SpfRecordRef *refs, int n)
{
	return bsearch(&ref, refs, n, sizeof(SpfRecordRef), spf_record_ref_cmp) != NULL;
}

/* How many live entries of a page are among refs[n]. */
static int
count_among(const SpfIndex *index, const SpfPostingView *view, const SpfRecordRef *refs, int n)
{
	int			found = 0;

	for (int i = 0; i < view->used; i++)
	{
		const uint8_t *block = spf_posting_block(index, view, i / index->shape.lanes);
		int			lane = i % index->shape.lanes;

		if (!spf_posting_superseded(index, block, lane))
			found += is_among(spf_posting_ref(index, block, lane), refs, n);
	}
	return found;
}

/*
 * On a page being written, flag the live entries that are among refs[n]; with `sweep` those flagged
 * before go.  Returns how many went.
 */
static int
flag_entries(const SpfIndex *index, Page page, const SpfRecordRef *refs, int n, bool sweep)
{
	SpfPostingData *posting = SpfPagePosting(page);
	int			used = posting->used;
	int			to = 0;

	for (int from = 0; from < used; from++)
	{
		int			lane = from % index->shape.lanes;
		uint8_t    *block = POSTING_BLOCKS(page) +
			(Size) (from / index->shape.lanes) * index->block_bytes;
		SpfRecordRef ref = spf_posting_ref(index, block, lane);
		bool		superseded = spf_posting_superseded(index, block, lane);

		if (superseded && sweep)
			continue;
		if (!superseded && is_among(ref, refs, n))
			put_ref(index, block, lane, ref, true);
		if (to != from)
			move_entry(index, page, to, from);
		to++;
	}
	posting->used = to;
	set_lower(index, page);
	return used - to;
}

int
spf_posting_supersede(const SpfIndex *index, SpfPageRef head, const SpfRecordRef *refs, int n)
{
	SpfPageRef	page = head;
	BlockNumber pages = 0;
	bool		sweep = false;
	int			all = 0;

	while (BlockNumberIsValid(page.block) && all < n)
	{
		SpfLockedPage locked;
		int			found;

		if (!lock_with_head(index, head, page, &locked))
			break;
		if (pages++ > RelationGetNumberOfBlocks(index->rel))
			spf_page_corrupted(index->rel, head.block, "A posting's pages have no end.");
		if (pages == 1)
			sweep = spf_may_forget(index->rel, head.block, locked.view.superseded_at);
		page = locked.view.next;
		found = count_among(index, &locked.view, refs, n);
		if (found > 0)
		{
			SpfWrite	write;
			Page		head_page;
			Page		p;
			int			swept;

			spf_write_begin(&write, index->rel, false);
			p = write_locked(&write, &locked, &head_page);
			swept = flag_entries(index, p, refs, n, sweep);
			SpfPagePosting(head_page)->total -= Min((uint32) swept,
													SpfPagePosting(head_page)->total);
			SpfPagePosting(head_page)->also.superseded_at = ReadNextFullTransactionId();
			spf_write_finish(&write);
			all += found;
		}
		unlock_with_head(&locked);
	}
	return all;
}
