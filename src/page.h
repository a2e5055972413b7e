/*-------------------------------------------------------------------------
 *
 * page.h
 *	  What all pages of an index have in common, and how they are changed.
 *
 * Every page has PostgreSQL's page header and, at its end, SpfPageOpaqueData: the kind of
 * the page and its generation.  The generation is this index's
 * notion of identity (invariant 1): it grows with everything that is
 * born on the page, and survives the page's being freed and used again, so a pointer
 * {block, generation} or {block, offset, version} that outlived its target
 * is recognised as such.
 *
 * All changes to pages go through SpfWrite (invariant 6): generic WAL, or,
 * while an index is being built, plain writes that are logged at the end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_PAGE_H
#define SPF_PAGE_H

#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/transam.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"

/* Kinds of pages.  Zero is not one: a zeroed page is new, or damaged. */
#define SPF_PAGE_META		1
#define SPF_PAGE_RECORD		2
#define SPF_PAGE_POSTING	3
#define SPF_PAGE_TIDS		4
#define SPF_PAGE_FREE		5

#define SPF_PAGE_MAGIC		0xF5A7

#define SPF_META_BLOCK		((BlockNumber) 0)

typedef struct SpfPageOpaqueData
{
	uint32		generation;
	uint16		kind;
	uint16		magic;
} SpfPageOpaqueData;

StaticAssertDecl(sizeof(SpfPageOpaqueData) == 8, "on-disk size of SpfPageOpaqueData");

#define SpfPageOpaque(page)	((SpfPageOpaqueData *) PageGetSpecialPointer(page))

/* The bytes between page header and opaque data. */
#define SPF_PAGE_SPACE \
	(BLCKSZ - MAXALIGN(SizeOfPageHeaderData) - MAXALIGN(sizeof(SpfPageOpaqueData)))

/* A page, as it was when the pointer was made. */
typedef struct SpfPageRef
{
	BlockNumber block;
	uint32		generation;
} SpfPageRef;

/* A record, likewise. */
typedef struct SpfRecordRef
{
	BlockNumber block;
	uint16		offset;
	uint16		version;
} SpfRecordRef;

StaticAssertDecl(sizeof(SpfPageRef) == 8, "on-disk size of SpfPageRef");
StaticAssertDecl(sizeof(SpfRecordRef) == 8, "on-disk size of SpfRecordRef");

#define SPF_NO_PAGE		((SpfPageRef) {InvalidBlockNumber, 0})
#define SPF_NO_RECORD	((SpfRecordRef) {InvalidBlockNumber, 0, 0})

static inline bool
SpfPageRefEquals(SpfPageRef a, SpfPageRef b)
{
	return a.block == b.block && a.generation == b.generation;
}

/* Order of references by place, for qsort and bsearch: whoever reads many goes page by page. */
extern int	spf_record_ref_cmp(const void *a, const void *b);

/* The contents of a freed page. */
typedef struct SpfFreePageData
{
	FullTransactionId retired;	/* next transaction id when it was retired */
} SpfFreePageData;

/* ---- reading ---- */

/* Have memory that is about to be read fetched into the caches. */
static inline void
spf_prefetch_memory(const void *start, Size bytes)
{
	for (Size i = 0; i < bytes; i += 64)
		__builtin_prefetch((const char *) start + i);
}


/*
 * Pin and lock a page.  Blocks beyond the end and new (zeroed) pages give
 * InvalidBuffer: to whoever follows a pointer they mean "gone".  Anything else that is
 * no page of ours raises ERRCODE_INDEX_CORRUPTED.
 */
extern Buffer spf_page_read(Relation index, BlockNumber block, int lockmode);
extern Buffer spf_page_read_strategy(Relation index, BlockNumber block, int lockmode,
									 BufferAccessStrategy strategy);

/*
 * In two steps, to look ahead: pin a page that will be read soon, and have its first and last
 * lines fetched into the caches; later lock it.  Locking releases the pin where it returns
 * InvalidBuffer.
 */
/*
 * Is a page in shared buffers, or not there at all, so that nothing is gained by reading it
 * ahead?
 */
extern bool spf_page_cached(Relation rel, BlockNumber block);

extern Buffer spf_page_pin(Relation index, BlockNumber block);

/*
 * Still earlier, for pages that this backend has met before, of indexes and tables: have what
 * pinning looks at fetched, and the first bytes and the last line of the page; and, when
 * these had time to arrive, an item.  The page is neither pinned nor locked, nothing
 * is believed.
 */
