/*-------------------------------------------------------------------------
 *
 * reassign.c
 *	  After a split: vectors go to the posting that is now their nearest.
 *
 * SPFresh (SOSP 2023), section 4.2.2: after a split, only two kinds of vectors can have another
 * nearest posting than before, those of the split posting that are further from its parts than
 * from some neighbour, and those of neighbours that are nearer to a part than to their own.
 * Both are found with the scan's own kernel: the other posting's centroid is the query, and an
 * entry whose lower bound is beyond SOAR_FACTOR times its squared distance to its own centroid
 * stays.  Of what is left the records are read, and distances are exact.
 *
 * A vector moves when its nearest posting has no entry of it, and, beyond LIRE, when another
 * posting is a better replica than the one it has: a split that halves the vectors of both kinds
 * alike, and the new centroids around, make one in seven of the replicas a wrong one in the
 * course of time, which costs as much recall as wrong nearest postings do.  Entries are appended
 * where they are missing, and only then superseded where there is one too many.  So it has at no
 * moment fewer entries than before; and a scan that has passed the new place too early still
 * finds the superseded one.  Neither its record nor its other entries are touched.
 *
 * Locks: the rebalancing lock, by the caller.  Each posting's heavyweight lock while its entries
 * are superseded: waited for, as nobody who has one waits for the rebalancing lock.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "utils/memutils.h"

#include "fault.h"
#include "place.h"
#include "points.h"
#include "posting.h"
#include "reassign.h"
#include "region.h"
#include "work.h"

/*
 * By SOAR's measure a posting is at most twice as bad as its squared distance says.  So one that is further
 * than this from a vector cannot be a better replica than that in whose posting we meet it.
 */
#define SOAR_FACTOR		2

/* A posting of whose entries as many were superseded is to be swept as soon as no scan can need them. */
#define SWEEP_SHARE		0.01

/* Postings whose centroids and members are known, as a multiple of those whose vectors are looked at */
#define KNOWN_FACTOR	3

/* An entry that is one too many, as long as those of its vector in other postings stay. */
typedef struct SpfLeaving
{
	SpfRecordRef ref;
	int			nchosen;
	const int  *chosen;			/* of the region: where its vector belongs */
} SpfLeaving;

typedef struct SpfReassign
{
	SpfIndex   *index;
	SpfRegion	region;
	int			self;			/* the posting, in the region */
	int			range;			/* postings of the region whose vectors are looked at */
	SpfQuery  **queries;		/* [region.n]: by L2 from each centroid */
	SpfCounters *done;

	/* vectors that may have to move */
	int			n;
	int			space;
	SpfRecordRef *refs;

	/* entries that are one too many, by posting of the region */
	int		   *nsuperseded;
	SpfLeaving **superseded;
} SpfReassign;

static void
add_candidate(SpfReassign *re, SpfRecordRef ref)
{
	if (re->n == re->space)
	{
		re->space = Max(256, re->space * 2);
		re->refs = re->refs == NULL ? palloc(re->space * sizeof(SpfRecordRef)) :
			repalloc(re->refs, re->space * sizeof(SpfRecordRef));
	}
	re->refs[re->n++] = ref;
}

/* The live entries of a block that may be nearer to the other centroid than to their own. */
static void
compare_block(SpfReassign *re, const uint8_t *block, int lanes, const SpfQuery *own,
			  const SpfQuery *other, float apart2)
{
	float		est[SPF_MAX_LANES];
	float		lower[SPF_MAX_LANES];
	float		own_est[SPF_MAX_LANES];
	float		own_lower[SPF_MAX_LANES];

	spf_query_block(own, 0, block, lanes, INFINITY, own_est, own_lower);
	spf_query_block(other, apart2, block, lanes, INFINITY, est, lower);
	for (int lane = 0; lane < lanes; lane++)
	{
		if (lower[lane] < SOAR_FACTOR * (2 * own_est[lane] - own_lower[lane]) &&
			!spf_posting_superseded(re->index, block, lane))
			add_candidate(re, spf_posting_ref(re->index, block, lane));
	}
	re->done->evaluated += lanes;
}

/* The entries of posting p that may be nearer to posting o. */
static void
compare_posting(SpfReassign *re, int p, int o)
{
	const SpfRegionPosting *posting = &re->region.postings[p];
	float		apart2 = spf_kernels->l2sq(posting->route.centroid,
										   re->region.postings[o].route.centroid,
										   re->index->padded);
	SpfPageRef	page = posting->route.posting;
	BlockNumber pages = 0;

	while (BlockNumberIsValid(page.block))
	{
		Buffer		buf = spf_page_follow(re->index->rel, page, SPF_PAGE_POSTING,
										  BUFFER_LOCK_SHARE);
		SpfPostingView view;

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf))
			return;
		if (pages++ > RelationGetNumberOfBlocks(re->index->rel))
			spf_page_corrupted(re->index->rel, page.block, "A posting's pages have no end.");
		spf_posting_view(re->index, buf, &view);
		page = view.next;
		if (view.retired)
			page = SPF_NO_PAGE;
		for (int b = 0; b < spf_posting_nblocks(re->index, &view); b++)
			compare_block(re, spf_posting_block(re->index, &view, b),
						  spf_posting_lanes(re->index, &view, b),
						  re->queries[p], re->queries[o], apart2);
		UnlockReleaseBuffer(buf);
	}
}

