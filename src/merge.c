/*-------------------------------------------------------------------------
 *
 * merge.c
 *	  Small postings go, and levels that have become too many.
 *
 * SPFresh (SOSP 2023), section 4.2.1.  A posting's members are appended to the nearest other
 * postings that do not have them yet (the first of those they would be placed into anew); then
 * it is retired, leading to all that took some (regroup.c).
 *
 * That splits and merges never chase each other: parts of a split have a quarter of the limit at
 * least, merged is what has less; a merge never fills a posting beyond ROOM of the limit, and is
 * not done when there is no such room; a posting fresh from a split is looked at by reassignment
 * first.
 *
 * A level is taken away in two steps, each by itself complete: the postings below the root are
 * regrouped into one, as long as all their entries together would leave a root half empty; and a
 * root with one posting below it is replaced by that one, its entries rewritten relative to
 * zero.
 *
 * Locks: the rebalancing lock, by the caller; those of regroup.c; for the second step the root's
 * heavyweight lock as well, taken without waiting.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "fault.h"
#include "merge.h"
#include "place.h"
#include "points.h"
#include "region.h"
#include "regroup.h"

/* Share of the limit up to which a merge fills others */
#define ROOM			0.9

/* Neighbours among which a new place is sought */
#define MERGE_RANGE		16

/* Share of what a root may hold that all below it may have, to be made one; and how many postings */
#define SHRINK_SHARE	0.5
#define SHRINK_POSTINGS	4

typedef struct SpfMerge
{
	SpfRegroup	regroup;
	SpfRegion	region;
	int			self;			/* the posting, in the region; -1 where it is not among them */
} SpfMerge;

static bool
has_room(const SpfMerge *merge, int p)
{
	return merge->region.postings[p].total < merge->regroup.index->split_limit * ROOM;
}

/* The posting that is to take an entry of x: -1 if none can. */
static int
choose_target(const SpfMerge *merge, SpfRecordRef ref, const float *x, bool any_room)
{
	SpfRegionVector vector = {.x = x,.ref = ref};
	int			chosen[SPF_REGION_NEAR];
	int			n;

	spf_region_look(&merge->region, merge->self, &vector);
	n = spf_region_choose(&merge->region, &vector, SPF_REGION_NEAR, chosen);
	for (int i = 0; i < n; i++)
	{
		if (!spf_region_holds(&merge->region, chosen[i], ref) &&
			(any_room || has_room(merge, chosen[i])))
			return chosen[i];
	}
	return -1;
}

/* Scans that come to the old posting are to find what went there. */
static bool
lead_to(SpfRegroup *regroup, SpfPageRef posting)
{
	for (int i = 0; i < regroup->nforwards; i++)
	{
		if (SpfPageRefEquals(regroup->forwards[i], posting))
			return true;
	}
	if (regroup->nforwards == SPF_MAX_FORWARDS)
		return false;
	regroup->forwards[regroup->nforwards++] = posting;
	return true;
}

/* What came to the posting while it was dissolved: is placed like anything new. */
static void
take_late(SpfRegroup *regroup, SpfRecordRef ref, const float *x)
{
	SpfMerge   *merge = regroup->state;
	int			p = choose_target(merge, ref, x, true);
	SpfPageRef	posting;

	if (p >= 0 &&
		spf_append_entry(regroup->index, regroup->level, x, ref, &merge->region.postings[p].route,
						 SPF_FOR_REGROUPING))
		posting = merge->region.postings[p].route.posting;
	else
		posting = spf_place_besides(regroup->index, regroup->level, x, ref,
									regroup->olds[0].head);
	if (!lead_to(regroup, posting))
		elog(ERROR, "too many postings take over from one of index \"%s\"",
			 RelationGetRelationName(regroup->index->rel));
}

/* Choose a target for each member; false if there is no room. */
static bool
plan(SpfMerge *merge, int *targets)
{
	SpfRegroup *regroup = &merge->regroup;

	for (int i = 0; i < regroup->n; i++)
	{
		int			p;

		CHECK_FOR_INTERRUPTS();
		p = choose_target(merge, regroup->members[i].ref,
						  regroup->points + (Size) i * regroup->index->padded, false);
		if (p < 0 || !lead_to(regroup, merge->region.postings[p].route.posting))
			return false;
		merge->region.postings[p].total++;
		targets[i] = p;
	}
	return true;
}

/* Append all members where they go, then retire the posting. */
static bool
carry_out(SpfMerge *merge, const int *targets, SpfCounters *done)
{
	SpfRegroup *regroup = &merge->regroup;

	for (int i = 0; i < regroup->n; i++)
	{
		const float *x = regroup->points + (Size) i * regroup->index->padded;

		CHECK_FOR_INTERRUPTS();
		if (!spf_append_entry(regroup->index, regroup->level, x, regroup->members[i].ref,
							  &merge->region.postings[targets[i]].route, SPF_FOR_MOVE))
			return false;		/* that was split meanwhile */
		spf_fault_point_of("merge", regroup->level, "member placed");
	}
	regroup->purpose = "merge";
	regroup->take_late = take_late;
	regroup->state = merge;
	return spf_regroup_carry_out(regroup, done);
}

