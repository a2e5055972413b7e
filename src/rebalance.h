/*-------------------------------------------------------------------------
 *
 * rebalance.h
 *	  Doing what is due in an index: who, and when.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_REBALANCE_H
#define SPF_REBALANCE_H

#include "postgres.h"

#include "index.h"
#include "meta.h"
#include "work.h"

/* spfresh.rebalance */
typedef enum SpfRebalanceMode
{
	SPF_REBALANCE_BACKGROUND,
	SPF_REBALANCE_INLINE,
	SPF_REBALANCE_VACUUM
} SpfRebalanceMode;

extern int	spf_setting_rebalance;

/*
 * The rebalancing lock: one at a time moves vectors between the postings of an index.  Held until released or to
 * the end of the transaction.
 */
extern bool spf_rebalance_lock(SpfIndex *index, bool wait);
extern void spf_rebalance_unlock(SpfIndex *index);

/* Items that a run found cannot be done yet. */
typedef struct SpfRebalance
{
	SpfIndex   *index;
	SpfWorkItem item;			/* at hand; its kind is SPF_WORK_NONE between two */
	int64		ndone;			/* items that were not left for later */
	int64		npassed;		/* of these, when a worker last took a transaction id */
	int			nlater;
	SpfWorkItem later[SPF_WORK_ITEMS];
	bool		worker;			/* a background worker's: what it does is shown */
	SpfCounters done;
	FullTransactionId announced;	/* what is reused, to standbys */
} SpfRebalance;

/*
 * Do what is most urgent.  False when there is nothing (that can be done now).  The caller holds the
 * rebalancing lock.
 */
extern bool spf_rebalance_step(SpfRebalance *rebalance);

/*
 * All there is to do, after looking at all postings; where others keep making more of it, it ends at some
 * time all the same.  The caller holds the rebalancing lock.
 */
extern void spf_rebalance_all(SpfRebalance *rebalance);

/* A statement has changed the index: see to it that what is due gets done, by the setting. */
extern void spf_rebalance_soon(SpfIndex *index);

/* Vacuum is through with the index. */
extern void spf_rebalance_after_vacuum(SpfIndex *index);

/* What is being done, for pg_stat_activity and messages */
extern const char *spf_work_name(SpfWorkKind kind);

#endif							/* SPF_REBALANCE_H */
