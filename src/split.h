/*-------------------------------------------------------------------------
 *
 * split.h
 *	  Splitting a posting, at any level, the root included.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_SPLIT_H
#define SPF_SPLIT_H

#include "postgres.h"

#include "index.h"
#include "page.h"
#include "posting.h"

/*
 * Split the posting, or rewrite it where sweeping its stale entries is enough.
 * Returns true if it was retired (its entries are elsewhere now); false when somebody else is at it,
 * when it is gone already, or cannot be split because all its vectors are equal.  Never waits for another split.
 */
extern bool spf_split(SpfIndex *index, SpfPageRef head);

/* Shares of the limit: what parts are planned for, and below which a rewrite is enough. */
#define SPF_PLANNED_SHARE	0.66
#define SPF_REWRITE_SHARE	0.75

/*
 * The members of a posting as entries, ordered by distance to the centroid (NULL: zero). points is
 * n x padded; `members` selects m of them.  Codes are palloc'd.
 */
extern SpfEntry *spf_form_entries(const SpfIndex *index, const float *points,
								  const SpfRecordRef *refs, const int *members, int m,
								  const float *centroid);

#endif							/* SPF_SPLIT_H */
