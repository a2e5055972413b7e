/*-------------------------------------------------------------------------
 *
 * posting.h
 *	  Postings: clusters of entries, one page each unless they overflow.
 *
 * A posting is a head page, to which entries are appended, and a chain of further pages behind
 * it.  When the head is full and the posting cannot be split at once, the head's content moves
 * to a new page behind it, so that an append touches the head only, and the newest entries are
 * always read first.
 *
 * An entry says: in record {block, offset}, of this version, is a vector
 * near this posting's centroid; its code and numbers lie in a block of
 * lanes (code.h), followed by the block's references.
 *
 * An entry whose vector went over to other postings is superseded: flagged in its reference, and
 * otherwise as good as before, for scans that looked into those other postings too early.  Once
 * nobody can be such a scan (the head says since when), it may be swept.
 *
 * A posting that was split or rewritten is retired: its head keeps
 * its generation, loses its entries, and says which postings took over.  The
 * pages behind it stay as they are, for scans that have come so far.  They are all freed when
 * nobody can be on the way to them any more.
 *
 * Only this module knows the layout of POSTING pages.
 *
 * Locks: head before chain pages, front before back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_POSTING_H
#define SPF_POSTING_H

#include "postgres.h"

#include "index.h"
#include "page.h"

/* At most this many postings take over from one. */
#define SPF_MAX_FORWARDS	64

/* In an entry's reference, beside the offset, which no page is large enough to use that far. */
#define SPF_SUPERSEDED		0x8000

StaticAssertDecl(BLCKSZ / 4 < SPF_SUPERSEDED, "offsets leave room for the flag");

/* An entry about to be written. */
typedef struct SpfEntry
{
	SpfRecordRef ref;
	bool		superseded;
	bool		moved;			/* from another posting: no change of what the index holds */
	SpfEntryNumbers numbers;
	const uint8_t *code;		/* [padded] */
} SpfEntry;

/* What readers see of a posting page: a view into a locked page. */
typedef struct SpfPostingView
{
	int			level;
	bool		head;
	bool		retired;
	bool		unproven;		/* made by a split, and no vacuum has seen yet that it can be reached */
	bool		due;			/* its neighbours' vectors have not been looked at since it was made */
	int			used;			/* entries on this page */
	uint32		total;			/* entries of the posting (head only) */
	uint32		split_at;		/* try to split from this total on (head only) */
	uint32		changes;		/* entries come and gone since it was made (head only) */
	FullTransactionId superseded_at;	/* when an entry last was, 0 if none (head only) */
	SpfPageRef	next;			/* of the chain, block invalid at the end */
	float		rest_min;		/* chain pages only: distances from the centroid of all entries behind */
	float		rest_max;		/* 0: not known */
	SpfRecordRef centroid;		/* head only; block invalid for the root */
	SpfPageRef	owner;			/* chain pages only: the head */
	FullTransactionId retired_at;	/* retired heads only */
	int			nforwards;		/* likewise */
	const SpfPageRef *forwards;
	const uint8_t *blocks;
} SpfPostingView;

/* Look at a locked POSTING page; raises if its counts are not possible. */
extern void spf_posting_view(const SpfIndex *index, Buffer buf, SpfPostingView *view);

/*
 * What a posting page says, for who keeps no lock: the view has no blocks and no forwards.  False
 * if the page is gone.
 */
extern bool spf_posting_look(const SpfIndex *index, SpfPageRef ref, SpfPostingView *view);

/* The same of whatever is at a block, and how to refer to it; false if that is no posting page. */
extern bool spf_posting_look_at(const SpfIndex *index, BlockNumber block,
								BufferAccessStrategy strategy, SpfPageRef *ref,
								SpfPostingView *view);

/* Is it the head of a posting that takes entries? */
static inline bool
spf_posting_is_live(const SpfPostingView *view)
{
	return view->head && !view->retired;
}

/* Block i of a view, and how many of its lanes are used. */
static inline const uint8_t *
spf_posting_block(const SpfIndex *index, const SpfPostingView *view, int i)
{
	return view->blocks + (Size) i * index->block_bytes;
}

static inline int
spf_posting_nblocks(const SpfIndex *index, const SpfPostingView *view)
{
	return (view->used + index->shape.lanes - 1) / index->shape.lanes;
}

static inline int
spf_posting_lanes(const SpfIndex *index, const SpfPostingView *view, int i)
{
	return Min(index->shape.lanes, view->used - i * index->shape.lanes);
}

/* The record that a lane of a block points to. */
static inline SpfRecordRef
spf_posting_ref(const SpfIndex *index, const uint8_t *block, int lane)
{
	SpfRecordRef ref;
	const uint8_t *refs = block + index->shape.bytes;
	int			lanes = index->shape.lanes;

	memcpy(&ref.block, refs + lane * 4, 4);
	memcpy(&ref.offset, refs + lanes * 4 + lane * 2, 2);
	memcpy(&ref.version, refs + lanes * 6 + lane * 2, 2);
	ref.offset &= ~SPF_SUPERSEDED;
	return ref;
}

