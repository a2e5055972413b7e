/*-------------------------------------------------------------------------
 *
 * reclaim.h
 *	  Postings that were retired are freed, when nobody can be on the way to them any more.
 *
 * Whoever finds one may do it, several at a time as well: each page is looked at again under its
 * own lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_RECLAIM_H
#define SPF_RECLAIM_H

#include "postgres.h"

#include "index.h"
#include "page.h"
#include "work.h"

/*
 * Free a retired posting, with the pages behind it and its centroid's record.  For *announced see
 * spf_announce_reuse.
 */
extern SpfOutcome spf_reclaim(SpfIndex *index, SpfPageRef head, FullTransactionId *announced);

/*
 * Free some of what is on the work list, the oldest first: for whoever is about to need new pages.
 * Does not wait for anything.
 */
extern void spf_reclaim_some(SpfIndex *index);

#endif							/* SPF_RECLAIM_H */
