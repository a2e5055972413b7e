/*-------------------------------------------------------------------------
 *
 * rebalance.c
 *	  Doing what is due in an index: who, and when; spfresh_rebalance.
 *
 * What is due, work.c knows; reassign.c, merge.c and recluster.c do it.  Each step leaves a
 * valid index and takes some milliseconds; whoever runs them may stop between any two.
 *
 * Who does it, by spfresh.rebalance: a background worker (worker.c), the inserting backend
 * itself, or vacuum.  A worker cannot see a table that its own transaction has not committed
 * yet, nor a temporary one: these the inserting backend does itself.  What nobody did, vacuum
 * does.
 *
 * Locks: the rebalancing lock first; no one who holds another heavyweight lock of the index
 * waits for it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "commands/progress.h"
#include "funcapi.h"
#include "pgstat.h"
#include "utils/builtins.h"

#include "build.h"
#include "calibrate.h"
#include "fault.h"
#include "inspect.h"
#include "merge.h"
#include "posting.h"
#include "reassign.h"
#include "rebalance.h"
#include "reclaim.h"
#include "recluster.h"
#include "region.h"
#include "split.h"
#include "worker.h"

int			spf_setting_rebalance = SPF_REBALANCE_BACKGROUND;

/* No index has this block; page.h's locks on numbers take any. */
#define REBALANCE_BLOCK		MaxBlockNumber

/* Steps that a backend does on its way, of those that it has caused itself a few at a time */
#define INLINE_STEPS		8

/* Items after which "all there is to do" ends, while others keep making more of it */
#define MOST_ITEMS			100
#define MOST_PER_POSTING	4

bool
spf_rebalance_lock(SpfIndex *index, bool wait)
{
	if (!wait)
		return spf_try_lock_block(index->rel, REBALANCE_BLOCK, ExclusiveLock);
	spf_lock_block(index->rel, REBALANCE_BLOCK, ExclusiveLock);
	return true;
}

void
spf_rebalance_unlock(SpfIndex *index)
{
	spf_unlock_block(index->rel, REBALANCE_BLOCK, ExclusiveLock);
}

const char *
spf_work_name(SpfWorkKind kind)
{
	switch (kind)
	{
		case SPF_WORK_NONE:
			break;
		case SPF_WORK_REASSIGN:
			return "reassigning";
		case SPF_WORK_MERGE:
			return "merging";
		case SPF_WORK_SWEEP:
			return "sweeping";
		case SPF_WORK_FREE:
			return "freeing";
		case SPF_WORK_RECLUSTER:
			return "reclustering";
	}
	return "idle";
}

/* ---- one step ---- */

static bool
is_unneeded(SpfRecordRef ref, bool superseded, void *state)
{
	return superseded;
}

/* Where a posting has become short enough for one page again, it is written anew. */
static void
shorten(SpfIndex *index, const SpfPostingView *view, SpfPageRef head)
{
	if (BlockNumberIsValid(view->next.block) && view->total <= spf_posting_page_entries(index))
		(void) spf_split(index, head, false);
}

/* Look at a head; false if it is no live one. */
static bool
look(SpfIndex *index, SpfPageRef head, SpfPostingView *view)
{
	return spf_posting_look(index, head, view) && spf_posting_is_live(view);
}

/* Take the superseded entries out of a posting, if no scan can need them. */
static SpfOutcome
sweep(SpfIndex *index, SpfPageRef head, SpfCounters *done)
{
	SpfPageRef	page = head;
	SpfPostingView view;

	if (!look(index, head, &view) || !FullTransactionIdIsValid(view.superseded_at))
		return SPF_NOTHING;
	if (!spf_try_lock_block(index->rel, head.block, ExclusiveLock))
		return SPF_LATER;

	/* locked, so that nobody supersedes others meanwhile */
	if (!look(index, head, &view) ||
		!spf_may_forget(index->rel, head.block, view.superseded_at))
	{
		spf_unlock_block(index->rel, head.block, ExclusiveLock);
		return SPF_LATER;
	}
	while (BlockNumberIsValid(page.block))
	{
		CHECK_FOR_INTERRUPTS();
		done->swept += spf_posting_sweep_page(index, head, page, is_unneeded, NULL, &page);
		spf_fault_point("page swept");
	}
	(void) spf_posting_edit(index, head, &(SpfPostingEdit) {.swept = true});
	spf_unlock_block(index->rel, head.block, ExclusiveLock);
	if (look(index, head, &view))
		shorten(index, &view, head);
	return SPF_DONE;
}