/* With the posting locked and read. */
static SpfOutcome
merge_locked(SpfMerge *merge, SpfCounters *done)
{
	SpfRegroup *regroup = &merge->regroup;
	SpfIndex   *index = regroup->index;
	const SpfPostingEntries *entries = &regroup->olds[0].entries;
	int		   *targets = palloc(Max(regroup->n, 1) * sizeof(int));

	if (regroup->is_root || entries->due || regroup->nlive >= index->merge_limit)
		return SPF_NOTHING;

	/* scans may still come for vectors that are elsewhere by now, we do not know where */
	if (entries->nsuperseded > 0 && !spf_retired_long_ago(entries->superseded_at))
		return SPF_LATER;
	spf_region_load(&merge->region, index, regroup->level, regroup->olds[0].centroid,
					MERGE_RANGE + 1);
	merge->self = spf_region_find(&merge->region, regroup->olds[0].head);
	if (merge->region.n - (merge->self >= 0) < 1 || !plan(merge, targets))
		return SPF_NOTHING;
	if (!carry_out(merge, targets, done))
		return SPF_LATER;
	done->merges++;
	spf_regroup_note(regroup, NULL);
	return SPF_DONE;
}

SpfOutcome
spf_merge(SpfIndex *index, SpfPageRef head, SpfCounters *done)
{
	SpfMerge	merge = {0};
	SpfOutcome	outcome;

	if (!spf_regroup_begin(&merge.regroup, index, &head, 1, false))
		return SPF_LATER;
	outcome = merge_locked(&merge, done);
	spf_regroup_end(&merge.regroup);
	return outcome;
}

/* ---- levels ---- */

/* The live postings below the root, up to SHRINK_POSTINGS + 1 of them; returns how many. */
static int
below_root(SpfIndex *index, const SpfMeta *meta, SpfPageRef *children)
{
	SpfPostingEntries entries;
	int			n = 0;

	if (!spf_posting_read(index, meta->root, &entries))
		return 0;
	for (int i = 0; i < entries.n && n <= SHRINK_POSTINGS; i++)
	{
		Buffer		buf = spf_record_page(index->rel, entries.refs[i].block, BUFFER_LOCK_SHARE);
		SpfRecordView view;
		bool		known = false;

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf))
			continue;
		if (spf_record_view(index, buf, entries.refs[i].offset, entries.refs[i].version,
							meta->root_level, &view))
		{
			for (int c = 0; c < n; c++)
				known |= SpfPageRefEquals(children[c], view.child);
			if (!known)
				children[n++] = view.child;
		}
		UnlockReleaseBuffer(buf);
	}
	return n;
}

/* All that was read goes into one part; its centroid is zero as yet. */
static void
plan_one(SpfRegroup *regroup, const char *purpose)
{
	regroup->purpose = purpose;
	regroup->k = regroup->width = 1;
	regroup->settled = true;
	regroup->assign = palloc0(Max(regroup->n, 1) * sizeof(int32));
	regroup->centroids = palloc0(regroup->index->padded * sizeof(float));
}

/* Several postings become one, under a centroid of its own. */
static SpfOutcome
make_one(SpfRegroup *regroup, SpfCounters *done)
{
	int			padded = regroup->index->padded;

	if (regroup->n == 0 ||
		regroup->n > regroup->index->split_limit * SPF_ROOT_SHARE * SHRINK_SHARE)
		return SPF_NOTHING;
	plan_one(regroup, "union");
	for (int i = 0; i < regroup->n; i++)
	{
		for (int j = 0; j < padded; j++)
			regroup->centroids[j] += regroup->points[(Size) i * padded + j] / regroup->n;
	}
	if (!spf_regroup_carry_out(regroup, done))
		return SPF_LATER;
	done->merges += regroup->nolds - 1;
	spf_regroup_note(regroup, NULL);
	return SPF_DONE;
}

/* The one posting below the root takes its place. */
static SpfOutcome
take_place(SpfRegroup *regroup, SpfPageRef root, SpfCounters *done)
{
	if (regroup->n > regroup->index->split_limit * SPF_ROOT_SHARE)
		return SPF_NOTHING;
	plan_one(regroup, "shrinking");
	regroup->above = root;
	if (!spf_regroup_carry_out(regroup, done))
		return SPF_LATER;
	done->merges++;
	spf_regroup_note(regroup, NULL);
	return SPF_DONE;
}

SpfOutcome
spf_shrink(SpfIndex *index, SpfCounters *done)
{
	SpfRegroup	regroup;
	SpfPageRef	children[SHRINK_POSTINGS + 1];
	SpfOutcome	outcome = SPF_NOTHING;
	SpfMeta		meta;
	int			n;

	spf_meta_read(index->rel, &meta);
	if (meta.root_level == 0 || meta.counters.postings[meta.root_level - 1] > 2 * SHRINK_POSTINGS)
		return SPF_NOTHING;
	n = below_root(index, &meta, children);
	if (n == 0 || n > SHRINK_POSTINGS)
		return SPF_NOTHING;
	if (!spf_try_lock_block(index->rel, meta.root.block, ExclusiveLock))
		return SPF_LATER;
	if (spf_regroup_begin(&regroup, index, children, n, false))
	{
		SpfPageRef	again[SHRINK_POSTINGS + 1];

		/* further ones come from splits of these only, which are locked now */
		if (below_root(index, &meta, again) == n)
			outcome = n > 1 ? make_one(&regroup, done) : take_place(&regroup, meta.root, done);
		spf_regroup_end(&regroup);
	}
	spf_unlock_block(index->rel, meta.root.block, ExclusiveLock);
	return outcome;
}