/* The records of the first n lanes of a block: several at a time, where the compiler can. */
static inline void
spf_posting_refs(const SpfIndex *index, const uint8_t *block, int n, SpfRecordRef *restrict refs)
{
	int			lanes = index->shape.lanes;
	const uint32 *blocks = (const uint32 *) (block + index->shape.bytes);
	const uint16 *offsets = (const uint16 *) (blocks + lanes);
	const uint16 *versions = offsets + lanes;

	for (int lane = 0; lane < n; lane++)
	{
		refs[lane].block = blocks[lane];
		refs[lane].offset = offsets[lane] & ~SPF_SUPERSEDED;
		refs[lane].version = versions[lane];
	}
}

/* Did the vector of a lane go over to other postings? */
static inline bool
spf_posting_superseded(const SpfIndex *index, const uint8_t *block, int lane)
{
	uint16		offset;

	memcpy(&offset, block + index->shape.bytes + index->shape.lanes * 4 + lane * 2, 2);
	return (offset & SPF_SUPERSEDED) != 0;
}

/* Entries that fit a page */
static inline int
spf_posting_page_entries(const SpfIndex *index)
{
	return index->page_blocks * index->shape.lanes;
}

/* Derive block and page sizes from dimension and bits: chooses the lanes. */
extern void spf_posting_choose_shape(SpfIndex *index);

/* What a new posting's head says, beside its entries. */
typedef struct SpfPostingBirth
{
	int			level;
	SpfRecordRef centroid;
	bool		due;
	uint32		changes;
	FullTransactionId superseded_at;	/* of the entries that are */
} SpfPostingBirth;

/* Write a new posting, in changes of its own; no entries at all is fine. */
extern SpfPageRef spf_posting_create(const SpfIndex *index, const SpfPostingBirth *birth,
									 const SpfEntry *entries, int nentries);

typedef enum SpfAppendResult
{
	SPF_APPENDED,
	SPF_APPEND_GONE,			/* the posting is retired, or gone */
	SPF_APPEND_FULL				/* its head is full: split it, or push it down */
} SpfAppendResult;

/* Should a posting be split?  Overdue: so much that whoever appends waits for it. */
typedef enum SpfPostingDue
{
	SPF_NOT_DUE,
	SPF_DUE,
	SPF_OVERDUE
} SpfPostingDue;

#define SPF_OVERDUE_SHARE	4

/* Append one entry to a posting of this level; *due says whether the posting should be split. */
extern SpfAppendResult spf_posting_append(const SpfIndex *index, SpfPageRef head, int level,
										  const SpfEntry *entry, SpfPostingDue *due);

/* Move a full head's content to a new page behind it.  Does nothing if it is not full any more. */
extern void spf_posting_push_down(const SpfIndex *index, SpfPageRef head);

/* What is wrong with the layout of a locked POSTING page; NULL if nothing is. */
extern const char *spf_posting_page_fault(const SpfIndex *index, Buffer buf);

/* All entries of a posting, references only. */
typedef struct SpfPostingEntries
{
	SpfPageRef	head;
	int			level;
	uint32		total;			/* the head's count when it was read */
	uint32		changes;
	bool		due;
	SpfRecordRef centroid;
	FullTransactionId superseded_at;
	int			n;
	int			nsuperseded;
	SpfRecordRef *refs;			/* palloc'd */
	bool	   *superseded;		/* [n], palloc'd */
} SpfPostingEntries;

/*
 * Read them; false if the posting is retired or gone.  The caller holds the posting's
 * heavyweight lock, so pages are only ever added to it meanwhile.
 */
extern bool spf_posting_read(const SpfIndex *index, SpfPageRef head, SpfPostingEntries *entries);

/* What is new of what a head says: what is zero here stays as it is. */
typedef struct SpfPostingEdit
{
	bool		proven;			/* it can be reached */
	bool		done;			/* it is not due any more */
	bool		settled;		/* its changes count from zero */
	bool		swept;			/* no entry is superseded any more */
	uint32		split_at;
	const SpfRecordRef *centroid;
} SpfPostingEdit;

/*
 * In a change of its own, which is not made where the head says all that already.  False if the
 * posting is retired or gone.
 */
extern bool spf_posting_edit(const SpfIndex *index, SpfPageRef head, const SpfPostingEdit *edit);

/* ---- parts of larger changes; the page is being written ---- */

extern void spf_posting_set_centroid(Page page, SpfRecordRef centroid);
extern void spf_posting_retire(Page page, const SpfPageRef *forwards, int nforwards);

/*
 * Free a head that was retired long ago, and the pages behind it, first of which is `next`; they can be used again at
 * once.  Returns how many.
 */
extern int	spf_posting_free(const SpfIndex *index, SpfPageRef head, SpfPageRef next);

/*
 * Mark the entries of refs[n] (in order of spf_record_ref_cmp) superseded: the caller has put their
 * vectors elsewhere.  Pages that are written for it lose those that were superseded long ago.  Returns how many were found.  The caller holds the posting's
 * heavyweight lock; it does nothing where the posting is gone.
 */
extern int	spf_posting_supersede(const SpfIndex *index, SpfPageRef head,
								  const SpfRecordRef *refs, int n);

/* ---- vacuum ---- */

typedef bool (*SpfRefIsDead) (SpfRecordRef ref, bool superseded, void *state);

/*
 * Take the entries of dead records out of one posting page.  Returns how many; the caller holds
 * the posting's heavyweight lock.
 */
extern int	spf_posting_sweep_page(const SpfIndex *index, SpfPageRef head, SpfPageRef page,
								   SpfRefIsDead is_dead, void *state, SpfPageRef *next);

#endif							/* SPF_POSTING_H */
