/*-------------------------------------------------------------------------
 *
 * work.c
 *	  What is due in an index, and what was done: a list on the meta page.
 *
 * See work.h.  Locks: the meta page's buffer, alone or (spf_work_survey) after the head that was
 * looked at was unlocked.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "mb/pg_wchar.h"

#include "patch.h"
#include "work.h"

bool		spf_work_noted = false;

SpfWorkItem
spf_work_item(SpfWorkKind kind, SpfPageRef posting)
{
	SpfWorkItem item = {.posting = posting,.kind = kind};

	item.queued = (uint32) (GetCurrentTimestamp() / USECS_PER_SEC);
	return item;
}

/*
 * Places of the list that only retired postings can have: their pages are what splits take, and nothing else must keep
 * them out.
 */
#define FREE_PLACES		96

/*
 * Items of a kind are added as long as the others' part of the list has no more than so many.  Those that may have to
 * wait for the oldest snapshot must not keep the rest out.
 */
static const int quotas[] = {
	[SPF_WORK_REASSIGN] = SPF_WORK_ITEMS - FREE_PLACES,
	[SPF_WORK_MERGE] = (SPF_WORK_ITEMS - FREE_PLACES) * 3 / 4,
	[SPF_WORK_SWEEP] = (SPF_WORK_ITEMS - FREE_PLACES) / 2,
	[SPF_WORK_FREE] = FREE_PLACES,
	[SPF_WORK_RECLUSTER] = (SPF_WORK_ITEMS - FREE_PLACES) * 3 / 4,
};

/* Is there room for an item of this kind? */
static bool
has_room(const SpfWorkList *list, SpfWorkKind kind)
{
	int			nfree = 0;

	for (int i = 0; i < list->nitems; i++)
		nfree += list->items[i].kind == SPF_WORK_FREE;
	return (kind == SPF_WORK_FREE ? nfree : list->nitems - nfree) < quotas[kind];
}

/* Is it left for vacuum where there is no room? */
static bool
may_wait(SpfWorkKind kind)
{
	return kind == SPF_WORK_SWEEP || kind == SPF_WORK_FREE;
}

/* What a page says may be damaged; it is hints only, so nonsense counts as an empty list. */
static int
items_of(const SpfWorkList *list)
{
	return list->nitems <= SPF_WORK_ITEMS ? list->nitems : 0;
}

bool
spf_work_is_listed(const SpfWorkList *list, const SpfWorkItem *item)
{
	for (int i = 0; i < items_of(list); i++)
	{
		if (spf_work_same(&list->items[i], item))
			return true;
	}
	return false;
}

/*
 * A change of the list, begun and finished.  Every search reads the meta page: it must not be locked for longer than
 * it takes.
 */
typedef struct SpfListChange
{
	Buffer		buf;
	SpfPatch	patch;
	SpfMeta    *meta;
	SpfWorkList *list;
	int			before;			/* items there were */
} SpfListChange;

static void
begin_change(SpfListChange *change, SpfIndex *index)
{
	Page		page;

	change->buf = spf_meta_lock(index->rel);
	page = spf_patch_begin(&change->patch, index->rel, change->buf, index->building);
	change->meta = spf_meta_of(page);
	change->list = spf_meta_work(page);
	change->before = items_of(change->list);
}

static void
finish_change(SpfListChange *change)
{
	int			items = Max(change->before, items_of(change->list));

	spf_meta_seal(change->meta);
	spf_patch_part(&change->patch, change->meta, sizeof(SpfMeta));
	spf_patch_part(&change->patch, change->list,
				   offsetof(SpfWorkList, items) + items * sizeof(SpfWorkItem));
	spf_patch_finish(&change->patch);
	UnlockReleaseBuffer(change->buf);
}

void
spf_work_note(SpfIndex *index, const SpfCounters *delta, const SpfWorkItem *items, int nitems)
{
	SpfListChange change;

	begin_change(&change, index);
	if (delta != NULL)
		spf_counters_add(&change.meta->counters, delta);
	change.list->nitems = items_of(change.list);
	spf_work_noted |= nitems > 0;
	for (int i = 0; i < nitems; i++)
	{
		if (spf_work_is_listed(change.list, &items[i]))
			continue;
		if (has_room(change.list, items[i].kind))
			change.list->items[change.list->nitems++] = items[i];
		else if (!may_wait(items[i].kind))
			change.list->survey = SPF_META_BLOCK + 1;
		else
			change.list->dropped = 1;
	}
	finish_change(&change);
}

