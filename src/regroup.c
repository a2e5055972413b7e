/*-------------------------------------------------------------------------
 *
 * regroup.c
 *	  Putting the entries of some postings into others: what splits, merges and reclustering share.
 *
 * SPFresh (SOSP 2023), section 4.2, as a sequence of changes each of which leaves a valid
 * index (invariant 2):
 *
 *	1. the members' records are read; entries that are stale, or were superseded so long
 *	   ago that no scan can need them, are forgotten here.
 *	2. the new postings (parts) are written, reachable by nobody.
 *	3. each one's centroid gets a record, the posting learns of it, and then
 *	   the centroid is placed one level up: from now on both old and new postings are
 *	   found.  The root's parts go into a new root instead.
 *	4. entries that came to an old posting meanwhile are added to the parts.
 *	5. in one change an old posting's head is retired, leading to the parts, and its centroid's
 *	   record with it (for the root: the meta page leads to the new root).  What is retired stays
 *	   readable until nobody can be on the way to it: then vacuum frees it, or whoever works
 *	   on the list (work.h).  4 and 5 are done for each of the old postings.
 *	6. the old centroids' entries one level up are marked superseded.
 *
 * A crash after 2, or amid 3, leaves postings that nobody leads to: vacuum frees them, as it
 * proves every new posting reachable once.  After 3 both are there, which is only redundant; as
 * is an old centroid's entry that was not marked.
 *
 * Locks: the heavyweight locks on the heads exclude other splits and sweeps of them, those on
 * the parts splits of these before they have all entries; a share lock on the meta page's number
 * tells vacuum that postings without a way to them may be under construction.  All but the first
 * head's are taken without waiting.  Buffers: in step 5 record page, then head, then meta page.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "utils/memutils.h"

#include "fault.h"
#include "meta.h"
#include "place.h"
#include "queue.h"
#include "regroup.h"
#include "work.h"

/* ---- step 1: what is there ---- */

static int
compare_members(const void *a, const void *b)
{
	return spf_record_ref_cmp(&((const SpfRegroupMember *) a)->ref, &((const SpfRegroupMember *) b)->ref);
}

/*
 * Note an entry as known; false if it was.  A vector that went and came again has one that is superseded
 * and one that is not.
 */
static bool
note_known(SpfOld *old, int i)
{
	SpfRecordRef key = old->entries.refs[i];

	if (old->entries.superseded[i])
		key.offset |= SPF_SUPERSEDED;
	return spf_seen_add(old->known, key);
}

/* Note an old posting's entries as known, and append those worth keeping to members[]. */
static int
collect_old(const SpfIndex *index, SpfOld *old, SpfRegroupMember *members)
{
	const SpfPostingEntries *entries = &old->entries;
	bool		keep = entries->nsuperseded > 0 &&
		!spf_may_forget(index->rel, old->head.block, entries->superseded_at);
	int			n = 0;

	for (int i = 0; i < entries->n; i++)
	{
		if (!note_known(old, i) || (entries->superseded[i] && !keep))
			continue;
		members[n++] = (SpfRegroupMember) {entries->refs[i], !entries->superseded[i],
			entries->superseded[i]};
	}
	return n;
}

/* Each vector once. */
static int
unite(SpfRegroupMember *members, int n)
{
	int			to = 0;

	qsort(members, n, sizeof(SpfRegroupMember), compare_members);
	for (int i = 0; i < n; i++)
	{
		if (to > 0 && spf_record_ref_cmp(&members[to - 1].ref, &members[i].ref) == 0)
		{
			members[to - 1].copies += members[i].copies;
			members[to - 1].superseded &= members[i].superseded;
		}
		else
			members[to++] = members[i];
	}
	return to;
}

