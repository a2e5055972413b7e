/*-------------------------------------------------------------------------
 *
 * place.c
 *	  Putting a vector's entries into the postings it belongs to, at any level.
 *
 * No lock is held between routing and appending: a posting that was split in
 * between says so (SPF_APPEND_GONE), and the entry is routed anew.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "fault.h"
#include "place.h"
#include "posting.h"
#include "split.h"

/* Rounds of routing anew before something must be wrong. */
#define MAX_REROUTES	1000

/*
 * Who finds a posting overdue waits for whoever is at it: rows must not come faster than their postings
 * are split.  Above level 0 locks are held already, and waiting is not for those.
 */
static bool
split(SpfIndex *index, int level, SpfPageRef posting, SpfPostingDue due)
{
	return spf_split(index, posting, due == SPF_OVERDUE && level == 0);
}

bool
spf_append_entry(SpfIndex *index, int level, const float *x, SpfRecordRef ref,
				 const SpfRoute *route, SpfAppendFor why)
{
	uint8_t    *code = palloc(index->padded);
	SpfEntry	entry = {.ref = ref,.moved = why != SPF_FOR_INSERTION,.code = code};
	bool		may_split = why != SPF_FOR_REGROUPING;
	SpfAppendResult result;
	SpfPostingDue due;

	spf_entry_encode(&index->shape, x, route->centroid, code, &entry.numbers);
	for (;;)
	{
		result = spf_posting_append(index, route->posting, level, &entry, &due);
		if (result != SPF_APPEND_FULL)
			break;
		CHECK_FOR_INTERRUPTS();
		if (may_split && due != SPF_NOT_DUE && split(index, level, route->posting, due))
		{
			result = SPF_APPEND_GONE;
			break;
		}
		spf_posting_push_down(index, route->posting);
	}
	if (result == SPF_APPENDED && may_split && due != SPF_NOT_DUE)
		split(index, level, route->posting, due);
	pfree(code);
	return result == SPF_APPENDED;
}

/* The nearest posting that has no entry of this vector yet. */
static bool
append_anew(SpfIndex *index, int level, const float *x, SpfRecordRef ref,
			const SpfPageRef *taken, int ntaken, SpfPageRef *posting)
{
	SpfQuery   *query = spf_index_placement_query(index, x);

	for (int tries = 0; tries < MAX_REROUTES; tries++)
	{
		SpfRoute	routes[SPF_PLACE_CANDIDATES];
		SpfMeta		meta;
		int			n;

		CHECK_FOR_INTERRUPTS();
		spf_meta_read(index->rel, &meta);
		n = spf_route_nearest(index, &meta, query, level, ntaken + 2, routes);
		for (int i = 0; i < n; i++)
		{
			bool		used = false;

			for (int t = 0; t < ntaken; t++)
				used |= SpfPageRefEquals(routes[i].posting, taken[t]);
			if (used)
				continue;
			if (spf_append_entry(index, level, x, ref, &routes[i], SPF_FOR_INSERTION))
			{
				*posting = routes[i].posting;
				return true;
			}
		}

		/*
		 * Fewer postings than replicas?  There is always one: where it was split before
		 * its centroid was read, the next try finds its successors.
		 */
		if (ntaken > 0 && n <= ntaken)
			return false;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" has no posting for a new vector",
					RelationGetRelationName(index->rel)),
			 errhint("Please REINDEX it.")));
}

void
spf_place(SpfIndex *index, int level, const float *x, SpfRecordRef ref,
		  const SpfRoute *routes, int nroutes)
{
	const float *centroids[SPF_PLACE_CANDIDATES];
	float		dist2[SPF_PLACE_CANDIDATES];
	int			chosen[SPF_PLACE_CANDIDATES] = {0};
	SpfPageRef	taken[SPF_PLACE_CANDIDATES];
	int			nchosen = nroutes;

	Assert(nroutes <= SPF_PLACE_CANDIDATES);
	for (int i = 0; i < nroutes; i++)
	{
		centroids[i] = routes[i].centroid;
		dist2[i] = routes[i].score;
	}
	if (nroutes == 0)
		append_anew(index, level, x, ref, NULL, 0, &taken[0]);
	else if (nroutes > 1)
		nchosen = spf_choose_replicas(index->padded, centroids, dist2, nroutes,
									  index->replicas, chosen);

	for (int i = 0; i < nchosen; i++)
	{
		taken[i] = routes[chosen[i]].posting;
		if (!spf_append_entry(index, level, x, ref, &routes[chosen[i]], SPF_FOR_INSERTION) &&
			!append_anew(index, level, x, ref, taken, i, &taken[i]))
			break;
		spf_fault_point_of("insert", level, "entry placed");
	}
}

SpfPageRef
spf_place_besides(SpfIndex *index, int level, const float *x, SpfRecordRef ref,
				  SpfPageRef taken)
{
	SpfPageRef	posting;

	if (!append_anew(index, level, x, ref, &taken, 1, &posting))
		elog(ERROR, "index \"%s\" has no other posting for a vector",
			 RelationGetRelationName(index->rel));
	return posting;
}

void
spf_place_centroid(SpfIndex *index, int level, const SpfVector *vector, SpfRecordRef ref)
{
	float	   *x = palloc(index->padded * sizeof(float));
	SpfRoute	routes[SPF_PLACE_CANDIDATES];
	SpfQuery   *query;
	SpfMeta		meta;
	int			n;

	spf_record_decode(vector->code, vector->numbers.scale, index->padded, x);
	query = spf_index_placement_query(index, x);
	spf_meta_read(index->rel, &meta);
	n = spf_route_nearest(index, &meta, query, level, SPF_PLACE_CANDIDATES, routes);
	spf_place(index, level, x, ref, routes, n);
}

void
spf_unplace_centroid(SpfIndex *index, int level, const float *x, SpfRecordRef ref)
{
	SpfRoute	routes[SPF_PLACE_CANDIDATES];
	SpfMeta		meta;
	int			found = 0;
	int			n;

	spf_meta_read(index->rel, &meta);
	n = spf_route_nearest(index, &meta, spf_index_placement_query(index, x), level,
						  SPF_PLACE_CANDIDATES, routes);
	for (int i = 0; i < n && found < index->replicas; i++)
	{
		if (!spf_try_lock_block(index->rel, routes[i].posting.block, ExclusiveLock))
			continue;
		found += spf_posting_supersede(index, routes[i].posting, &ref, 1);
		spf_unlock_block(index->rel, routes[i].posting.block, ExclusiveLock);
	}
}
