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
	int			replicas;
	int			candidates;		/* looked up for each */
	float	   *x;				/* [padded] */
	float	   *centroid;		/* [padded] */
	void	   *scratch;
	int32_t	   *id;				/* [BATCH x candidates] */
	float	   *dist2;
	int32_t    *found;			/* [BATCH] */
};

SpfAssigner *
spf_assigner_begin(const SpfIndex *index, const SpfCentroids *centroids, int replicas,
				   Size item_size, SpfAssigned assigned, void *state)
{
	SpfAssigner *assigner = palloc0(sizeof(SpfAssigner));

	assigner->index = index;
	assigner->centroids = centroids;
	assigner->replicas = replicas;
	assigner->candidates = replicas > 0 ? CANDIDATES : 1;
	assigner->item_size = MAXALIGN(item_size);
	assigner->assigned = assigned;
	assigner->state = state;
	assigner->items = palloc0(BATCH * assigner->item_size);
	assigner->coded = palloc(BATCH * sizeof(SpfCoded));
	assigner->x = palloc(index->padded * sizeof(float));
	assigner->centroid = palloc(index->padded * sizeof(float));
	if (centroids != NULL)
	{
		assigner->beam = spf_default_beam(centroids);
		assigner->scratch = palloc(spf_nearest_scratch(centroids, BATCH, assigner->beam));
		assigner->id = palloc(BATCH * assigner->candidates * sizeof(int32_t));
		assigner->dist2 = palloc(BATCH * assigner->candidates * sizeof(float));
		assigner->found = palloc(BATCH * sizeof(int32_t));
	}
	return assigner;
}

/*
 * Candidates were found by rounded centroids: put them in their true order.  There are few, in
 * nearly that order already.
 */
static void
measure(const SpfCentroids *centroids, const float *x, int32_t *id, float *dist2, int n)
{
	int			padded = centroids->padded;

	for (int c = 0; c < n; c++)
	{
		int32_t		this = id[c];
		float		d = spf_kernels->l2sq_i8(x, centroids->codes + (Size) this * padded,
											 centroids->scales[this], padded);
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

/* The candidates of a vector, one of them decoded. */
typedef struct Candidates
{
	const SpfCentroids *centroids;
	const int32_t *id;
	int			decoded;		/* -1: none */
	float	   *floats;
} Candidates;

/* Mostly it is the nearest one that the others are compared with. */
static float
candidates_apart(void *state, int i, int k)
{
	Candidates *candidates = state;
	const SpfCentroids *centroids = candidates->centroids;
	int			padded = centroids->padded;
	int32_t		this = candidates->id[i];
	int32_t		other = candidates->id[k];

	if (candidates->decoded != i)
		spf_record_decode(centroids->codes + (Size) this * padded, centroids->scales[this],
						  padded, candidates->floats);
	candidates->decoded = i;
	return spf_kernels->l2sq_i8(candidates->floats, centroids->codes + (Size) other * padded,
								centroids->scales[other], padded);
}

static int
choose(SpfAssigner *assigner, int i, int32 *postings)
{
	const SpfCentroids *centroids = assigner->centroids;
	int32_t    *id = assigner->id + i * assigner->candidates;
	float	   *dist2 = assigner->dist2 + i * assigner->candidates;
	Candidates	candidates = {centroids, id, -1, assigner->centroid};
	int			chosen[CANDIDATES];
	int			padded = assigner->index->padded;
	int			n = assigner->found[i];

	if (assigner->replicas == 0)
	{
		postings[0] = id[0];
		return 1;
	}
	for (int c = 0; c < n; c++)
		__builtin_prefetch(centroids->codes + (Size) id[c] * padded);
	spf_record_decode(assigner->coded[i].code, assigner->coded[i].scale, padded, assigner->x);
	measure(centroids, assigner->x, id, dist2, n);
	n = spf_choose_replicas_by(dist2, n, assigner->replicas, chosen, candidates_apart,
							   &candidates);
	for (int c = 0; c < n; c++)
		postings[c] = id[chosen[c]];
	return n;
}

static void
flush(SpfAssigner *assigner)
{
	CHECK_FOR_INTERRUPTS();
	if (assigner->centroids != NULL)
		spf_nearest(assigner->centroids, assigner->coded, assigner->n, assigner->candidates,
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
	pfree(assigner->centroid);
	if (assigner->centroids != NULL)
	{
		pfree(assigner->scratch);
		pfree(assigner->id);
		pfree(assigner->dist2);
		pfree(assigner->found);
	}
	pfree(assigner);
}