static void
load_members(SpfRegroup *regroup, int all)
{
	int			n = regroup->n;
	SpfRecordRef *refs = palloc_extended(Max(n, 1) * sizeof(SpfRecordRef), MCXT_ALLOC_HUGE);
	int			live;
	int			to = 0;

	regroup->points = palloc_extended(Max((Size) n, 1) * regroup->index->padded * sizeof(float),
									  MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
		refs[i] = regroup->members[i].ref;
	live = spf_load_points(regroup->index, regroup->level, refs, n, regroup->points);
	for (int i = 0; i < n && to < live; i++)
	{
		if (spf_record_ref_cmp(&regroup->members[i].ref, &refs[to]) == 0)
			regroup->members[to++] = regroup->members[i];
	}
	regroup->n = live;
	regroup->dropped = all;
	for (int i = 0; i < live; i++)
		regroup->nlive += !regroup->members[i].superseded;
	for (int i = 0; i < live; i++)
		regroup->dropped -= Max(regroup->members[i].copies, 1);
	pfree(refs);
}

static bool
load_centroid(SpfRegroup *regroup, SpfOld *old)
{
	SpfVector	vector = {.code = palloc(regroup->index->padded)};

	if (!BlockNumberIsValid(old->entries.centroid.block))
		return regroup->is_root;
	if (!spf_record_fetch(regroup->index, old->entries.centroid, regroup->level + 1, &vector, NULL))
		return false;
	old->centroid = palloc(regroup->index->padded * sizeof(float));
	spf_record_decode(vector.code, vector.numbers.scale, regroup->index->padded, old->centroid);
	return true;
}

static bool
read_olds(SpfRegroup *regroup)
{
	SpfMeta		meta;
	int			all = 0;

	spf_meta_read(regroup->index->rel, &meta);
	regroup->is_root = SpfPageRefEquals(meta.root, regroup->olds[0].head);
	for (int o = 0; o < regroup->nolds; o++)
	{
		SpfOld	   *old = &regroup->olds[o];

		if (!spf_posting_read(regroup->index, old->head, &old->entries))
			return false;
		regroup->level = regroup->olds[0].entries.level;
		if (old->entries.level != regroup->level || !load_centroid(regroup, old))
			return false;
		old->known = spf_seen_make(CurrentMemoryContext, Max(old->entries.n * 2, 16));
		all += old->entries.n;
	}
	regroup->members = palloc_extended(Max(all, 1) * sizeof(SpfRegroupMember), MCXT_ALLOC_HUGE);
	for (int o = 0; o < regroup->nolds; o++)
		regroup->n += collect_old(regroup->index, &regroup->olds[o], regroup->members + regroup->n);
	regroup->n = unite(regroup->members, regroup->n);
	load_members(regroup, all);
	return true;
}

static bool
lock_olds(SpfRegroup *regroup, bool wait)
{
	Relation	rel = regroup->index->rel;

	if (wait)
		spf_lock_block(rel, regroup->olds[0].head.block, ExclusiveLock);
	else if (!spf_try_lock_block(rel, regroup->olds[0].head.block, ExclusiveLock))
		return false;
	for (regroup->nlocked = 1; regroup->nlocked < regroup->nolds; regroup->nlocked++)
	{
		if (!spf_try_lock_block(rel, regroup->olds[regroup->nlocked].head.block, ExclusiveLock))
			return false;
	}
	return true;
}

bool
spf_regroup_begin(SpfRegroup *regroup, SpfIndex *index, const SpfPageRef *heads, int n,
				  bool wait)
{
	memset(regroup, 0, sizeof(SpfRegroup));
	regroup->index = index;
	regroup->nolds = n;
	regroup->new_root = regroup->above = SPF_NO_PAGE;
	if (!spf_try_lock_block(index->rel, SPF_META_BLOCK, ShareLock))
		return false;
	regroup->context = AllocSetContextCreate(CurrentMemoryContext, "spfresh regroup",
											 ALLOCSET_DEFAULT_SIZES);
	regroup->outer = MemoryContextSwitchTo(regroup->context);
	regroup->olds = palloc0(n * sizeof(SpfOld));
	for (int o = 0; o < n; o++)
		regroup->olds[o].head = heads[o];
	if (lock_olds(regroup, wait) && read_olds(regroup))
		return true;
	spf_regroup_end(regroup);
	return false;
}

void
spf_regroup_end(SpfRegroup *regroup)
{
	Relation	rel = regroup->index->rel;

	for (int j = 0; j < regroup->nparts; j++)
		spf_unlock_block(rel, regroup->forwards[j].block, ExclusiveLock);
	for (int o = 0; o < regroup->nlocked; o++)
		spf_unlock_block(rel, regroup->olds[o].head.block, ExclusiveLock);
	MemoryContextSwitchTo(regroup->outer);
	MemoryContextDelete(regroup->context);
	spf_unlock_block(rel, SPF_META_BLOCK, ShareLock);
}

/* ---- step 2: the parts ---- */

/* What is no vector's last live entry is marked as it was. */
static void
mark_superseded(const SpfRegroup *regroup, SpfEntry *entries, int m)
{
	for (int i = 0; i < m; i++)
	{
		SpfRegroupMember	key = {.ref = entries[i].ref};
		const SpfRegroupMember *member = bsearch(&key, regroup->members, regroup->n,
										  sizeof(SpfRegroupMember), compare_members);

		entries[i].superseded = member->superseded;
	}
}

/* When the entries that are superseded became so: at the latest. */
static FullTransactionId
superseded_at(const SpfRegroup *regroup)
{
	FullTransactionId at = InvalidFullTransactionId;

	for (int o = 0; o < regroup->nolds; o++)
	{
		if (FullTransactionIdFollows(regroup->olds[o].entries.superseded_at, at))
			at = regroup->olds[o].entries.superseded_at;
	}
	return at;
}

/* A root rewritten, or what is left below one: its entries are relative to zero. */
static bool
becomes_root(const SpfRegroup *regroup)
{
	return BlockNumberIsValid(regroup->above.block) ||
		(regroup->keep_centroid && regroup->is_root);
}

/* The entries of part j, and what its head is to say. */
static SpfEntry *
form_part(SpfRegroup *regroup, int j, const SpfRecordRef *refs, SpfPostingBirth *birth, int *m)
{
	int		   *members = palloc(Max(regroup->n, 1) * sizeof(int));
	const SpfOld *first = &regroup->olds[0];
	const float *centroid = regroup->centroids + (Size) j * regroup->index->padded;
	SpfEntry   *entries;
	bool		any = false;

	*m = 0;
	for (int i = 0; i < regroup->n; i++)
	{
		for (int w = 0; w < regroup->width; w++)
		{
			if (regroup->assign[i * regroup->width + w] != j)
				continue;
			members[(*m)++] = i;
			any |= regroup->members[i].superseded;
			break;
		}
	}
	if (becomes_root(regroup))
		centroid = NULL;
	entries = spf_form_entries(regroup->index, regroup->points, refs, members, *m, centroid);
	birth->level = regroup->level;
	birth->centroid = regroup->keep_centroid ? first->entries.centroid : SPF_NO_RECORD;
	birth->due = regroup->keep_centroid ? first->entries.due : regroup->due;
	birth->superseded_at = InvalidFullTransactionId;
	birth->changes = 0;
	if (any)
	{
		mark_superseded(regroup, entries, *m);
		birth->superseded_at = superseded_at(regroup);
	}
	for (int o = 0; o < regroup->nolds && !regroup->settled; o++)
		birth->changes += regroup->olds[o].entries.changes;
	birth->changes = birth->changes * ((double) *m / Max(regroup->n, 1));
	return entries;
}

/*
 * Returns false if a part could not be locked, by a vacuum that happens to look for
 * what its block was before.
 */
static bool
write_parts(SpfRegroup *regroup)
{
	SpfRecordRef *refs = palloc(Max(regroup->n, 1) * sizeof(SpfRecordRef));

	for (int i = 0; i < regroup->n; i++)
		refs[i] = regroup->members[i].ref;
	for (int j = 0; j < regroup->k; j++)
	{
		SpfPostingBirth birth;
		int			m;
		SpfEntry   *entries = form_part(regroup, j, refs, &birth, &m);

		regroup->forwards[j] = spf_posting_create(regroup->index, &birth, entries, m);
		if (!spf_try_lock_block(regroup->index->rel, regroup->forwards[j].block, ExclusiveLock))
			return false;
		regroup->nparts++;
		spf_fault_point_of(regroup->purpose, regroup->level, "part written");
	}
	if (regroup->k > 0)
		regroup->nforwards = regroup->k;
	return true;
}

/* ---- step 3: the ways to the parts ---- */

static void
tell_centroid(SpfRegroup *regroup, SpfPageRef part, SpfRecordRef centroid)
{
	if (!spf_posting_edit(regroup->index, part, &(SpfPostingEdit) {.centroid = &centroid}))
		elog(ERROR, "a new posting of index \"%s\" is missing",
			 RelationGetRelationName(regroup->index->rel));
}

void
spf_regroup_encode(SpfRegroup *regroup)
{
	int			padded = regroup->index->padded;

	regroup->vectors = palloc(Max(regroup->k, 1) * sizeof(SpfVector));
	for (int j = 0; j < regroup->k; j++)
	{
		float	   *centroid = regroup->centroids + (Size) j * padded;

		regroup->vectors[j].code = palloc(padded);
		if (becomes_root(regroup))
			memset(centroid, 0, padded * sizeof(float));
		else if (regroup->keep_centroid)
			memcpy(centroid, regroup->olds[0].centroid, padded * sizeof(float));
		if (becomes_root(regroup) || regroup->keep_centroid)
			continue;
		spf_record_encode(centroid, padded, regroup->vectors[j].code,
						  &regroup->vectors[j].numbers);
		spf_record_decode(regroup->vectors[j].code, regroup->vectors[j].numbers.scale, padded,
						  centroid);
	}
}

static void
link_parts(SpfRegroup *regroup)
{
	SpfIndex   *index = regroup->index;
	SpfRecordRef *refs = palloc(regroup->k * sizeof(SpfRecordRef));
	int		   *members = palloc(regroup->k * sizeof(int));
	SpfPostingBirth birth = {.level = regroup->level + 1,.centroid = SPF_NO_RECORD};
	SpfEntry   *entries;

	for (int j = 0; j < regroup->k; j++)
	{
		/* as soon as it is placed it gets entries: by then it must know where it belongs */
		refs[j] = spf_record_insert(index, regroup->level + 1, &regroup->vectors[j], NULL,
									regroup->forwards[j],
									regroup->olds[0].entries.centroid.block);
		spf_fault_point_of(regroup->purpose, regroup->level, "centroid stored");
		tell_centroid(regroup, regroup->forwards[j], refs[j]);
		spf_fault_point_of(regroup->purpose, regroup->level, "centroid told");
		if (!regroup->is_root)
			spf_place_centroid(index, regroup->level + 1, &regroup->vectors[j], refs[j]);
		spf_fault_point_of(regroup->purpose, regroup->level, "centroid placed");
		members[j] = j;
	}
	if (!regroup->is_root)
		return;
	entries = spf_form_entries(index, regroup->centroids, refs, members, regroup->k, NULL);
	regroup->new_root = spf_posting_create(index, &birth, entries, regroup->k);
	spf_fault_point_of(regroup->purpose, regroup->level, "new root written");
}

/* ---- steps 4 and 5: latecomers, and the switch ---- */

static void
take_into_parts(SpfRegroup *regroup, SpfRecordRef ref, const float *x)
{
	SpfRoute	route = {.record = SPF_NO_RECORD};
	float		dist2;
	int			best = spf_nearest_of(x, regroup->centroids, regroup->k,
									  regroup->index->padded, &dist2);

	route.posting = regroup->forwards[best];
	route.centroid = regroup->centroids + (Size) best * regroup->index->padded;
	if (!spf_append_entry(regroup->index, regroup->level, x, ref, &route, SPF_FOR_REGROUPING))
		elog(ERROR, "a new posting of index \"%s\" is missing",
			 RelationGetRelationName(regroup->index->rel));
}

static void
catch_up(SpfRegroup *regroup, SpfOld *old)
{
	SpfIndex   *index = regroup->index;
	SpfPostingEntries *entries = &old->entries;
	int			n = 0;
	float	   *points;

	if (!spf_posting_read(index, old->head, entries))
		elog(ERROR, "a posting of index \"%s\" vanished while it was regrouped",
			 RelationGetRelationName(index->rel));
	for (int i = 0; i < entries->n; i++)
	{
		if (note_known(old, i) && !entries->superseded[i])
			entries->refs[n++] = entries->refs[i];
	}
	points = palloc_extended(Max((Size) n, 1) * index->padded * sizeof(float), MCXT_ALLOC_HUGE);
	n = spf_load_points(index, regroup->level, entries->refs, n, points);
	for (int i = 0; i < n; i++)
		regroup->take_late(regroup, entries->refs[i], points + (Size) i * index->padded);
	pfree(points);
}

/* The pages of step 5, in the order in which they are locked; not all are always there. */
typedef struct SpfSwitchPages
{
	Buffer		record;
	Buffer		head;
	Buffer		above;
	Buffer		meta;
} SpfSwitchPages;

/* The edits of step 5, all pages locked. */
static void
write_switch(SpfRegroup *regroup, const SpfOld *old, const SpfSwitchPages *pages)
{
	uint16		offset = old->entries.centroid.offset;
	SpfWrite	write;

	spf_write_begin(&write, regroup->index->rel, regroup->index->building);
	if (BufferIsValid(pages->record))
	{
		Page		page = spf_write_page(&write, pages->record, false);

		if (regroup->keep_centroid)
			spf_record_set_child(page, offset, regroup->forwards[0]);
		else
			spf_record_retire(page, offset);
	}
	spf_posting_retire(spf_write_page(&write, pages->head, false), regroup->forwards,
					   regroup->nforwards);
	if (BufferIsValid(pages->above))
		spf_posting_retire(spf_write_page(&write, pages->above, false), regroup->forwards,
						   regroup->nforwards);
	if (BufferIsValid(pages->meta))
	{
		SpfMeta    *content = spf_meta_edit(&write, pages->meta);

		if (BlockNumberIsValid(regroup->above.block))
		{
			content->root = regroup->forwards[0];
			content->root_level = regroup->level;
		}
		else if (regroup->keep_centroid)
			content->root = regroup->forwards[0];
		else
		{
			content->root = regroup->new_root;
			content->root_level = regroup->level + 1;
		}
		spf_meta_seal(content);
	}
	spf_write_finish(&write);
}

/* Lock the page of an old posting's centroid, and see that all is as it should be. */
static Buffer
lock_centroid(SpfRegroup *regroup, const SpfOld *old)
{
	const SpfIndex *index = regroup->index;
	SpfRecordRef ref = old->entries.centroid;
	Buffer		buf = spf_record_page(index->rel, ref.block, BUFFER_LOCK_EXCLUSIVE);
	SpfRecordView view;

	if (!BufferIsValid(buf) ||
		!spf_record_view(index, buf, ref.offset, ref.version, regroup->level + 1, &view))
		spf_page_corrupted(index->rel, old->head.block, "The posting's centroid is missing.");
	if (!SpfPageRefEquals(view.child, old->head))
		spf_page_corrupted(index->rel, old->head.block,
						   "The posting's centroid leads to another posting.");
	return buf;
}

/* Lock a posting's head that must be there, pinned before. */
static Buffer
lock_head(SpfRegroup *regroup, Buffer pinned, SpfPageRef head, SpfPostingView *view)
{
	Buffer		buf = spf_page_follow_pinned(regroup->index->rel, pinned, head, SPF_PAGE_POSTING,
											 BUFFER_LOCK_EXCLUSIVE);

	if (!BufferIsValid(buf))
		elog(ERROR, "a posting of index \"%s\" vanished while it was regrouped",
			 RelationGetRelationName(regroup->index->rel));
	spf_posting_view(regroup->index, buf, view);
	return buf;
}

/* Step 5, in which nothing may have come to the old posting: else false. */
static bool
switch_over(SpfRegroup *regroup, SpfOld *old)
{
	Relation	rel = regroup->index->rel;
	bool		collapse = BlockNumberIsValid(regroup->above.block);
	Buffer		head = spf_page_pin(rel, old->head.block);
	Buffer		above = collapse ? spf_page_pin(rel, regroup->above.block) : InvalidBuffer;
	SpfSwitchPages pages = {InvalidBuffer, InvalidBuffer, InvalidBuffer, InvalidBuffer};
	SpfPostingView view;
	SpfPostingView ignored;
	bool		ready;

	if (!regroup->is_root)
		pages.record = lock_centroid(regroup, old);
	pages.head = lock_head(regroup, head, old->head, &view);
	if (collapse)
		pages.above = lock_head(regroup, above, regroup->above, &ignored);
	ready = view.total == old->entries.total;
	if (ready)
	{
		if (regroup->is_root || collapse)
			pages.meta = spf_meta_lock(rel);
		write_switch(regroup, old, &pages);
		if (BufferIsValid(pages.meta))
			UnlockReleaseBuffer(pages.meta);
	}
	if (collapse)
		UnlockReleaseBuffer(pages.above);
	UnlockReleaseBuffer(pages.head);
	if (BufferIsValid(pages.record))
		UnlockReleaseBuffer(pages.record);
	return ready;
}

/* ---- all of it ---- */

/* Do the old postings leave centroids one level up, and is there such a level? */
static bool
supersedes(const SpfRegroup *regroup)
{
	return !regroup->keep_centroid && !regroup->is_root &&
		!BlockNumberIsValid(regroup->above.block);
}

static void
count(const SpfRegroup *regroup, SpfCounters *done)
{
	done->swept += regroup->dropped;
	done->postings[regroup->level] += regroup->k - regroup->nolds;
	if (BlockNumberIsValid(regroup->new_root.block))
		done->postings[regroup->level + 1]++;
	if (BlockNumberIsValid(regroup->above.block))
		done->postings[regroup->level + 1]--;
}

bool
spf_regroup_carry_out(SpfRegroup *regroup, SpfCounters *done)
{
	if (regroup->take_late == NULL)
		regroup->take_late = take_into_parts;
	if (regroup->vectors == NULL)
		spf_regroup_encode(regroup);
	if (!write_parts(regroup))
		return false;

	/*
	 * From here to the end it is a matter of a few pages, and to stop in between would leave
	 * entries twice: a cancelled statement waits.
	 */
	HOLD_INTERRUPTS();
	if (regroup->k > 0 && !regroup->keep_centroid && !becomes_root(regroup))
		link_parts(regroup);
	for (int o = 0; o < regroup->nolds; o++)
	{
		while (!switch_over(regroup, &regroup->olds[o]))
			catch_up(regroup, &regroup->olds[o]);
		spf_fault_point_of(regroup->purpose, regroup->level, "switched over");
	}
	for (int o = 0; o < regroup->nolds && supersedes(regroup); o++)
	{
		spf_unplace_centroid(regroup->index, regroup->level + 1, regroup->olds[o].centroid,
							 regroup->olds[o].entries.centroid);
		spf_fault_point_of(regroup->purpose, regroup->level, "old centroid superseded");
	}
	RESUME_INTERRUPTS();
	count(regroup, done);
	return true;
}

void
spf_regroup_note(SpfRegroup *regroup, const SpfCounters *delta)
{
	int			n = 0;
	SpfWorkItem *items = palloc((regroup->k + regroup->nolds + 1) * sizeof(SpfWorkItem));
	bool		due = regroup->keep_centroid ? regroup->olds[0].entries.due : regroup->due;

	spf_fault_point_of(regroup->purpose, regroup->level, "done");
	for (int j = 0; j < regroup->k && due; j++)
		items[n++] = spf_work_item(SPF_WORK_REASSIGN, regroup->forwards[j]);
	for (int o = 0; o < regroup->nolds; o++)
		items[n++] = spf_work_item(SPF_WORK_FREE, regroup->olds[o].head);
	if (BlockNumberIsValid(regroup->above.block))
		items[n++] = spf_work_item(SPF_WORK_FREE, regroup->above);
	spf_work_note(regroup->index, delta, items, n);
}

void
spf_regroup_postpone(SpfRegroup *regroup, uint32 split_at)
{
	(void) spf_posting_edit(regroup->index, regroup->olds[0].head,
							&(SpfPostingEdit) {.split_at = split_at});
}
