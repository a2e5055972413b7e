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

#include "posting.h"

#define POSTING_HEAD		0x0001
#define POSTING_RETIRED		0x0002
#define POSTING_UNPROVEN	0x0004

/* The content of a POSTING page starts with this; then come its blocks. */
typedef struct SpfPostingData
{
	uint16		level;
	uint16		flags;
	uint16		used;
	uint16		nforwards;
	uint32		total;
	uint32		split_at;
	SpfPageRef	next;
	union
	{
		SpfRecordRef centroid;	/* of a head */
		SpfPageRef	owner;		/* of a chain page: its head */
	}			of;
	uint32		unused[2];		/* so that blocks start at a multiple of 64 */
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
	view->next = posting->next;
	view->centroid = view->head ? posting->of.centroid : SPF_NO_RECORD;
	view->owner = view->head ? SPF_NO_PAGE : posting->of.owner;
	view->nforwards = 0;
	view->forwards = NULL;
	view->blocks = POSTING_BLOCKS(page);

	if (posting->level >= SPF_MAX_LEVELS ||
		posting->used > spf_posting_page_entries(index))
		spf_page_corrupted(index->rel, BufferGetBlockNumber(buf),
						   "A posting's counts are out of range.");
	if (view->retired)
	{
		if (posting->nforwards > SPF_MAX_FORWARDS || posting->used > 0)
			spf_page_corrupted(index->rel, BufferGetBlockNumber(buf),
							   "A retired posting's counts are out of range.");
		view->nforwards = posting->nforwards;
		view->forwards = ((const SpfRetiredData *) view->blocks)->forwards;
	}
}