/* A posting whose neighbours were looked at may be due for more. */
static void
after_reassign(SpfIndex *index, SpfPageRef head)
{
	SpfPostingView view;
	SpfWorkItem item;

	if (!spf_posting_look(index, head, &view))
		return;
	item = spf_work_item(spf_work_of(index, &view), head);
	if (item.kind != SPF_WORK_NONE)
		spf_work_note(index, NULL, &item, 1);
}

static SpfOutcome
do_item(SpfRebalance *rebalance, SpfCounters *done)
{
	SpfIndex   *index = rebalance->index;
	const SpfWorkItem *item = &rebalance->item;
	SpfPlace	place;

	switch (item->kind)
	{
		case SPF_WORK_REASSIGN:
			spf_reassign(index, item->posting, done);
			after_reassign(index, item->posting);
			return SPF_DONE;
		case SPF_WORK_MERGE:
			if (!spf_place_of(index, item->posting, &place))
				return SPF_NOTHING;
			return spf_merge(index, item->posting, done);
		case SPF_WORK_SWEEP:
			return sweep(index, item->posting, done);
		case SPF_WORK_RECLUSTER:
			return spf_recluster(index, item->posting, done);
		case SPF_WORK_FREE:
			return spf_reclaim(index, item->posting, &rebalance->announced);
		default:
			return SPF_NOTHING;
	}
}

static bool
is_later(const SpfRebalance *rebalance, const SpfWorkItem *item)
{
	for (int i = 0; i < rebalance->nlater; i++)
	{
		if (spf_work_same(&rebalance->later[i], item))
			return true;
	}
	return false;
}

/* What comes first: by kind, then by age. */
static bool
next_item(SpfRebalance *rebalance, const SpfWorkList *list)
{
	rebalance->item.kind = SPF_WORK_NONE;
	for (int i = 0; i < list->nitems; i++)
	{
		const SpfWorkItem *item = &list->items[i];

		if (is_later(rebalance, item))
			continue;
		if (rebalance->item.kind == SPF_WORK_NONE || item->kind < rebalance->item.kind)
			rebalance->item = *item;
	}
	return rebalance->item.kind != SPF_WORK_NONE;
}

/* Its time has not come; it is not to be tried again this time. */
static void
put_off(SpfRebalance *rebalance, const SpfWorkList *list)
{
	/* splits of others take items from the list as well: without those, there is room for all listed */
	if (rebalance->nlater == SPF_WORK_ITEMS)
	{
		rebalance->nlater = 0;
		for (int i = 0; i < SPF_WORK_ITEMS; i++)
		{
			if (spf_work_is_listed(list, &rebalance->later[i]))
				rebalance->later[rebalance->nlater++] = rebalance->later[i];
		}
	}
	rebalance->later[rebalance->nlater++] = rebalance->item;
}

/* Show what is being done, for pg_stat_activity. */
static void
report(const SpfRebalance *rebalance)
{
	char		text[NAMEDATALEN + 64];

	snprintf(text, sizeof(text), "spfresh: %s index \"%s\", posting %u",
			 spf_work_name(rebalance->item.kind),
			 RelationGetRelationName(rebalance->index->rel), rebalance->item.posting.block);
	pgstat_report_activity(STATE_RUNNING, text);
}

bool
spf_rebalance_step(SpfRebalance *rebalance)
{
	SpfIndex   *index = rebalance->index;
	SpfCounters done = {0};
	SpfWorkList list;

	spf_work_read(index, &list);
	if (!next_item(rebalance, &list))
	{
		if (list.survey == 0 || list.nitems == SPF_WORK_ITEMS)
		{
			if (spf_shrink(index, &done) != SPF_DONE)
				return false;
			spf_work_note(index, &done, NULL, 0);
			rebalance->ndone++;
			spf_counters_add(&rebalance->done, &done);
			return true;
		}

		/* the list was too short for all that was due */
		return spf_work_survey(index) > 0;
	}
	if (rebalance->worker)
		report(rebalance);
	if (do_item(rebalance, &done) == SPF_LATER)
		put_off(rebalance, &list);
	else
	{
		spf_fault_point("item done");
		spf_work_done(index, &rebalance->item, 1, &done);
		rebalance->ndone++;
	}
	spf_counters_add(&rebalance->done, &done);
	rebalance->item.kind = SPF_WORK_NONE;
	return true;
}

void
spf_rebalance_all(SpfRebalance *rebalance)
{
	int64		most = MOST_ITEMS;
	SpfMeta		meta;

	spf_meta_read(rebalance->index->rel, &meta);
	for (int level = 0; level <= meta.root_level; level++)
		most += MOST_PER_POSTING * Max(meta.counters.postings[level], 0);
	spf_work_need_survey(rebalance->index);
	while (rebalance->ndone < most && spf_rebalance_step(rebalance))
	{
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, rebalance->ndone);
		spf_vacuum_delay_point();
	}
}

