/*-------------------------------------------------------------------------
 *
 * record.h
 *	  Vector records: where a vector lives, and the rows that have it.
 *
 * A record is an item on a RECORD page (PostgreSQL's line pointers; items
 * never change their offset).  At level 0 it holds heap TIDs: as many as fit
 * in the item, further ones on a chain of TIDS pages, newest first.  At
 * level > 0 it is the centroid of the child posting that it leads to; when that
 * is split, the record is retired with it: those on their way still find it.
 * A record's version is drawn from its page's generation, so a reused
 * offset never matches an old reference.
 *
 * Only this module knows the layout of RECORD and TIDS pages.
 *
 * Locks: record page before TIDS page, front of the chain before back.  A TIDS page is pinned
 * before the record page is locked, so nothing is read in under a lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_RECORD_H
#define SPF_RECORD_H

#include "postgres.h"

#include "storage/itemptr.h"

#include "index.h"
#include "page.h"

/* The level of the record that holds the origin */
#define SPF_ORIGIN_LEVEL	255

/* A vector as records hold it. */
typedef struct SpfVector
{
	SpfRecordNumbers numbers;
	int8_t	   *code;			/* [padded] */
} SpfVector;

/* What scans see of a record: a view into a locked page. */
typedef struct SpfRecordView
{
	int			level;
	SpfRecordNumbers numbers;
	const int8_t *code;			/* [padded] */
	SpfPageRef	child;			/* level > 0 */
	BlockNumber more;			/* level 0: first TIDS page, or InvalidBlockNumber */
	int			ntids;
	const ItemPointerData *tids;
	uint16		version;
	bool		retired;		/* level > 0: its posting was split */
	FullTransactionId retired_at;	/* next transaction id then */
	XLogRecPtr	lsn;			/* retired: of the page, so not before that */
} SpfRecordView;

/*
 * Look at the record at `offset` of a locked RECORD page; false if there is none
 * of that version and level, or it is retired.  level < 0 takes any.  Damage raises.
 */
extern bool spf_record_view(const SpfIndex *index, Buffer buf, uint16 offset, uint16 version,
							int level, SpfRecordView *view);

/* Likewise, but retired ones are shown, too. */
extern bool spf_record_look(const SpfIndex *index, Buffer buf, uint16 offset, uint16 version,
							int level, SpfRecordView *view);

/* Read and lock the page of a record, InvalidBuffer if it is no record page any more. */
extern Buffer spf_record_page(Relation rel, BlockNumber block, int lockmode);

/*
 * Look at the records of refs[n] (in block order) that are there, at this level, retired or
 * not; pages are fetched ahead.  The view is valid during the call only, its page locked.  Returns how many.
 */
typedef void (*SpfRecordSeen) (void *state, SpfRecordRef ref, const SpfRecordView *view);

#define SPF_RECORD_BATCH	16

extern int	spf_record_read_batch(const SpfIndex *index, const SpfRecordRef *refs, int n,
								  int level, SpfRecordSeen seen, void *state);

/* What the free space map is to be told of a record page. */
extern Size spf_record_room(const SpfIndex *index, Page page);

/* How many offsets a locked record page has. */
extern int	spf_record_offsets(Buffer buf);

/* Version of the record at this offset, 0 if none (verifier, vacuum). */
extern uint16 spf_record_version_at(const SpfIndex *index, Buffer buf, uint16 offset);

/*
 * Copy a whole record, retired or not: code to `vector->code`, child to *child (may be NULL).  False
 * when gone.
 */
extern bool spf_record_fetch(const SpfIndex *index, SpfRecordRef ref, int level,
							 SpfVector *vector, SpfPageRef *child);

/*
 * Store a new record, in a change of its own.  `near` is a block to try first, or
 * InvalidBlockNumber.  For level 0 `tid` is its row, else `child` its posting.
 */
extern SpfRecordRef spf_record_insert(const SpfIndex *index, int level, const SpfVector *vector,
									  const ItemPointerData *tid, SpfPageRef child,
									  BlockNumber near);

/*
 * Add a row to a record.  False when the record is gone, or its page is full and it has too few
 * rows to be worth a page of its own; then nothing was done.
 */
