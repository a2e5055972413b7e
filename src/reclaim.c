/*-------------------------------------------------------------------------
 *
 * reclaim.c
 *	  Postings that were retired are freed, when nobody can be on the way to them any more.
 *
 * Each split retires a posting and needs pages for two or three.  What splits retired shortly before
 * is ripe by the time of the next ones, mostly; so they free it themselves, and the file need not
 * grow while background work has other things to do.
 *
 * Locks: one page at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "fault.h"
#include "posting.h"
#include "rebalance.h"
#include "reclaim.h"
#include "record.h"

/* Postings that are freed on the way, at most: more than a split retires. */
#define RECLAIM_MOST	4

SpfOutcome
spf_reclaim(SpfIndex *index, SpfPageRef head, FullTransactionId *announced)
{
	SpfPostingView view;

	if (!spf_posting_look(index, head, &view) || !view.retired)
		return SPF_NOTHING;
	if (!spf_retired_long_ago(view.retired_at))
		return SPF_LATER;
	spf_announce_reuse(index->rel, head.block, view.retired_at, announced);
	if (BlockNumberIsValid(view.centroid.block))
		spf_record_forget(index, view.centroid, view.level + 1);
	spf_fault_point("centroid forgotten");
	spf_posting_free(index, head, view.next);
	return SPF_DONE;
}

void
spf_reclaim_some(SpfIndex *index)
{
	FullTransactionId announced = InvalidFullTransactionId;
	SpfWorkItem done[RECLAIM_MOST];
	SpfWorkList list;
	int			n = 0;

	if (spf_setting_rebalance == SPF_REBALANCE_VACUUM)
		return;
	spf_work_read(index, &list);
	for (int i = 0; i < list.nitems && n < RECLAIM_MOST; i++)
	{
		if (list.items[i].kind != SPF_WORK_FREE)
			continue;

		/* what was retired after one that has to wait has to wait as well */
		if (spf_reclaim(index, list.items[i].posting, &announced) == SPF_LATER)
			break;
		done[n++] = list.items[i];
	}
	if (n > 0)
		spf_work_done(index, done, n, NULL);
}