/* ---- when ---- */

/* Is nobody else able to see the index? */
static bool
is_ours_alone(SpfIndex *index)
{
	return RelationUsesLocalBuffers(index->rel) ||
		index->rel->rd_createSubid != InvalidSubTransactionId ||
		spf_new_storage(index->rel);
}

/* Do a few steps, unless somebody else is at it. */
static void
do_some(SpfIndex *index)
{
	SpfRebalance *rebalance;

	if (!spf_rebalance_lock(index, false))
		return;
	rebalance = palloc0(sizeof(SpfRebalance));
	rebalance->index = index;
	for (int i = 0; i < INLINE_STEPS && spf_rebalance_step(rebalance); i++)
		CHECK_FOR_INTERRUPTS();
	pfree(rebalance);
	spf_rebalance_unlock(index);
}

void
spf_rebalance_soon(SpfIndex *index)
{
	if (spf_setting_rebalance == SPF_REBALANCE_VACUUM)
		return;
	if (spf_setting_rebalance == SPF_REBALANCE_INLINE || is_ours_alone(index))
		do_some(index);
	else
		spf_worker_request(index);
}

void
spf_rebalance_after_vacuum(SpfIndex *index)
{
	SpfRebalance *rebalance;
	SpfWorkList list;

	spf_work_read(index, &list);
	if (list.nitems == 0 && list.survey == 0)
		return;
	if (spf_setting_rebalance == SPF_REBALANCE_BACKGROUND && !is_ours_alone(index) &&
		spf_worker_request(index))
		return;
	if (!spf_rebalance_lock(index, false))
		return;
	rebalance = palloc0(sizeof(SpfRebalance));
	rebalance->index = index;
	while (spf_rebalance_step(rebalance))
		spf_vacuum_delay_point();
	pfree(rebalance);
	spf_rebalance_unlock(index);
}

/* ---- spfresh_rebalance ---- */

#define REBALANCE_COLUMNS	6

/*
 * It shows its progress where that of building is shown: a view of its own cannot be had.  How many items
 * there will be is not known, as each may bring others; so it shows only how many were done.
 */
static void
show_progress(Relation heap, Relation rel)
{
	const int	params[] = {
		PROGRESS_CREATEIDX_INDEX_OID, PROGRESS_CREATEIDX_ACCESS_METHOD_OID,
		PROGRESS_CREATEIDX_PHASE, PROGRESS_CREATEIDX_SUBPHASE
	};
	const int64 values[] = {
		RelationGetRelid(rel), rel->rd_rel->relam,
		PROGRESS_CREATEIDX_PHASE_BUILD, SPF_PHASE_REBALANCE
	};

	pgstat_progress_start_command(PROGRESS_COMMAND_CREATE_INDEX, RelationGetRelid(heap));
	pgstat_progress_update_multi_param(lengthof(params), params, values);
}

PG_FUNCTION_INFO_V1(spfresh_rebalance);
Datum
spfresh_rebalance(PG_FUNCTION_ARGS)
{
	Relation	heap;
	Relation	rel = spf_inspect_open(PG_GETARG_OID(0), SPF_RIGHT_MAINTAIN, RowExclusiveLock, &heap);
	SpfRebalance *rebalance = palloc0(sizeof(SpfRebalance));
	Datum		values[REBALANCE_COLUMNS];
	bool		nulls[REBALANCE_COLUMNS] = {0};
	SpfCounters *done = &rebalance->done;
	SpfWorkList list = {0};
	int			n = 0;

	PreventCommandDuringRecovery("spfresh_rebalance()");
	rebalance->index = spf_index_open(rel);
	if (rebalance->index->dim > 0)
	{
		show_progress(heap, rel);
		spf_rebalance_lock(rebalance->index, true);
		spf_rebalance_all(rebalance);
		spf_calibrate_if_due(rebalance->index);
		spf_rebalance_unlock(rebalance->index);
		pgstat_progress_end_command();
		spf_work_read(rebalance->index, &list);
	}
	values[n++] = Int64GetDatum(done->reassigned);
	values[n++] = Int64GetDatum(done->merges);
	values[n++] = Int64GetDatum(done->reclusters);
	values[n++] = Int64GetDatum(done->evaluated);
	values[n++] = Int64GetDatum(done->swept);
	values[n++] = Int64GetDatum(list.nitems);
	spf_inspect_close(rel, heap, RowExclusiveLock);
	return spf_inspect_row(fcinfo, values, nulls, lengthof(values));
}
