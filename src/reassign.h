/*-------------------------------------------------------------------------
 *
 * reassign.h
 *	  After a split: vectors go to the posting that is now their nearest.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_REASSIGN_H
#define SPF_REASSIGN_H

#include "postgres.h"

#include "index.h"
#include "meta.h"
#include "page.h"

/*
 * Make the region of a new posting right: its vectors whose nearest posting is another one, and those
 * of the `reassign_range` nearest postings whose nearest is this one, go there.  The posting is not due
 * afterwards.  Adds to *done.  The caller holds the rebalancing lock.
 */
extern void spf_reassign(SpfIndex *index, SpfPageRef head, SpfCounters *done);

#endif							/* SPF_REASSIGN_H */
