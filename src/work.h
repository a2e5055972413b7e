/*-------------------------------------------------------------------------
 *
 * work.h
 *	  What is due in an index, and what was done: a list on the meta page.
 *
 * The list is bounded, and need not be complete: postings say themselves that their neighbours
 * have not been looked at (SpfPostingView.due), that they are small, or that they changed much;
 * where the list is full it says that all postings are to be looked at (survey).  So nothing due
 * is forgotten over a crash.
 *
 * Only this module knows the layout of the list.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_WORK_H
#define SPF_WORK_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "index.h"
#include "meta.h"
#include "page.h"
#include "posting.h"

/* In the order in which they are done */
typedef enum SpfWorkKind
{
	SPF_WORK_NONE = 0,
	SPF_WORK_FREE,				/* was retired */
	SPF_WORK_REASSIGN,			/* a new posting: whose vectors have it for nearest now? */
	SPF_WORK_MERGE,				/* has few entries */
	SPF_WORK_SWEEP,				/* has some that were superseded */
	SPF_WORK_RECLUSTER			/* it and its neighbours changed much */
} SpfWorkKind;

/* What became of an attempt. */
typedef enum SpfOutcome
{
	SPF_DONE,
	SPF_NOTHING,				/* not needed, or not possible as things are */
	SPF_LATER					/* somebody else is at it, or scans may still need what is there */
} SpfOutcome;

typedef struct SpfWorkItem
{
	SpfPageRef	posting;
	uint32		queued;			/* seconds since 2000-01-01 UTC */
	uint16		kind;
	uint16		unused;
} SpfWorkItem;

StaticAssertDecl(sizeof(SpfWorkItem) == 16, "on-disk size of SpfWorkItem");

#define SPF_WORK_ITEMS		256
#define SPF_WORK_ERROR		160

/* The list, as it is on the page. */
typedef struct SpfWorkList
{
	uint32		nitems;
	BlockNumber survey;			/* items did not fit: look at postings from this block on; 0: no need */
	uint32		dropped;		/* there was no room for items that can wait */
	uint32		unused;
	TimestampTz failed_at;		/* 0: never */
	char		failure[SPF_WORK_ERROR];	/* message of the last error of background work */
	SpfWorkItem items[SPF_WORK_ITEMS];	/* oldest first */
} SpfWorkList;

StaticAssertDecl(offsetof(SpfWorkList, items) == 24 + SPF_WORK_ERROR,
				 "on-disk layout of SpfWorkList");
StaticAssertDecl(sizeof(SpfWorkList) <= SPF_META_WORK_BYTES, "the list fits the meta page");

/*
 * Entries come and gone, as a share of those there, from which it is looked whether a posting, and
 * then its region, should be clustered anew.
 */
#define SPF_RECLUSTER_SHARE	0.2

/* A new item, queued now. */
extern SpfWorkItem spf_work_item(SpfWorkKind kind, SpfPageRef posting);

/* Do two items say the same, whenever they were queued? */
static inline bool
spf_work_same(const SpfWorkItem *a, const SpfWorkItem *b)
{
	return a->kind == b->kind && SpfPageRefEquals(a->posting, b->posting);
}

/* Is it in the list already? */
extern bool spf_work_is_listed(const SpfWorkList *list, const SpfWorkItem *item);

/*
 * Add to the counters, and items to the list, in one change; items that are there already are not added
 * again.  Each kind has a part of the list that it may fill.
 */
extern void spf_work_note(SpfIndex *index, const SpfCounters *delta, const SpfWorkItem *items,
						  int nitems);

/* Set when items were added in this backend: whoever acts on it resets it. */
extern bool spf_work_noted;

/* The list as it is now. */
extern void spf_work_read(const SpfIndex *index, SpfWorkList *list);

/* Items were done, or are not worth doing: they leave the list, and *delta (may be NULL) is counted. */
extern void spf_work_done(SpfIndex *index, const SpfWorkItem *items, int nitems,
						  const SpfCounters *delta);

/* All postings are to be looked at. */
extern void spf_work_need_survey(SpfIndex *index);

/* Background work failed. */
extern void spf_work_failed(SpfIndex *index, const char *message);

/* What is due of a posting, by what its head says: SPF_WORK_NONE when nothing is.  Of a root, sweeping only. */
extern SpfWorkKind spf_work_of(const SpfIndex *index, const SpfPostingView *view);

/* What is due at a block: false when nothing is, or it is no posting. */
extern bool spf_work_look(SpfIndex *index, BlockNumber block, BufferAccessStrategy strategy,
						  SpfWorkItem *item);

/* Go on looking at postings, and list what is due, until the list is full; returns how many. */
extern int	spf_work_survey(SpfIndex *index);

#endif							/* SPF_WORK_H */
