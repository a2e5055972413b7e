/*-------------------------------------------------------------------------
 *
 * recluster.c
 *	  A region that changed much is clustered anew.
 *
 * What LIRE leaves: every vector is in its nearest posting, but the centroids are means of what
 * their postings were when they were made.  Here a posting and its nearest neighbours are
 * clustered together (balanced k-means that starts from their centroids), written as new
 * postings, and retired (regroup.c).
 *
 * When it stops: a region is looked at only when as many entries came and went as
 * SPF_RECLUSTER_SHARE of those it has, and counts from zero afterwards, whether it was worth it
 * or not.  So it writes at most 1 / SPF_RECLUSTER_SHARE times as many entries as come and go,
 * and nothing when nothing changes.  Worth it is fewer postings, or vectors nearer to their
 * centroids by GAIN.
 *
 * Locks: the rebalancing lock, by the caller; those of regroup.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "place.h"
#include "points.h"
#include "recluster.h"
#include "region.h"
#include "regroup.h"
#include "split.h"
#include "work.h"

#define RECLUSTER_POSTINGS	9
#define GAIN				0.01

/* Postings around that are known by their centroids: whose vectors are those of the region? */
#define AROUND				48

typedef struct SpfRecluster
{
	SpfRegroup	regroup;
	SpfRegion	region;

	/* centroids of the region, then of those around it */
	int			ncentroids;
	float	   *centroids;		/* [ncentroids x padded] */

	/* of each member: the nearest of these, and how far */
	int		   *nearest;
	float	   *dist2;
} SpfRecluster;

static void
load_around(SpfRecluster *re, const float *center)
{
	SpfIndex   *index = re->regroup.index;
	SpfRoute	routes[AROUND];
	SpfMeta		meta;
	int			n;

	spf_meta_read(index->rel, &meta);
	n = spf_route_nearest(index, &meta, spf_index_placement_query(index, center),
						  re->regroup.level, AROUND, routes);
	re->centroids = palloc((Size) (re->regroup.nolds + n) * index->padded * sizeof(float));
	for (int o = 0; o < re->regroup.nolds; o++)
		memcpy(re->centroids + (Size) re->ncentroids++ * index->padded,
			   re->regroup.olds[o].centroid, index->padded * sizeof(float));
	for (int i = 0; i < n; i++)
	{
		if (spf_region_find(&re->region, routes[i].posting) < 0)
			memcpy(re->centroids + (Size) re->ncentroids++ * index->padded,
				   routes[i].centroid, index->padded * sizeof(float));
	}
}

/* Whose nearest posting is of the region: fills points[] with these, returns how many. */
static int
find_primaries(SpfRecluster *re, float *points)
{
	const SpfRegroup *regroup = &re->regroup;
	int			padded = regroup->index->padded;
	int			n = 0;

	re->nearest = palloc(Max(regroup->n, 1) * sizeof(int));
	re->dist2 = palloc(Max(regroup->n, 1) * sizeof(float));
	for (int i = 0; i < regroup->n; i++)
	{
		const float *x = regroup->points + (Size) i * padded;

		CHECK_FOR_INTERRUPTS();
		re->nearest[i] = spf_nearest_of(x, re->centroids, re->ncentroids, padded, &re->dist2[i]);
		if (re->nearest[i] < regroup->nolds)
			memcpy(points + (Size) n++ * padded, x, padded * sizeof(float));
	}
	return n;
}

/* Choose the parts by k-means of the primaries; returns whether they are better than what is there. */
static bool
cluster(SpfRecluster *re, int k)
{
	SpfRegroup *regroup = &re->regroup;
	SpfKmeansOptions options = {.rounds = 12,.min_share = 0.4,.max_share = 1.6};
	int			padded = regroup->index->padded;
	float	   *points = palloc_extended(Max((Size) regroup->n, 1) * padded * sizeof(float),
										 MCXT_ALLOC_HUGE);
	int			n = find_primaries(re, points);
	int32	   *assign = palloc(Max(n, 1) * sizeof(int32));
	double		before = 0;
	double		after = 0;

	if (n < k)
		return false;
	regroup->k = k;
	regroup->centroids = palloc((Size) k * padded * sizeof(float));
	options.seed = regroup->olds[0].head.block;
	options.warm = k == regroup->nolds;
	if (options.warm)
		memcpy(regroup->centroids, re->centroids, (Size) k * padded * sizeof(float));
	if (spf_kmeans(points, n, padded, k, &options, &spf_host, regroup->centroids, assign) < k)
		return false;
	for (int i = 0; i < n; i++)
	{
		const float *x = points + (Size) i * padded;
		float		dist2;

		spf_nearest_of(x, re->centroids, regroup->nolds, padded, &dist2);
		before += dist2;
		spf_nearest_of(x, regroup->centroids, k, padded, &dist2);
		after += dist2;
	}
	pfree(points);
	pfree(assign);
	return k < regroup->nolds || after < before * (1 - GAIN);
}

