/*-------------------------------------------------------------------------
 *
 * region.c
 *	  A region: the postings of a level that are nearest to a point, and who is in them.
 *
 * See region.h.  One page at a time is locked, in share mode.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "meta.h"
#include "place.h"
#include "posting.h"
#include "region.h"

bool
spf_place_of(SpfIndex *index, SpfPageRef head, SpfPlace *place)
{
	SpfVector	vector;
	SpfPostingView view;
	SpfPageRef	child;
	bool		found;

	if (!spf_posting_look(index, head, &view) || !spf_posting_is_live(&view) ||
		!BlockNumberIsValid(view.centroid.block))
		return false;
	vector.code = palloc(index->padded);
	place->level = view.level;
	place->centroid = palloc(index->padded * sizeof(float));
	found = spf_record_fetch(index, view.centroid, view.level + 1, &vector, &child) &&
		SpfPageRefEquals(child, head);
	if (found)
		spf_record_decode(vector.code, vector.numbers.scale, index->padded, place->centroid);
	pfree(vector.code);
	return found;
}

/* A posting without its entries is added. */
static SpfRegionPosting *
add_posting(SpfRegion *region, const SpfRoute *route, uint32 total, uint32 changes)
{
	SpfRegionPosting *posting = &region->postings[region->n++];

	posting->route = *route;
	posting->total = total;
	posting->changes = changes;
	posting->n = 0;
	posting->refs = NULL;
	return posting;
}

/* Add a posting by what its head says, if it is still there. */
static void
load_head(SpfRegion *region, const SpfRoute *route)
{
	SpfPostingView view;

	if (spf_posting_look(region->index, route->posting, &view) &&
		spf_posting_is_live(&view) && view.level == region->level)
		(void) add_posting(region, route, view.total, view.changes);
}

/* Add a posting with its live entries, in order, if it is still there. */
static void
load_posting(SpfRegion *region, const SpfRoute *route)
{
	SpfRegionPosting *posting;
	SpfPostingEntries entries;

	if (!spf_posting_read(region->index, route->posting, &entries) ||
		entries.level != region->level)
		return;
	posting = add_posting(region, route, entries.total, entries.changes);
	posting->refs = entries.refs;
	for (int i = 0; i < entries.n; i++)
	{
		if (!entries.superseded[i])
			posting->refs[posting->n++] = entries.refs[i];
	}
	qsort(posting->refs, posting->n, sizeof(SpfRecordRef), spf_record_ref_cmp);
	pfree(entries.superseded);
}

static void
load(SpfRegion *region, const float *x, int want, bool entries)
{
	SpfIndex   *index = region->index;
	SpfMeta		meta;
	SpfRoute   *routes = palloc(want * sizeof(SpfRoute));
	int			n;

	region->n = 0;
	region->postings = palloc(want * sizeof(SpfRegionPosting));
	spf_meta_read(index->rel, &meta);
	if (region->level >= meta.root_level)
		return;
	n = spf_route_nearest(index, &meta, spf_index_placement_query(index, x), region->level, want,
						  routes);
	for (int i = 0; i < n; i++)
	{
		if (entries)
			load_posting(region, &routes[i]);
		else
			load_head(region, &routes[i]);
	}
	pfree(routes);
}

void
spf_region_find_heads(SpfRegion *region, SpfIndex *index, int level, const float *x, int want)
{
	region->index = index;
	region->level = level;
	load(region, x, want, false);
}

void
spf_region_load(SpfRegion *region, SpfIndex *index, int level, const float *x, int want)
{
	region->index = index;
	region->level = level;
	load(region, x, want, true);
}

bool
spf_region_holds(const SpfRegion *region, int p, SpfRecordRef ref)
{
	const SpfRegionPosting *posting = &region->postings[p];

	return bsearch(&ref, posting->refs, posting->n, sizeof(SpfRecordRef),
				   spf_record_ref_cmp) != NULL;
}

int
spf_region_find(const SpfRegion *region, SpfPageRef head)
{
	for (int p = 0; p < region->n; p++)
	{
		if (SpfPageRefEquals(region->postings[p].route.posting, head))
			return p;
	}
	return -1;
}

/* Keep the nearest in order. */
static void
note_near(SpfRegionVector *vector, int p, float d2)
{
	int			at;

	if (vector->nnear == SPF_PLACE_CANDIDATES && d2 >= vector->dist2[vector->nnear - 1])
		return;
	vector->nnear = Min(vector->nnear + 1, SPF_PLACE_CANDIDATES);
	for (at = vector->nnear - 1; at > 0 && vector->dist2[at - 1] > d2; at--)
	{
		vector->dist2[at] = vector->dist2[at - 1];
		vector->near[at] = vector->near[at - 1];
	}
	vector->dist2[at] = d2;
	vector->near[at] = p;
}

static bool
is_near(const SpfRegionVector *vector, int p)
{
	for (int i = 0; i < vector->nnear; i++)
	{
		if (vector->near[i] == p)
			return true;
	}
	return false;
}

void
spf_region_look(const SpfRegion *region, int except, SpfRegionVector *vector)
{
	int			padded = region->index->padded;
	float		has_dist2[SPF_REGION_HAS];

	vector->nhas = vector->nnear = 0;
	for (int p = 0; p < region->n; p++)
	{
		float		d2;

		if (p == except)
			continue;
		d2 = spf_kernels->l2sq(vector->x, region->postings[p].route.centroid, padded);
		note_near(vector, p, d2);
		if (vector->nhas < SPF_REGION_HAS && spf_region_holds(region, p, vector->ref))
		{
			has_dist2[vector->nhas] = d2;
			vector->has[vector->nhas++] = p;
		}
	}
	for (int h = 0; h < vector->nhas; h++)
	{
		if (is_near(vector, vector->has[h]))
			continue;
		vector->dist2[vector->nnear] = has_dist2[h];
		vector->near[vector->nnear++] = vector->has[h];
	}
}

int
spf_region_choose(const SpfRegion *region, const SpfRegionVector *vector, int want, int *chosen)
{
	const float *centroids[SPF_REGION_NEAR];
	int			n;

	for (int i = 0; i < vector->nnear; i++)
		centroids[i] = region->postings[vector->near[i]].route.centroid;
	n = spf_choose_replicas(region->index->padded, centroids, vector->dist2,
							vector->nnear, want, chosen);
	for (int i = 0; i < n; i++)
		chosen[i] = vector->near[chosen[i]];
	return n;
}
