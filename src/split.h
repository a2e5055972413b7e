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

/*
 * Split the posting, or rewrite it where forgetting its stale entries is enough.
 * Returns true if it was retired (its entries are elsewhere now); false when somebody else is at it and
 * we do not `wait`, when it is gone already, or cannot be split because all its vectors are equal.
 */
extern bool spf_split(SpfIndex *index, SpfPageRef head, bool wait);

/* Shares of the limit: what parts are planned for, and below which a rewrite is enough. */
#define SPF_PLANNED_SHARE	0.66
#define SPF_REWRITE_SHARE	0.9

#endif							/* SPF_SPLIT_H */
