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

/* Postings as they are read: their live entries, before there is a table of all. */
typedef struct SpfRegionRefs
{
	int			n;
	SpfRecordRef *refs;
} SpfRegionRefs;

/* Add a posting by what its head says, if it is still there. */
static void
load_head(SpfRegion *region, const SpfRoute *route)
{
	SpfRegionPosting *posting = &region->postings[region->n];
	SpfPostingView view;

	if (!spf_posting_look(region->index, route->posting, &view) ||
		!spf_posting_is_live(&view) || view.level != region->level)
		return;
	posting->route = *route;
	posting->total = view.total;
	posting->changes = view.changes;
	posting->n = 0;
	region->n++;
}

/* Add a posting, if it is still there; its live entries go to `live`. */
static void
load_posting(SpfRegion *region, const SpfRoute *route, SpfRegionRefs *live)
{
	SpfRegionPosting *posting = &region->postings[region->n];
	SpfPostingEntries entries;

	if (!spf_posting_read(region->index, route->posting, &entries) ||
		entries.level != region->level)
		return;
	posting->route = *route;
	posting->total = entries.total;
	posting->changes = entries.changes;
	live->refs = entries.refs;
	live->n = 0;
	for (int i = 0; i < entries.n; i++)
	{
		if (!entries.superseded[i])
			live->refs[live->n++] = entries.refs[i];
	}
	posting->n = live->n;
	region->n++;
	pfree(entries.superseded);
}

/* Which they are, and to live[want] (NULL: they are not read) their entries. */
static void
load(SpfRegion *region, const float *x, int want, SpfRegionRefs *live)
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
		if (live != NULL)
			load_posting(region, &routes[i], &live[region->n]);
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
	load(region, x, want, NULL);
}

static uint32
hash_ref(SpfRecordRef ref)
{
	uint64		key = ((uint64) ref.block << 32) | ((uint32) ref.offset << 16) | ref.version;

	return (uint32) ((key * UINT64CONST(0x9E3779B97F4A7C15)) >> 32);
}

/* At most half of the places are taken, so looking ends. */
static void
make_table(SpfRegion *region, const SpfRegionRefs *live)
{
	Size		n = 1;
	uint32		mask;

	for (int p = 0; p < region->n; p++)
		n += live[p].n;
	for (region->nplaces = 64; region->nplaces < 2 * n;)
		region->nplaces *= 2;
	mask = region->nplaces - 1;
	region->entries = palloc_extended(region->nplaces * sizeof(SpfRegionEntry), MCXT_ALLOC_HUGE);
	for (uint32 e = 0; e < region->nplaces; e++)
		region->entries[e].ref.block = InvalidBlockNumber;
	for (int p = 0; p < region->n; p++)
	{
		for (int i = 0; i < live[p].n; i++)
		{
			uint32		e = hash_ref(live[p].refs[i]) & mask;

			while (BlockNumberIsValid(region->entries[e].ref.block))
				e = (e + 1) & mask;
			region->entries[e].ref = live[p].refs[i];
			region->entries[e].posting = p;
		}
		pfree(live[p].refs);
	}
}

void
spf_region_load(SpfRegion *region, SpfIndex *index, int level, const float *x, int want)
{
	SpfRegionRefs *live = palloc(want * sizeof(SpfRegionRefs));

	region->index = index;
	region->level = level;
	load(region, x, want, live);
	make_table(region, live);
	pfree(live);
}

int
spf_region_holders(const SpfRegion *region, SpfRecordRef ref, int *has)
{
	uint32		mask = region->nplaces - 1;
	int			n = 0;

	for (uint32 e = hash_ref(ref) & mask; BlockNumberIsValid(region->entries[e].ref.block);
		 e = (e + 1) & mask)
	{
		const SpfRegionEntry *entry = &region->entries[e];

		/* a posting may have two entries of a record, after a crash */
		if (n < SPF_REGION_HAS && spf_record_ref_cmp(&entry->ref, &ref) == 0 &&
			(n == 0 || has[n - 1] != entry->posting))
			has[n++] = entry->posting;
	}
	return n;
}

bool
spf_region_holds(const SpfRegion *region, int p, SpfRecordRef ref)
{
	int			has[SPF_REGION_HAS];
	int			n = spf_region_holders(region, ref, has);

	for (int i = 0; i < n; i++)
	{
		if (has[i] == p)
			return true;
	}
	return false;
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
	int			has[SPF_REGION_HAS];
	int			n = spf_region_holders(region, vector->ref, has);

	vector->nhas = vector->nnear = 0;
	for (int i = 0; i < n; i++)
	{
		if (has[i] != except)
			vector->has[vector->nhas++] = has[i];
	}
	for (int p = 0; p < region->n; p++)
	{
		if (p != except)
			note_near(vector, p, spf_kernels->l2sq(vector->x, region->postings[p].route.centroid,
												   region->index->padded));
	}
	for (int h = 0; h < vector->nhas; h++)
	{
		int			p = vector->has[h];

		if (is_near(vector, p))
			continue;
		vector->dist2[vector->nnear] = spf_kernels->l2sq(vector->x,
														 region->postings[p].route.centroid,
														 region->index->padded);
		vector->near[vector->nnear++] = p;
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
