/*-------------------------------------------------------------------------
 *
 * split.c
 *	  Splitting a posting, at any level, the root included.
 *
 * SPFresh (SOSP 2023), section 4.2: balanced k-means of the members, each cluster a posting of its
 * own.  How that is carried out, regroup.c says; here is decided whether, and into what.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "meta.h"
#include "place.h"
#include "points.h"
#include "reclaim.h"
#include "regroup.h"
#include "split.h"

/* Is it worth another level, or more postings?  If not, the posting grows on for a while. */
static bool
put_off(SpfRegroup *regroup)
{
	SpfIndex   *index = regroup->index;
	uint32		total = regroup->olds[0].entries.total;
	uint32		limit = index->split_limit;

	/* it is full of what was superseded and cannot go yet: neither splitting nor rewriting helps */
	if (regroup->nlive < regroup->n &&
		regroup->nlive <= limit * (regroup->is_root ? SPF_ROOT_SHARE : 1))
	{
		spf_regroup_postpone(regroup, total + limit / 4);
		return true;
	}
	if (!regroup->is_root)
		return false;

	/* a root may grow somewhat larger before it gets another level above it, or is rewritten */
	if (total <= limit * SPF_ROOT_SHARE && regroup->nlive > limit * SPF_REWRITE_SHARE)
	{
		spf_regroup_postpone(regroup, limit * SPF_ROOT_SHARE);
		return true;
	}

	/* where each level has hardly fewer postings than the one below, more of them are no use */
	if (regroup->level + 1 >= SPF_MAX_LEVELS)
	{
		spf_regroup_postpone(regroup, Max(total, limit) * 2);
		return true;
	}
	return false;
}

/* How many parts there should be. */
static int
count_parts(const SpfRegroup *regroup)
{
	int			limit = regroup->index->split_limit;
	int			k = 1;

	if (regroup->nlive > limit * SPF_REWRITE_SHARE * (regroup->is_root ? SPF_ROOT_SHARE : 1))
		k = Max(2, (int) (regroup->nlive / (limit * SPF_PLANNED_SHARE)));
	return Max(1, Min(k, Min(regroup->n, SPF_MAX_FORWARDS)));
}

/* Neighbours among which it is seen whose nearest posting the one to be split is */
#define NEIGHBORS		24

/* Smallest part, as a share of the mean, that comes of clustering primaries */
#define LEAST_PART		0.6

/* Copies the members whose nearest posting is this one to points[]; returns how many. */
static int
find_primaries(SpfRegroup *regroup, float *points)
{
	SpfIndex   *index = regroup->index;
	int			padded = index->padded;
	SpfRoute	routes[NEIGHBORS];
	SpfMeta		meta;
	float	   *centroids = palloc((Size) (NEIGHBORS + 1) * padded * sizeof(float));
	int			ncentroids = 1;
	int			n;
	int			primaries = 0;

	spf_meta_read(index->rel, &meta);
	memcpy(centroids, regroup->olds[0].centroid, padded * sizeof(float));
	n = spf_route_nearest(index, &meta, spf_index_placement_query(index, centroids),
						  regroup->level, NEIGHBORS, routes);
	for (int i = 0; i < n; i++)
	{
		if (!SpfPageRefEquals(routes[i].posting, regroup->olds[0].head) && routes[i].centroid)
			memcpy(centroids + (Size) ncentroids++ * padded, routes[i].centroid,
				   padded * sizeof(float));
	}
	for (int i = 0; i < regroup->n; i++)
	{
		const float *x = regroup->points + (Size) i * padded;
		float		dist2;

		if (spf_nearest_of(x, centroids, ncentroids, padded, &dist2) == 0)
			memcpy(points + (Size) primaries++ * padded, x, padded * sizeof(float));
	}
	pfree(centroids);
	return primaries;
}

/*
 * Cluster the members whose nearest posting this is; the others are replicas, and come along to
 * the nearest part: they would only draw the parts' centroids outwards.  False if the parts came out too
 * uneven.
 */
static bool
cluster_primaries(SpfRegroup *regroup, const SpfKmeansOptions *options)
{
	int			padded = regroup->index->padded;
	int			k = regroup->k;
	float	   *points = palloc_extended((Size) regroup->n * padded * sizeof(float),
										 MCXT_ALLOC_HUGE);
	int32	   *assign = palloc(regroup->n * sizeof(int32));
	int		   *sizes = palloc0(k * sizeof(int));
	int			n = find_primaries(regroup, points);
	bool		even = true;

	if (n < 2 * k || spf_kmeans(points, n, padded, k, options, &spf_host, regroup->centroids,
								assign) < k)
		return false;
	for (int i = 0; i < regroup->n; i++)
	{
		float		dist2;

		regroup->assign[i] = spf_nearest_of(regroup->points + (Size) i * padded,
											regroup->centroids, k, padded, &dist2);
		sizes[regroup->assign[i]]++;
	}
	for (int j = 0; j < k; j++)
		even &= sizes[j] >= LEAST_PART * regroup->n / k;
	pfree(points);
	pfree(assign);
	return even;
}

/* Choose the parts.  Returns false if the members cannot be told apart. */
static bool
choose_parts(SpfRegroup *regroup)
{
	SpfKmeansOptions options = {.rounds = 12,.min_share = 0.66,.max_share = 1.34};
	int			padded = regroup->index->padded;

	regroup->k = count_parts(regroup);
	regroup->width = 1;
	regroup->assign = palloc0(Max(regroup->n, 1) * sizeof(int32));
	regroup->centroids = palloc((Size) regroup->k * padded * sizeof(float));
	regroup->keep_centroid = regroup->k == 1;
	regroup->purpose = regroup->k == 1 ? "rewrite" : regroup->is_root ? "root split" : "split";

	/* the parts of a root are all there is */
	regroup->due = !regroup->is_root;
	if (regroup->k == 1)
		return true;
	options.seed = regroup->olds[0].head.block;
	if (!regroup->is_root && cluster_primaries(regroup, &options))
		return true;
	return spf_kmeans(regroup->points, regroup->n, padded, regroup->k, &options, &spf_host,
					  regroup->centroids, regroup->assign) == regroup->k;
}

static bool
split_locked(SpfRegroup *regroup)
{
	SpfCounters delta = {0};

	if (put_off(regroup))
		return false;

	/* what is all equal would be tried in vain at every insertion */
	if (!choose_parts(regroup))
	{
		spf_regroup_postpone(regroup, Max(regroup->olds[0].entries.total,
										  (uint32) regroup->index->split_limit) * 2);
		return false;
	}

	/* the parts can have the pages of what was split before */
	if (!regroup->index->building)
		spf_reclaim_some(regroup->index);
	if (!spf_regroup_carry_out(regroup, &delta))
		return false;
	delta.splits = regroup->k > 1;
	spf_regroup_note(regroup, &delta);
	return true;
}

bool
spf_split(SpfIndex *index, SpfPageRef head, bool wait)
{
	SpfRegroup	regroup;
	bool		done;

	if (!spf_regroup_begin(&regroup, index, &head, 1, wait))
		return false;
	done = split_locked(&regroup);
	spf_regroup_end(&regroup);
	return done;
}
