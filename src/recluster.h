/*-------------------------------------------------------------------------
 *
 * recluster.h
 *	  A region that changed much is clustered anew.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_RECLUSTER_H
#define SPF_RECLUSTER_H

#include "postgres.h"

#include "index.h"
#include "meta.h"
#include "page.h"
#include "work.h"

/*
 * Cluster a posting and its nearest neighbours anew, if they changed enough, and if that makes
 * them better.  Adds to *done.  The caller holds the rebalancing lock.
 */
extern SpfOutcome spf_recluster(SpfIndex *index, SpfPageRef head, SpfCounters *done);

#endif							/* SPF_RECLUSTER_H */
