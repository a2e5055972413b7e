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
	Buffer		buf = spf_page_follow(index->rel, head, SPF_PAGE_POSTING, BUFFER_LOCK_SHARE);
	SpfVector	vector = {.code = palloc(index->padded)};
	SpfPostingView view;
	SpfPageRef	child;
	bool		found;

	if (!BufferIsValid(buf))
		return false;
	spf_posting_view(index, buf, &view);
	UnlockReleaseBuffer(buf);
	if (!view.head || view.retired || !BlockNumberIsValid(view.centroid.block))
		return false;
	place->head = head;
	place->level = view.level;
	place->total = view.total;
	place->changes = view.changes;
	place->due = view.due;
	place->superseded_at = view.superseded_at;
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

/* Read a posting; false if it is gone. */
static bool
load_posting(SpfRegion *region, const SpfRoute *route, SpfRegionRefs *live)
{
	SpfRegionPosting *posting = &region->postings[region->n];
	SpfPostingEntries entries;

	if (!spf_posting_read(region->index, route->posting, &entries) ||
		entries.level != region->level)
		return false;
	posting->route = *route;
	posting->total = entries.total;
	posting->changes = entries.changes;
	posting->split_at = region->index->split_limit;
	live->refs = entries.refs;
	live->n = 0;
	for (int i = 0; i < entries.n; i++)
	{
		if (!entries.superseded[i])
			live->refs[live->n++] = entries.refs[i];
	}
	posting->n = live->n;
	pfree(entries.superseded);
	return true;
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
	SpfMeta		meta;
	SpfRoute   *routes = palloc(want * sizeof(SpfRoute));
	SpfRegionRefs *live = palloc(want * sizeof(SpfRegionRefs));
	int			n = 0;

	region->index = index;
	region->level = level;
	region->n = 0;
	region->postings = palloc(want * sizeof(SpfRegionPosting));
	spf_meta_read(index->rel, &meta);
	if (level < meta.root_level)
		n = spf_route_nearest(index, &meta, spf_index_placement_query(index, x), level, want,
							  routes);
	for (int i = 0; i < n; i++)
		region->n += load_posting(region, &routes[i], &live[region->n]);
	make_table(region, live);
	pfree(live);
	pfree(routes);
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
	n = spf_choose_replicas(vector->x, region->index->padded, centroids, vector->dist2,
							vector->nnear, want, chosen);
	for (int i = 0; i < n; i++)
		chosen[i] = vector->near[chosen[i]];
	return n;
}