extern void spf_page_announce(Relation rel, BlockNumber block, Size bytes);
#define SPF_ANNOUNCED	1024	/* bytes of an item at most: the processor looks ahead itself, then */
extern void spf_item_announce(Relation rel, BlockNumber block, OffsetNumber offset);

/* Likewise by whoever knows the shared buffer; of the item `most` bytes. */
extern void spf_buffer_announce(Buffer buf, Size bytes);
extern void spf_buffer_item_announce(Buffer buf, OffsetNumber offset, Size most);

/* Pin a page that this backend has met before, if it still is where it was; else InvalidBuffer. */
extern Buffer spf_page_pin_known(Relation rel, BlockNumber block);

/* Pin a page that was in this buffer, wherever it is now; InvalidBuffer if there is no such block. */
extern Buffer spf_page_pin_near(Relation rel, BlockNumber block, Buffer buf);

/* Remember where a page is. */
extern void spf_page_met(Relation rel, Buffer buf);

extern Buffer spf_page_lock_pinned(Relation index, Buffer buf, int lockmode);
extern Buffer spf_page_follow_pinned(Relation index, Buffer buf, SpfPageRef ref, uint16 kind,
									 int lockmode);

/* Like spf_page_read, but also InvalidBuffer unless kind and generation match. */
extern Buffer spf_page_follow(Relation index, SpfPageRef ref, uint16 kind, int lockmode);

/* Raise ERRCODE_INDEX_CORRUPTED naming block and index; `what` is an errdetail sentence. */
extern _Noreturn void spf_page_corrupted(Relation index, BlockNumber block, const char *what);

/* Check a page's header and opaque data; raises, or returns false for a new page. */
extern bool spf_page_check(Relation index, Buffer buf);

/* ---- heavyweight locks ---- */

/*
 * Locks on block numbers, held until unlocked or to the end of the transaction.  They are
 * PostgreSQL's tuple locks on an address that no index has: page locks may not be nested in
 * versions before 17.
 */
extern void spf_lock_block(Relation index, BlockNumber block, LOCKMODE mode);
extern bool spf_try_lock_block(Relation index, BlockNumber block, LOCKMODE mode);
extern void spf_unlock_block(Relation index, BlockNumber block, LOCKMODE mode);

/* ---- writing ---- */

/*
 * One atomic change to up to MAX_GENERIC_XLOG_PAGES pages, all locked exclusively by the caller.
 * Between spf_write_page and spf_write_finish nothing may fail except by ERROR, which undoes it.
 */
typedef struct SpfWrite
{
	Relation	index;
	GenericXLogState *state;	/* NULL while building */
	Buffer		buffers[MAX_GENERIC_XLOG_PAGES];
	int			nbuffers;
} SpfWrite;

extern void spf_write_begin(SpfWrite *write, Relation index, bool building);

/* The page to change; `fresh` logs it whole (for pages written anew). */
extern Page spf_write_page(SpfWrite *write, Buffer buf, bool fresh);
extern void spf_write_finish(SpfWrite *write);
extern void spf_write_abort(SpfWrite *write);

/*
 * Make a page of this kind out of one being written: generation is bumped, all else is
 * emptied.  Returns the new generation.
 */
extern uint32 spf_page_init(Page page, uint16 kind);

/* The next generation of a page being written. */
extern uint32 spf_page_next_generation(Page page);

/*
 * A page to write anew: from the free space map or by extension; pinned and locked
 * exclusively, its content to be replaced through spf_page_init.
 */
extern Buffer spf_page_alloc(Relation index, bool building);

/*
 * May what was retired then be used again?  If no running transaction of this server is older.  The queries
 * of standbys that are get cancelled: `announced` keeps what they were told, from zero on.
 */
extern bool spf_retired_long_ago(FullTransactionId retired);
extern void spf_announce_reuse(Relation index, BlockNumber block, FullTransactionId retired,
							   FullTransactionId *announced);

/*
 * May what was superseded then be forgotten, at this block?  (False where nothing was.)  If so, standbys are told, as
 * above.
 */
extern bool spf_may_forget(Relation index, BlockNumber block, FullTransactionId superseded);

/*
 * Free a page that no live pointer leads to, in a change of its own.  It may be used again at
 * once if it has been `unused` long enough already, or stale pointers to it do no harm.
 */
extern void spf_page_free(Relation index, Buffer buf, bool unused);

/* Turn a page being written into a free one. */
extern void spf_page_make_free(Page page, bool unused);

/*
 * May a page be used again?  Yes when it is new, or was freed so long ago that
 * no running transaction of this server can hold a pointer to what it was.
 */
extern bool spf_page_reusable(Page page);

#endif							/* SPF_PAGE_H */
