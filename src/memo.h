/*-------------------------------------------------------------------------
 *
 * memo.h
 *	  Centroids that this backend has read and remembers.
 *
 * Routing a query needs the records of some dozens of centroids, again and again
 * the same few thousand.  A record is found on a page by locking it; what was
 * found is kept here, in the backend's own memory, by the record's reference.
 *
 * What may be kept, and why it stays true (on a standby as well, for nothing
 * here depends on who changed the index):
 *
 * - Entries are not remembered: which centroids there are is read from the postings every time.  So
 *   nothing new is missed.
 * - A reference has a version, so another record in its place has another
 *   reference.  What a centroid is never changes, nor that it was retired.
 * - Two things change: a centroid is retired, or leads to a posting written anew.  In both
 *   cases the posting that is remembered is retired, and says who took over, until it is freed;
 *   then its page no longer has the generation that the memory expects.  Whoever meets a
 *   retired posting, or none, forgets the centroid (spf_memo_forget), and in the latter
 *   case reads the record again.
 *
 * Locks: none; no page is ever read from here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_MEMO_H
#define SPF_MEMO_H

#include "postgres.h"

#include "index.h"
#include "record.h"

/* spfresh.centroid_memory, in kB: for all indexes of this backend; 0 remembers nothing */
extern int	spf_setting_centroid_memory;

/*
 * What is remembered of this record, as far as routing needs it (of its numbers the scale only);
 * false if nothing is.  The code is there until the next call of any of these.
 */
extern bool spf_memo_find(const SpfIndex *index, SpfRecordRef ref, int level,
						  SpfRecordView *view);

/* Remember a record at level > 0. */
extern void spf_memo_keep(const SpfIndex *index, SpfRecordRef ref, const SpfRecordView *view);

/* Forget it; false if it was not remembered. */
extern bool spf_memo_forget(const SpfIndex *index, SpfRecordRef ref);

extern void spf_memo_init(void);

#endif							/* SPF_MEMO_H */
