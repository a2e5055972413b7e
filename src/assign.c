/*-------------------------------------------------------------------------
 *
 * assign.c
 *	  Which postings each of many vectors goes to, batch by batch.
 *
 * A batch reads each group of centroids once for all of its vectors, which
 * is up to three times as fast as looking up one vector after the other.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "assign.h"

#define BATCH			256

/* Centroids among which replicas are chosen */
#define CANDIDATES		16

struct SpfAssigner
{
	const SpfIndex *index;
	const SpfCentroids *centroids;
	Size		item_size;
	SpfAssigned assigned;
	void	   *state;
	int			beam;
	int			n;
	char	   *items;			/* [BATCH] */
	SpfCoded   *coded;			/* [BATCH] */
	float	   *x;				/* [padded] */
	void	   *scratch;
	int32_t	   *id;				/* [BATCH x CANDIDATES] */
	float	   *dist2;
	int32_t    *found;			/* [BATCH] */
};

SpfAssigner *
spf_assigner_begin(const SpfIndex *index, const SpfCentroids *centroids,
				   Size item_size, SpfAssigned assigned, void *state)
{
	SpfAssigner *assigner = palloc0(sizeof(SpfAssigner));

	assigner->index = index;
	assigner->centroids = centroids;
	assigner->item_size = MAXALIGN(item_size);
	assigner->assigned = assigned;
	assigner->state = state;
	assigner->items = palloc0(BATCH * assigner->item_size);
	assigner->coded = palloc(BATCH * sizeof(SpfCoded));
	assigner->x = palloc(index->padded * sizeof(float));
	if (centroids != NULL)
	{
		assigner->beam = spf_default_beam(centroids);
		assigner->scratch = palloc(spf_nearest_scratch(centroids, BATCH, assigner->beam));
		assigner->id = palloc(BATCH * CANDIDATES * sizeof(int32_t));
		assigner->dist2 = palloc(BATCH * CANDIDATES * sizeof(float));
		assigner->found = palloc(BATCH * sizeof(int32_t));
	}
	return assigner;
}

/*
 * Candidates were found by rounded centroids: put them in their true order.  There are few, in
 * nearly that order already.
 */
static void
measure(const SpfAssigner *assigner, const float *x, int32_t *id, float *dist2, int n)
{
	const SpfCentroids *centroids = assigner->centroids;

	for (int c = 0; c < n; c++)
	{
		int32_t		this = id[c];
		float		d = spf_kernels->l2sq(x, centroids->centroids + (Size) this * centroids->padded,
										  centroids->padded);
		int			at = c;

		for (; at > 0 && dist2[at - 1] > d; at--)
		{
			dist2[at] = dist2[at - 1];
			id[at] = id[at - 1];
		}
		dist2[at] = d;
		id[at] = this;
	}
}

static int
choose(SpfAssigner *assigner, int i, int32 *postings)
{
	const SpfCentroids *centroids = assigner->centroids;
	int32_t    *id = assigner->id + i * CANDIDATES;
	float	   *dist2 = assigner->dist2 + i * CANDIDATES;
	const float *candidates[CANDIDATES];
	int			chosen[CANDIDATES];
	int			padded = assigner->index->padded;
	int			n;

	for (int c = 0; c < assigner->found[i]; c++)
		__builtin_prefetch(centroids->centroids + (Size) id[c] * padded);
	spf_record_decode(assigner->coded[i].code, assigner->coded[i].scale, padded, assigner->x);
	measure(assigner, assigner->x, id, dist2, assigner->found[i]);
	for (int c = 0; c < assigner->found[i]; c++)
		candidates[c] = centroids->centroids + (Size) id[c] * padded;
	n = spf_choose_replicas(assigner->x, padded, candidates, dist2, assigner->found[i],
							assigner->index->replicas, chosen);
	for (int c = 0; c < n; c++)
		postings[c] = id[chosen[c]];
	return n;
}

static void
flush(SpfAssigner *assigner)
{
	CHECK_FOR_INTERRUPTS();
	if (assigner->centroids != NULL)
		spf_nearest(assigner->centroids, assigner->coded, assigner->n, CANDIDATES,
					assigner->beam, assigner->scratch, assigner->id, assigner->dist2,
					assigner->found);
	for (int i = 0; i < assigner->n; i++)
	{
		int32		postings[CANDIDATES] = {0};
		int			n = assigner->centroids ? choose(assigner, i, postings) : 1;

		assigner->assigned(assigner->state, assigner->items + i * assigner->item_size,
						   postings, n);
	}
	assigner->n = 0;
}

void *
spf_assigner_slot(SpfAssigner *assigner)
{
	return assigner->items + assigner->n * assigner->item_size;
}

void
spf_assigner_put(SpfAssigner *assigner, const int8_t *code, float scale)
{
	assigner->coded[assigner->n] = (SpfCoded) {code, scale};
	if (++assigner->n == BATCH)
		flush(assigner);
}

void
spf_assigner_end(SpfAssigner *assigner)
{
	flush(assigner);
	pfree(assigner->items);
	pfree(assigner->coded);
	pfree(assigner->x);
	if (assigner->centroids != NULL)
	{
		pfree(assigner->scratch);
		pfree(assigner->id);
		pfree(assigner->dist2);
		pfree(assigner->found);
	}
	pfree(assigner);
}
