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
 * Items of a kind are added to a list of up to so many.  Those at the end of the list may have to wait for
 * the oldest snapshot, and must not keep others out.
 */
static const int quotas[] = {
	[SPF_WORK_REASSIGN] = SPF_WORK_ITEMS,
	[SPF_WORK_MERGE] = SPF_WORK_ITEMS * 3 / 4,
	[SPF_WORK_SWEEP] = SPF_WORK_ITEMS / 2,
	[SPF_WORK_FREE] = SPF_WORK_ITEMS / 2,
	[SPF_WORK_RECLUSTER] = SPF_WORK_ITEMS * 3 / 4,
};

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

static bool
is_listed(const SpfWorkList *list, const SpfWorkItem *item)
{
	for (int i = 0; i < items_of(list); i++)
	{
		if (spf_work_same(&list->items[i], item))
			return true;
	}
	return false;
}

/* A change of the list, begun and finished. */
typedef struct SpfListChange
{
	Buffer		buf;
	SpfWrite	write;
	SpfMeta    *meta;
	SpfWorkList *list;
} SpfListChange;

static void
begin_change(SpfListChange *change, SpfIndex *index)
{
	Page		page;

	change->buf = spf_meta_lock(index->rel);
	spf_write_begin(&change->write, index->rel, index->building);
	page = spf_write_page(&change->write, change->buf, false);
	change->meta = spf_meta_of(page);
	change->list = spf_meta_work(page);
}

static void
finish_change(SpfListChange *change)
{
	spf_meta_seal(change->meta);
	spf_write_finish(&change->write);
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
		if (is_listed(change.list, &items[i]))
			continue;
		if (change.list->nitems < quotas[items[i].kind])
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
spf_work_done(SpfIndex *index, const SpfWorkItem *item, const SpfCounters *delta)
{
	SpfListChange change;
	int			to = 0;

	begin_change(&change, index);
	for (int i = 0; i < items_of(change.list); i++)
	{
		if (!spf_work_same(&change.list->items[i], item))
			change.list->items[to++] = change.list->items[i];
	}
	change.list->nitems = to;
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
	SpfWorkItem items[SPF_WORK_ITEMS];
	SpfWorkList list;
	BlockNumber block;
	int			n = 0;

	spf_work_read(index, &list);
	for (block = list.survey; block < nblocks; block++)
	{
		SpfWorkItem item;
		bool		room;

		spf_vacuum_delay_point();
		if (!spf_work_look(index, block, NULL, &item))
			continue;
		room = list.nitems + n < quotas[item.kind];

		/* what waits already must not keep other things out: then it is left for vacuum */
		if (!room && !(may_wait(item.kind) && list.nitems >= quotas[item.kind]))
			break;
		if (room && !is_listed(&list, &item))
			items[n++] = item;
	}
	set_survey(index, block < nblocks ? block : 0);
	spf_work_note(index, NULL, items, n);
	return n;
}