void
spf_work_read(const SpfIndex *index, SpfWorkList *list)
{
	Buffer		buf = spf_page_read(index->rel, SPF_META_BLOCK, BUFFER_LOCK_SHARE);

	*list = *(const SpfWorkList *) spf_meta_work(BufferGetPage(buf));
	UnlockReleaseBuffer(buf);
	list->nitems = items_of(list);
}

void
spf_work_done(SpfIndex *index, const SpfWorkItem *items, int nitems, const SpfCounters *delta)
{
	SpfListChange change;
	int			to = 0;

	begin_change(&change, index);
	for (int i = 0; i < items_of(change.list); i++)
	{
		bool		done = false;

		for (int j = 0; j < nitems && !done; j++)
			done = spf_work_same(&change.list->items[i], &items[j]);
		if (!done)
			change.list->items[to++] = change.list->items[i];
	}
	change.list->nitems = to;
	if (delta != NULL)
		spf_counters_add(&change.meta->counters, delta);
	finish_change(&change);
}

/* All postings from this block on are to be looked at; 0: none. */
static void
set_survey(SpfIndex *index, BlockNumber from)
{
	SpfListChange change;

	begin_change(&change, index);
	change.list->survey = from;
	if (from == SPF_META_BLOCK + 1)
		change.list->dropped = 0;
	finish_change(&change);
}

void
spf_work_need_survey(SpfIndex *index)
{
	set_survey(index, SPF_META_BLOCK + 1);
}

void
spf_work_failed(SpfIndex *index, const char *message)
{
	SpfListChange change;

	begin_change(&change, index);
	change.list->failed_at = GetCurrentTimestamp();
	memset(change.list->failure, 0, SPF_WORK_ERROR);
	memcpy(change.list->failure, message,
		   pg_mbcliplen(message, strlen(message), SPF_WORK_ERROR - 1));
	finish_change(&change);
}

SpfWorkKind
spf_work_of(const SpfIndex *index, const SpfPostingView *view)
{
	if (view->retired)
		return spf_retired_long_ago(view->retired_at) ? SPF_WORK_FREE : SPF_WORK_NONE;
	if (!view->head)
		return SPF_WORK_NONE;
	if (view->due)
		return SPF_WORK_REASSIGN;
	if (view->total < index->merge_limit && BlockNumberIsValid(view->centroid.block))
		return SPF_WORK_MERGE;
	if (FullTransactionIdIsValid(view->superseded_at) &&
		spf_retired_long_ago(view->superseded_at))
		return SPF_WORK_SWEEP;
	if (!BlockNumberIsValid(view->centroid.block))
		return SPF_WORK_NONE;
	if (view->changes >= view->total * SPF_RECLUSTER_SHARE)
		return SPF_WORK_RECLUSTER;
	return SPF_WORK_NONE;
}

bool
spf_work_look(SpfIndex *index, BlockNumber block, BufferAccessStrategy strategy,
			  SpfWorkItem *item)
{
	SpfPageRef	ref;
	SpfPostingView view;

	if (!spf_posting_look_at(index, block, strategy, &ref, &view))
		return false;
	*item = spf_work_item(spf_work_of(index, &view), ref);
	return item->kind != SPF_WORK_NONE;
}

int
spf_work_survey(SpfIndex *index)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(index->rel);
	SpfWorkList list;
	BlockNumber block;
	int			known;

	spf_work_read(index, &list);
	known = list.nitems;
	for (block = list.survey; block < nblocks; block++)
	{
		SpfWorkItem item;

		spf_vacuum_delay_point();
		if (!spf_work_look(index, block, NULL, &item) || spf_work_is_listed(&list, &item))
			continue;
		if (has_room(&list, item.kind))
			list.items[list.nitems++] = item;

		/* what waits already must not keep other things out: then it is left for vacuum */
		else if (!may_wait(item.kind))
			break;
	}
	set_survey(index, block < nblocks ? block : 0);
	spf_work_note(index, NULL, list.items + known, list.nitems - known);
	return list.nitems - known;
}