/*
 * Place a member into as many parts as it has entries in the old postings.  One whose nearest posting is not of the
 * region is there already: what comes here is a further replica.
 */
static void
place_member(SpfRecluster *re, int i, int *filled)
{
	SpfRegroup *regroup = &re->regroup;
	int			padded = regroup->index->padded;
	const float *x = regroup->points + (Size) i * padded;
	bool		outside = re->nearest[i] >= regroup->nolds;
	int			want = Min(Max(regroup->members[i].copies, 1), Min(regroup->width, regroup->k));
	const float *cand[RECLUSTER_POSTINGS * 2 + 1];
	float		dist2[RECLUSTER_POSTINGS * 2 + 1];
	int			part[RECLUSTER_POSTINGS * 2 + 1];
	int			chosen[SPF_PLACE_CANDIDATES];
	int			n = 0;
	int			placed = 0;

	for (int j = 0; j < regroup->k; j++)
	{
		if (filled[j] >= regroup->index->split_limit)
			continue;
		cand[n] = regroup->centroids + (Size) j * padded;
		dist2[n] = spf_kernels->l2sq(x, cand[n], padded);
		outside &= dist2[n] > re->dist2[i];
		part[n++] = j;
	}
	if (n == 0)
		elog(ERROR, "the parts of a region of index \"%s\" are too few",
			 RelationGetRelationName(regroup->index->rel));
	if (outside)
	{
		cand[n] = re->centroids + (Size) re->nearest[i] * padded;
		dist2[n] = re->dist2[i];
		part[n++] = -1;
	}
	n = spf_choose_replicas(padded, cand, dist2, n, Min(want + outside, n), chosen);
	for (int c = 0; c < n && placed < want; c++)
	{
		if (part[chosen[c]] < 0)
			continue;
		filled[part[chosen[c]]]++;
		regroup->assign[i * regroup->width + placed++] = part[chosen[c]];
	}
	while (placed < regroup->width)
		regroup->assign[i * regroup->width + placed++] = -1;
}

static void
place_members(SpfRecluster *re)
{
	SpfRegroup *regroup = &re->regroup;
	int			filled[RECLUSTER_POSTINGS * 2] = {0};

	regroup->width = regroup->index->replicas;
	regroup->assign = palloc(Max(regroup->n, 1) * regroup->width * sizeof(int32));
	for (int i = 0; i < regroup->n; i++)
		place_member(re, i, filled);
}

/* The region counts its changes from zero. */
static void
settle(SpfIndex *index, const SpfRegion *region)
{
	for (int p = 0; p < region->n; p++)
		(void) spf_posting_edit(index, region->postings[p].route.posting,
								&(SpfPostingEdit) {.settled = true});
}

static SpfOutcome
recluster_locked(SpfRecluster *re, const float *center, SpfCounters *done)
{
	SpfRegroup *regroup = &re->regroup;
	SpfIndex   *index = regroup->index;
	double		entries = 0;
	int			k;

	for (int i = 0; i < regroup->n; i++)
		entries += Max(regroup->members[i].copies, 1);
	k = (int) rint(entries / (index->split_limit * SPF_PLANNED_SHARE));

	/* full of what was superseded and cannot go yet, or of equal vectors: there is no room for all in so few parts */
	if (k > RECLUSTER_POSTINGS * 2)
		return SPF_NOTHING;
	k = Min(Max(k, 1), regroup->n);
	load_around(re, center);
	if (k < 1 || !cluster(re, k))
	{
		settle(index, &re->region);
		return SPF_NOTHING;
	}
	regroup->purpose = "recluster";
	regroup->settled = regroup->due = true;

	/* centroids are what records decode to before anybody is placed by them */
	spf_regroup_encode(regroup);
	place_members(re);
	if (!spf_regroup_carry_out(regroup, done))
		return SPF_LATER;
	done->reclusters++;
	done->reclustered += entries;
	spf_regroup_note(regroup, NULL);
	return SPF_DONE;
}

SpfOutcome
spf_recluster(SpfIndex *index, SpfPageRef head, SpfCounters *done)
{
	SpfRecluster re = {0};
	SpfRegion  *region = &re.region;
	SpfPlace	place;
	SpfPageRef	heads[RECLUSTER_POSTINGS];
	SpfOutcome	outcome;
	double		changes = 0;
	double		total = 0;

	if (!spf_place_of(index, head, &place))
		return SPF_NOTHING;
	spf_region_find_heads(region, index, place.level, place.centroid, RECLUSTER_POSTINGS);
	for (int p = 0; p < region->n; p++)
	{
		heads[p] = region->postings[p].route.posting;
		changes += region->postings[p].changes;
		total += region->postings[p].total;
	}
	if (region->n < 2 || changes < total * SPF_RECLUSTER_SHARE)
		return SPF_NOTHING;
	if (!spf_regroup_begin(&re.regroup, index, heads, region->n, false))
		return SPF_LATER;
	outcome = recluster_locked(&re, place.centroid, done);
	spf_regroup_end(&re.regroup);
	return outcome;
}