extern bool spf_record_add_tid(const SpfIndex *index, SpfRecordRef ref,
							   const ItemPointerData *tid);

/* Within a larger change: delete the record (its page locked exclusively by the caller). */
extern void spf_record_delete(Page page, uint16 offset);

/* Likewise: the posting of a centroid is being retired. */
extern void spf_record_retire(Page page, uint16 offset);

/* Likewise: let a centroid lead to another posting. */
extern void spf_record_set_child(Page page, uint16 offset, SpfPageRef child);

/*
 * The rows on one TIDS page: copies them to tids[SPF_TIDS_PER_PAGE], returns how many, and the next
 * page.  A page that is no TIDS page of this record any more gives none.
 */
extern int	spf_record_more(const SpfIndex *index, BlockNumber block, SpfRecordRef owner,
							ItemPointerData *tids, BlockNumber *next);

/* More than any TIDS page holds */
#define SPF_TIDS_PER_PAGE	((int) (SPF_PAGE_SPACE / sizeof(ItemPointerData)))

/* ---- for the verifier and statistics ---- */

/* What a TIDS page holds: a view into a locked page. */
typedef struct SpfTidsView
{
	SpfRecordRef owner;			/* its record */
	bool		unlinked;		/* not of the chain any more: has no rows */
	int			ntids;
	BlockNumber next;
	const ItemPointerData *tids;
} SpfTidsView;

/* Look at a locked TIDS page; raises if its count is not possible. */
extern void spf_tids_view(const SpfIndex *index, Buffer buf, SpfTidsView *view);

/* The most records that one page can hold. */
extern int	spf_record_page_most(const SpfIndex *index);

/* What is wrong with the layout of a locked RECORD or TIDS page; NULL if nothing is. */
extern const char *spf_record_page_fault(const SpfIndex *index, Buffer buf);
extern const char *spf_tids_page_fault(Buffer buf);

/* ---- writing in bulk: building ---- */

/* Fills record pages one after the other. */
typedef struct SpfRecordWriter
{
	SpfIndex   *index;
	Buffer		buf;			/* pinned, or InvalidBuffer */
} SpfRecordWriter;

extern void spf_record_writer_begin(SpfRecordWriter *writer, SpfIndex *index);
/* The record has `ntids` rows, up to SPF_WRITER_TIDS, or, at level > 0, none but a child. */
#define SPF_WRITER_TIDS		8
extern SpfRecordRef spf_record_writer_add(SpfRecordWriter *writer, int level,
										  const SpfVector *vector,
										  const ItemPointerData *tids, int ntids,
										  SpfPageRef child);
extern void spf_record_writer_end(SpfRecordWriter *writer);

/* ---- vacuum ---- */

typedef bool (*SpfTidIsDead) (ItemPointer tid, void *state);

typedef struct SpfRecordVacuum
{
	const SpfIndex *index;
	SpfTidIsDead is_dead;
	void	   *state;
	BufferAccessStrategy strategy;
	double		removed;		/* TIDs */
	double		kept;
	double		records;		/* records alive at level 0 */
	FullTransactionId *announced;	/* see spf_announce_reuse */

	/* called for each record killed, after its page was unlocked */
	void		(*killed) (void *state, SpfRecordRef ref);
} SpfRecordVacuum;

/*
 * Take dead rows out of the records of one page, and records that were retired long ago; it
 * becomes free when nothing is left.  Without is_dead, all rows stay.
 */
extern void spf_record_vacuum_page(SpfRecordVacuum *vacuum, BlockNumber block);

/* Delete a centroid that was retired long ago, in a change of its own; nothing if it was not. */
extern void spf_record_forget(const SpfIndex *index, SpfRecordRef ref, int level);

/* Retire the centroids on a page that lead to one of these postings, which do not know them. */
extern void spf_record_retire_lost(const SpfIndex *index, BlockNumber block,
								   const SpfPageRef *postings, int n);

/* The rows on a TIDS page. */
extern int	spf_tids_count(Page page);

/* Was a TIDS page unlinked, and when?  `page` is locked. */
extern bool spf_tids_unlinked(Page page, FullTransactionId *unlinked_at);

#endif							/* SPF_RECORD_H */