static void
find_candidates(SpfReassign *re)
{
	int			to = 0;

	re->queries = palloc(re->region.n * sizeof(SpfQuery *));
	for (int p = 0; p < re->range; p++)
		re->queries[p] = spf_index_placement_query(re->index,
												   re->region.postings[p].route.centroid);
	for (int p = 0; p < re->range; p++)
	{
		if (p == re->self)
			continue;
		compare_posting(re, p, re->self);
		compare_posting(re, re->self, p);
	}
	qsort(re->refs, re->n, sizeof(SpfRecordRef), spf_record_ref_cmp);
	for (int i = 0; i < re->n; i++)
	{
		if (to == 0 || spf_record_ref_cmp(&re->refs[to - 1], &re->refs[i]) != 0)
			re->refs[to++] = re->refs[i];
	}
	re->n = to;
}

static bool
is_in(int p, const int *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (list[i] == p)
			return true;
	}
	return false;
}

/* Put a vector into the postings chosen[n], and out of the others that hold it. */
static void
move(SpfReassign *re, const SpfRegionVector *vector, const int *chosen, int n)
{
	SpfLeaving	leaving = {.ref = vector->ref,.nchosen = n};

	for (int i = 0; i < n; i++)
	{
		if (!is_in(chosen[i], vector->has, vector->nhas) &&
			!spf_append_entry(re->index, re->region.level, vector->x, vector->ref,
							  &re->region.postings[chosen[i]].route, SPF_FOR_MOVE))
			return;				/* split meanwhile: its parts will be looked at */
		spf_fault_point_of("reassign", re->region.level, "entry moved");
	}
	leaving.chosen = memcpy(palloc(n * sizeof(int)), chosen, n * sizeof(int));
	for (int i = 0; i < vector->nhas; i++)
	{
		int			p = vector->has[i];

		if (is_in(p, chosen, n))
			continue;
		if (re->superseded[p] == NULL)
			re->superseded[p] = palloc(re->region.postings[p].n * sizeof(SpfLeaving));
		re->superseded[p][re->nsuperseded[p]++] = leaving;
	}
	re->done->reassigned++;
}

/*
 * Could the posting that is looked at take a vector that it does not have?  Not where it is further
 * away than the worst of those that have it is bad, by SOAR's measure: a posting is at least as bad
 * as it is far.  Where some are beyond the region, it would have to be the nearest.
 */
static bool
may_take(const SpfReassign *re, const float *x, const int *has, int nhas)
{
	const SpfRegionPosting *postings = re->region.postings;
	int			padded = re->index->padded;
	double		dist2[SPF_REGION_HAS];
	double		worst = 0;
	int			nearest = 0;

	for (int i = 0; i < nhas; i++)
	{
		dist2[i] = spf_kernels->l2sq(x, postings[has[i]].route.centroid, padded);
		if (dist2[i] < dist2[nearest])
			nearest = i;
	}
	for (int i = 0; i < nhas && nhas >= re->index->replicas; i++)
	{
		double		bad = dist2[i];

		for (int j = 0; j < nhas && i != nearest; j++)
		{
			double		product;

			if (j == i || dist2[j] == 0)
				continue;
			product = (dist2[j] + dist2[i] -
					   spf_kernels->l2sq(postings[has[i]].route.centroid,
										 postings[has[j]].route.centroid, padded)) / 2;
			bad += product * product / dist2[j];
		}
		worst = Max(worst, bad);
	}
	return spf_kernels->l2sq(x, postings[re->self].route.centroid, padded) <
		Max(worst, dist2[nearest]);
}

/*
 * Look at a candidate itself.  Where one of its entries is beyond the region, only another nearest posting is
 * a reason to move: which replica is best cannot be told.
 */
static void
decide(SpfReassign *re, SpfRecordRef ref, const float *x)
{
	SpfRegionVector vector = {.x = x,.ref = ref};
	int			chosen[SPF_REGION_NEAR];
	int			same = 0;
	int			n;

	vector.nhas = spf_region_holders(&re->region, ref, vector.has);
	if (vector.nhas > 0 && !is_in(re->self, vector.has, vector.nhas) &&
		!may_take(re, x, vector.has, vector.nhas))
		return;
	spf_region_look(&re->region, -1, &vector);
	if (vector.nhas == 0 ||
		(vector.nhas < re->index->replicas && is_in(vector.near[0], vector.has, vector.nhas)))
		return;
	n = spf_region_choose(&re->region, &vector, Min(vector.nhas, re->index->replicas), chosen);
	for (int i = 0; i < n; i++)
		same += is_in(chosen[i], vector.has, vector.nhas);
	if (same < n || n < vector.nhas)
		move(re, &vector, chosen, n);
}