const char *
spf_posting_page_fault(const SpfIndex *index, Buffer buf)
{
	Page		page = BufferGetPage(buf);
	const SpfPostingData *posting = SpfPagePosting(page);
	SpfPostingView view;
	const uint8_t *end;

	spf_posting_view(index, buf, &view);
	if ((posting->flags & ~(POSTING_HEAD | POSTING_RETIRED | POSTING_UNPROVEN)) != 0 ||
		(view.retired && !view.head))
		return "A posting's flags are not known.";
	if (!view.retired && posting->nforwards > 0)
		return "A posting has successors, but is not retired.";
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

/* Put an entry into the next lane of a page being written. */
static void
add_entry(const SpfIndex *index, Page page, const SpfEntry *entry)
{
	SpfPostingData *posting = SpfPagePosting(page);
	int			lanes = index->shape.lanes;
	int			lane = posting->used % lanes;
	uint8_t    *block = POSTING_BLOCKS(page) +
		(Size) (posting->used / lanes) * index->block_bytes;
	uint8_t    *refs = block + index->shape.bytes;

	if (lane == 0)
		memset(block, 0, index->block_bytes);
	spf_block_put(&index->shape, block, lane, entry->code, &entry->numbers);
	memcpy(refs + lane * 4, &entry->ref.block, 4);
	memcpy(refs + lanes * 4 + lane * 2, &entry->ref.offset, 2);
	memcpy(refs + lanes * 6 + lane * 2, &entry->ref.version, 2);
	posting->used++;
	set_lower(index, page);
}

static void
move_entry(const SpfIndex *index, Page page, int to, int from)
{
	int			lanes = index->shape.lanes;
	uint8_t    *to_block = POSTING_BLOCKS(page) + (Size) (to / lanes) * index->block_bytes;
	uint8_t    *from_block = POSTING_BLOCKS(page) + (Size) (from / lanes) * index->block_bytes;
	uint8_t    *refs = to_block + index->shape.bytes;
	SpfRecordRef ref = spf_posting_ref(index, from_block, from % lanes);
	int			lane = to % lanes;

	spf_block_copy(&index->shape, to_block, lane, from_block, from % lanes);
	memcpy(refs + lane * 4, &ref.block, 4);
	memcpy(refs + lanes * 4 + lane * 2, &ref.offset, 2);
	memcpy(refs + lanes * 6 + lane * 2, &ref.version, 2);
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
	posting->total = header->total;
	posting->next = header->next;
	posting->of = header->of;
	for (int i = 0; i < nentries; i++)
		add_entry(index, page, &entries[i]);
	spf_write_finish(&write);
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
spf_posting_create(const SpfIndex *index, int level, SpfRecordRef centroid,
				   const SpfEntry *entries, int nentries)
{
	int			per_page = spf_posting_page_entries(index);
	int			now = Min(nentries, per_page * MAX_CREATE_PAGES);
	int			npages = Max(1, (now + per_page - 1) / per_page);
	Buffer		bufs[MAX_CREATE_PAGES];
	SpfPageRef	refs[MAX_CREATE_PAGES + 1];

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
		SpfPostingData header = {.level = level,.next = refs[i + 1]};

		if (i == 0)
		{
			header.flags = POSTING_HEAD | (index->building ? 0 : POSTING_UNPROVEN);
			header.total = now;
			header.of.centroid = centroid;
		}
		else
			header.of.owner = refs[0];
		create_page(index, bufs[i], &header, &entries[i * per_page],
					Min(now - i * per_page, per_page));
		UnlockReleaseBuffer(bufs[i]);
	}

	for (int e = now; e < nentries; e++)
	{
		bool		due;

		CHECK_FOR_INTERRUPTS();
		while (spf_posting_append(index, refs[0], level, &entries[e], &due) == SPF_APPEND_FULL)
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
	if (!view->head || view->retired)
	{
		UnlockReleaseBuffer(buf);
		return InvalidBuffer;
	}
	return buf;
}

SpfAppendResult
spf_posting_append(const SpfIndex *index, SpfPageRef head, int level, const SpfEntry *entry,
				   bool *due)
{
	SpfPostingView view;
	Buffer		buf = lock_live_head(index, spf_page_pin(index->rel, head.block), head, &view);
	SpfWrite	write;
	Page		page;

	*due = false;
	if (!BufferIsValid(buf))
		return SPF_APPEND_GONE;
	if (view.level != level)
	{
		UnlockReleaseBuffer(buf);
		return SPF_APPEND_GONE;
	}
	if (view.used >= spf_posting_page_entries(index))
	{
		*due = view.total >= view.split_at;
		UnlockReleaseBuffer(buf);
		return SPF_APPEND_FULL;
	}
	spf_write_begin(&write, index->rel, index->building);
	page = spf_write_page(&write, buf, false);
	add_entry(index, page, entry);
	SpfPagePosting(page)->total++;
	*due = SpfPagePosting(page)->total > view.split_at;
	spf_write_finish(&write);
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
	}
	for (int b = 0; b < spf_posting_nblocks(index, view); b++)
	{
		const uint8_t *block = spf_posting_block(index, view, b);
		int			lanes = spf_posting_lanes(index, view, b);

		for (int lane = 0; lane < lanes; lane++)
			entries->refs[entries->n++] = spf_posting_ref(index, block, lane);
	}
}

bool
spf_posting_read(const SpfIndex *index, SpfPageRef head, SpfPostingEntries *entries)
{
	SpfPageRef	page = head;
	int			space = spf_posting_page_entries(index);
	BlockNumber pages = 0;

	entries->n = 0;
	entries->refs = palloc(space * sizeof(SpfRecordRef));
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
			if (!view.head || view.retired)
			{
				UnlockReleaseBuffer(buf);
				return false;
			}
			entries->level = view.level;
			entries->total = view.total;
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

void
spf_posting_set_centroid(Page page, SpfRecordRef centroid)
{
	SpfPagePosting(page)->of.centroid = centroid;
}

void
spf_posting_set_proven(Page page)
{
	SpfPagePosting(page)->flags &= ~POSTING_UNPROVEN;
}

void
spf_posting_set_split_at(Page page, uint32 split_at)
{
	SpfPagePosting(page)->split_at = split_at;
}

void
spf_posting_retire(Page page, const SpfPageRef *forwards, int nforwards)
{
	SpfPostingData *posting = SpfPagePosting(page);
	SpfRetiredData *content = (SpfRetiredData *) POSTING_BLOCKS(page);

	Assert(nforwards <= SPF_MAX_FORWARDS);
	posting->flags |= POSTING_RETIRED;
	posting->used = 0;
	posting->total = 0;
	posting->nforwards = nforwards;
	content->retired = ReadNextFullTransactionId();
	memcpy(content->forwards, forwards, nforwards * sizeof(SpfPageRef));
	((PageHeader) page)->pd_lower =
		(char *) &content->forwards[nforwards] - (char *) page;
}

FullTransactionId
spf_posting_retired_at(Page page)
{
	Assert((SpfPagePosting(page)->flags & POSTING_RETIRED) != 0);
	return ((SpfRetiredData *) POSTING_BLOCKS(page))->retired;
}

void
spf_posting_free_chain(const SpfIndex *index, SpfPageRef head, SpfPageRef next)
{
	while (BlockNumberIsValid(next.block))
	{
		Buffer		buf = spf_page_follow(index->rel, next, SPF_PAGE_POSTING,
										  BUFFER_LOCK_EXCLUSIVE);
		SpfPostingView view;

		if (!BufferIsValid(buf))
			return;
		spf_posting_view(index, buf, &view);
		next = SPF_NO_PAGE;
		if (!view.head && SpfPageRefEquals(view.owner, head))
		{
			next = view.next;
			spf_page_free(index->rel, buf, true);
		}
		UnlockReleaseBuffer(buf);
	}
}

/* Which entries of a page are to stay: fills keep[], returns how many go. */
static int
choose_dead(const SpfIndex *index, const SpfPostingView *view, SpfRefIsDead is_dead,
			void *state, bool *keep)
{
	int			dead = 0;

	for (int i = 0; i < view->used; i++)
	{
		const uint8_t *block = spf_posting_block(index, view, i / index->shape.lanes);

		keep[i] = !is_dead(spf_posting_ref(index, block, i % index->shape.lanes), state);
		dead += !keep[i];
	}
	return dead;
}

int
spf_posting_sweep_page(const SpfIndex *index, SpfPageRef head, SpfPageRef page,
					   SpfRefIsDead is_dead, void *state,
					   BufferAccessStrategy strategy, SpfPageRef *next)
{
	bool		is_head = SpfPageRefEquals(head, page);
	Buffer		head_buf;
	Buffer		buf;
	Buffer		pinned = InvalidBuffer;
	SpfPostingView view;
	bool	   *keep = palloc(spf_posting_page_entries(index) * sizeof(bool));
	int			dead = 0;

	*next = SPF_NO_PAGE;

	/* nothing is read in under a lock */
	if (!is_head)
		pinned = spf_page_pin(index->rel, page.block);
	head_buf = lock_live_head(index, spf_page_pin(index->rel, head.block), head, &view);
	buf = head_buf;
	if (BufferIsValid(head_buf) && !is_head)
	{
		if (page.block == head.block)
			spf_page_corrupted(index->rel, head.block, "A posting goes on at its own head.");

		/* its head stays locked: both counts change together */
		buf = spf_page_follow_pinned(index->rel, pinned, page, SPF_PAGE_POSTING,
									 BUFFER_LOCK_EXCLUSIVE);
		pinned = InvalidBuffer;
		if (BufferIsValid(buf))
			spf_posting_view(index, buf, &view);
		if (BufferIsValid(buf) && (view.head || !SpfPageRefEquals(view.owner, head)))
			spf_page_corrupted(index->rel, page.block, "A posting goes on at another's page.");
	}
	if (BufferIsValid(buf))
	{
		*next = view.next;
		dead = choose_dead(index, &view, is_dead, state, keep);
	}
	if (dead > 0)
	{
		SpfWrite	write;
		Page		head_page;
		Page		p;
		int			to = 0;

		spf_write_begin(&write, index->rel, false);
		head_page = spf_write_page(&write, head_buf, false);
		p = is_head ? head_page : spf_write_page(&write, buf, false);
		for (int from = 0; from < view.used; from++)
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
		spf_write_finish(&write);
	}
	if (BufferIsValid(buf) && !is_head)
		UnlockReleaseBuffer(buf);
	if (BufferIsValid(head_buf))
		UnlockReleaseBuffer(head_buf);
	if (BufferIsValid(pinned))
		ReleaseBuffer(pinned);
	pfree(keep);
	return dead;
}
