/*-------------------------------------------------------------------------
 *
 * merge.h
 *	  Small postings go, and levels that have become too many.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_MERGE_H
#define SPF_MERGE_H

#include "postgres.h"

#include "index.h"
#include "meta.h"
#include "page.h"
#include "work.h"

/*
 * Dissolve a posting with less than merge_limit entries: its members go to the nearest others that
 * have room.  Adds to *done.  The caller holds the rebalancing lock.
 */
extern SpfOutcome spf_merge(SpfIndex *index, SpfPageRef head, SpfCounters *done);

/*
 * Where a root has so few postings below it that one would do, take a level away.  Adds to *done.  The
 * caller holds the rebalancing lock.
 */
extern SpfOutcome spf_shrink(SpfIndex *index, SpfCounters *done);

#endif							/* SPF_MERGE_H */