/* The postings that took over from one that was retired: how many. */
static int
find_successors(SpfIndex *index, SpfPageRef head, SpfPageRef *successors)
{
	Buffer		buf = spf_page_follow(index->rel, head, SPF_PAGE_POSTING, BUFFER_LOCK_SHARE);
	SpfPostingView view;
	int			n;

	if (!BufferIsValid(buf))
		return 0;
	spf_posting_view(index, buf, &view);
	n = view.nforwards;
	if (n > 0)
		memcpy(successors, view.forwards, n * sizeof(SpfPageRef));
	UnlockReleaseBuffer(buf);
	return n;
}

/* Successions that are followed: postings that were split since the region was read */
#define MAX_SUCCESSION	4

/* Is the posting still there, and not retired? */
static bool
takes_entries(SpfIndex *index, SpfPageRef head)
{
	SpfPostingView view;

	return spf_posting_look(index, head, &view) && spf_posting_is_live(&view);
}

/*
 * May an entry go, from a posting that is locked?  The region may have shown a posting together with what
 * it was about to be split into.  So it must not be one of those where the vector belongs, and
 * one of these must be live now: then this posting is none of its parts, for they are locked until
 * it is retired.
 */
static bool
may_leave(SpfReassign *re, const SpfLeaving *leaving, SpfPageRef head)
{
	bool		stays = false;

	for (int i = 0; i < leaving->nchosen; i++)
	{
		SpfPageRef	other = re->region.postings[leaving->chosen[i]].route.posting;

		if (SpfPageRefEquals(other, head))
			return false;
		stays = stays || takes_entries(re->index, other);
	}
	return stays;
}

/* Supersede entries, in a posting or in what has become of it. */
static void
supersede(SpfReassign *re, SpfPageRef head, const SpfLeaving *leaving, int n, int depth)
{
	SpfIndex   *index = re->index;
	SpfRecordRef *refs = palloc(n * sizeof(SpfRecordRef));
	SpfPageRef	successors[SPF_MAX_FORWARDS];
	int			m = 0;
	int			nsuccessors = 0;

	spf_lock_block(index->rel, head.block, ExclusiveLock);
	for (int i = 0; i < n; i++)
	{
		if (may_leave(re, &leaving[i], head))
			refs[m++] = leaving[i].ref;
	}
	if (spf_posting_supersede(index, head, refs, m) < n && depth < MAX_SUCCESSION)
		nsuccessors = find_successors(index, head, successors);
	spf_unlock_block(index->rel, head.block, ExclusiveLock);
	for (int i = 0; i < nsuccessors; i++)
		supersede(re, successors[i], leaving, n, depth + 1);
	pfree(refs);
}

static void
move_candidates(SpfReassign *re)
{
	int			padded = re->index->padded;
	SpfWorkItem *items;
	int			nitems = 0;
	float	   *points = palloc_extended(Max((Size) re->n, 1) * padded * sizeof(float),
										 MCXT_ALLOC_HUGE);

	re->nsuperseded = palloc0(re->region.n * sizeof(int));
	re->superseded = palloc0(re->region.n * sizeof(SpfLeaving *));
	re->n = spf_load_points(re->index, re->region.level, re->refs, re->n, points);
	for (int i = 0; i < re->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		decide(re, re->refs[i], points + (Size) i * padded);
	}
	spf_fault_point_of("reassign", re->region.level, "entries moved");
	items = palloc(re->region.n * sizeof(SpfWorkItem));
	for (int p = 0; p < re->region.n; p++)
	{
		SpfPageRef	head = re->region.postings[p].route.posting;

		if (re->nsuperseded[p] == 0)
			continue;

		/* candidates came in order, so these are */
		supersede(re, head, re->superseded[p], re->nsuperseded[p], 0);
		spf_fault_point_of("reassign", re->region.level, "entries superseded");
		if (re->nsuperseded[p] >= re->region.postings[p].total * SWEEP_SHARE)
			items[nitems++] = spf_work_item(SPF_WORK_SWEEP, head);
	}
	if (nitems > 0)
		spf_work_note(re->index, NULL, items, nitems);
}

void
spf_reassign(SpfIndex *index, SpfPageRef head, SpfCounters *done)
{
	SpfReassign re = {.index = index,.done = done};
	int			range = spf_options(index->rel)->reassign_range;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "spfresh reassign",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SpfPlace	place;

	if (range > 0 && spf_place_of(index, head, &place))
	{
		spf_region_load(&re.region, index, place.level, place.centroid,
						KNOWN_FACTOR * range + 1);
		re.self = spf_region_find(&re.region, head);
		re.range = Min(range + 1, re.region.n);
		if (re.self >= 0 && re.self < re.range)
		{
			find_candidates(&re);
			move_candidates(&re);
		}
	}
	spf_fault_point("neighbours looked at");
	(void) spf_posting_edit(index, head, &(SpfPostingEdit) {.done = true});
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
