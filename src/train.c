/*-------------------------------------------------------------------------
 *
 * train.c
 *	  Training many centroids.
 *
 * Flat k-means of n points in k clusters compares each point with each
 * centroid in each round.  Here the points are first parted into about
 * sqrt(k) groups, then each group is clustered by itself.  What this loses,
 * at the borders of the groups, the polish rounds bring back: there each point
 * looks into the nearest few groups for the nearest of all centroids.  After
 * each round the centroids themselves are grouped anew (they are few), so that
 * a group remains what it is for: a neighbourhood, of about the same size
 * everywhere.
 *
 * Whatever is much work is cut into items, which whoever takes part claims one after
 * the other; the leader does the rest, between these steps.  What comes out of an
 * item depends on nothing but the item.
 *
 *-------------------------------------------------------------------------
 */
#include "kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "code.h"
#include "kernels/kernels.h"

/* Decoded points, with what clustering them takes beside, have at most so many bytes. */
#define BUFFER_BYTES	((size_t) 32 << 20)
#define BESIDE_BYTES	40

/* Groups are found on a sample of so many points each, in so many rounds. */
#define GROUP_SAMPLE	96
#define GROUP_ROUNDS	8

/* A group is clustered on at most so many points a cluster. */
#define CLUSTER_SAMPLE	1024

/* Rounds within a group, and of the grouping of the centroids. */
#define CLUSTER_ROUNDS	6
#define REGROUP_ROUNDS	4

/*
 * Seeds are drawn from so many points a cluster: drawing them from all takes longer than all rounds
 * together, for they are measured by floats, and gives nothing better.
 */
#define SEED_POINTS		12

/* Points that are looked up together. */
#define BATCH			256

/* Points, and labels, that make an item of a step. */
#define ITEM_POINTS		1024
#define ITEM_LABELS		16

/* For the progress: the share of the work in parting the points into groups. */
#define GROUPS_SHARE	0.05

/* After a polish round, clusters outside of these shares of the mean go. */
#define TOO_SMALL		0.33
#define TOO_LARGE		1.6

enum
{
	STEP_PART,					/* label the points by group */
	STEP_CLUSTER,				/* cluster each group */
	STEP_LABEL,					/* label the points by centroid */
	STEP_MEANS					/* new centroids from the labels */
};

/* What all who take part have in common, at the front of `work`. */
typedef struct Common
{
	int			padded;
	int			n;
	int			want;
	int			most_groups;
	uint64_t	random;			/* of the step: an item's chance comes from it and its number */
	int			next;			/* item to be claimed */
	int			nlabels;
	int64_t		passed;			/* points done in this step */
} Common;

struct SpfTrain
{
	Common	   *common;
	const SpfPoints *points;
	const SpfKmeansHost *host;
	int			padded;
	int			n;
	void	   *result_memory;

	/* in `work` */
	int32_t    *label;			/* [n]: a point's group or centroid */
	int32_t    *order;			/* [n]: the points, by label */
	int32_t    *start;			/* [want + 1]: where in order[] a label begins */
	int32_t    *slot;			/* [want + 1]: where its centroids go in fresh[] */
	int32_t    *got;			/* [want]: and how many came */
	int32_t    *queue;			/* [want]: the order in which groups are clustered */
	float	   *fresh;			/* [want x padded]: the centroids in the making */

	/* one's own */
	SpfCentroids result;
	float	   *buffer;			/* [room x padded], within buffer_chunk */
	void	   *buffer_chunk;
	int32_t    *assign;			/* [room]: spf_kmeans' answer */
	int			room;

	/* the leader's */
	int			nfresh;
	double		done;			/* progress made, and told */
	double		step_share;
};

/* ---- what lies where ---- */

size_t
spf_train_space(int padded, int n, int want)
{
	return spf_cache_aligned(sizeof(Common)) + 2 * spf_cache_aligned((size_t) n * sizeof(int32_t)) +
		4 * spf_cache_aligned(((size_t) want + 1) * sizeof(int32_t)) +
		(size_t) want * padded * sizeof(float);
}

void
spf_train_init(void *work, void *result, int padded, int n, int want, uint64_t seed)
{
	if (n > 0 && want > n)
		want = n;
	*(Common *) work = (Common) {
		.padded = padded, .n = n, .want = want, .most_groups = spf_groups_for(want), .random = seed
	};
	spf_centroids_init(result, padded, want, spf_groups_for(want));
}

static void
map_work(SpfTrain *train, void *work)
{
	size_t		n = (size_t) train->common->n;
	size_t		want = (size_t) train->common->want;
	char	   *at = (char *) work + spf_cache_aligned(sizeof(Common));

	train->label = (int32_t *) at;
	at += spf_cache_aligned(n * sizeof(int32_t));
	train->order = (int32_t *) at;
	at += spf_cache_aligned(n * sizeof(int32_t));
	train->start = (int32_t *) at;
	at += spf_cache_aligned((want + 1) * sizeof(int32_t));
	train->slot = (int32_t *) at;
	at += spf_cache_aligned((want + 1) * sizeof(int32_t));
	train->got = (int32_t *) at;
	at += spf_cache_aligned((want + 1) * sizeof(int32_t));
	train->queue = (int32_t *) at;
	at += spf_cache_aligned((want + 1) * sizeof(int32_t));
	train->fresh = (float *) at;
}

SpfTrain *
spf_train_open(void *work, void *result, const SpfPoints *points, const SpfKmeansHost *host)
{
	SpfTrain   *train = host->alloc(sizeof(SpfTrain));
	size_t		row;
	size_t		room;

	memset(train, 0, sizeof(SpfTrain));
	train->common = work;
	train->points = points;
	train->host = host;
	train->n = train->common->n;
	train->padded = train->common->padded;
	train->result_memory = result;
	map_work(train, work);
	row = (size_t) train->padded * sizeof(float);
	room = BUFFER_BYTES / (row + (size_t) train->padded + BESIDE_BYTES);
	train->room = (int) (room < (size_t) train->n ? room : (size_t) train->n);
	train->room = train->room > BATCH ? train->room : BATCH;
	train->buffer_chunk = host->alloc((size_t) train->room * row + SPF_CACHE_LINE);
	train->buffer = (float *) spf_cache_aligned((uintptr_t) train->buffer_chunk);
	train->assign = host->alloc((size_t) (train->room > train->common->want ?
										  train->room : train->common->want) * sizeof(int32_t));
	return train;
}

void
spf_train_close(SpfTrain *train)
{
	const SpfKmeansHost *host = train->host;

	host->release(train->assign);
	host->release(train->buffer_chunk);
	host->release(train);
}

/* ---- points and labels ---- */

static uint64_t
item_random(const SpfTrain *train, int item)
{
	uint64_t	random = train->common->random + (uint64_t) item * UINT64_C(0xd1342543de82ef95);

	return spf_kmeans_random(&random);
}

static void
decode(const SpfTrain *train, int point, float *out)
{
	const SpfPoints *points = train->points;

	spf_record_decode(points->codes + (size_t) point * points->padded,
					  points->scales[point], points->padded, out);
}

/*
 * Decode into the buffer the `count` points at from[] (NULL: point 0 and on),
 * or evenly drawn ones of them if there are more than `most`.  Returns how many.
 */
static int
load(SpfTrain *train, const int32_t *from, int count, int most, uint64_t *random)
{
	int			take = count < most ? count : most;

	for (int i = 0; i < take; i++)
	{
		int			at = i;

		if ((i & 63) == 0)
			train->host->interrupt();
		if (take < count)
		{
			/* one from each of `take` equal stretches */
			int64_t		low = (int64_t) i * count / take;
			int64_t		high = ((int64_t) i + 1) * count / take;

			at = (int) (low + (int64_t) (spf_kmeans_random(random) % (uint64_t) (high - low)));
		}
		decode(train, from ? from[at] : at, train->buffer + (size_t) i * train->padded);
	}
	return take;
}

/* ---- steps: everyone ---- */

/* The next item of this step, -1 if there is none. */
static int
claim(SpfTrain *train, int items)
{
	int			item = __atomic_fetch_add(&train->common->next, 1, __ATOMIC_RELAXED);

	return item < items ? item : -1;
}

/* So many points have been dealt with; the leader tells how far it all is. */
static void
advance(SpfTrain *train, int points)
{
	int64_t		passed = __atomic_add_fetch(&train->common->passed, points, __ATOMIC_RELAXED);
	double		done = train->done + train->step_share * (double) passed / train->n;

	if (train->step_share > 0 && train->host->progress)
		train->host->progress(done < 1 ? done : 1);
}

/* Label the points at from .. to of the order (by_label) or as they come. */
static void
label_range(SpfTrain *train, const SpfCentroids *centroids, bool by_label, int from, int to,
			int beam, void *scratch)
{
	const SpfPoints *points = train->points;
	int32_t		at[BATCH],
				id[BATCH],
				found[BATCH];
	float		dist2[BATCH];
	SpfCoded	x[BATCH];

	for (int i = from; i < to; i += BATCH)
	{
		int			m = to - i < BATCH ? to - i : BATCH;

		train->host->interrupt();
		for (int b = 0; b < m; b++)
		{
			at[b] = by_label ? train->order[i + b] : i + b;
			x[b].code = points->codes + (size_t) at[b] * points->padded;
			x[b].scale = points->scales[at[b]];
		}
		spf_nearest(centroids, x, m, 1, beam, scratch, id, dist2, found);
		for (int b = 0; b < m; b++)
			train->label[at[b]] = id[b];
	}
	advance(train, to - from);
}

/*
 * label[] of every point: the nearest of the centroids.  Goes by the label that points had
 * (by_label), so that a batch looks into few groups.  Half of the usual beam will
 * do: what one round misses, the next one finds.
 */
static void
label_step(SpfTrain *train, const SpfCentroids *centroids, bool by_label)
{
	const SpfKmeansHost *host = train->host;
	int			beam = (spf_default_beam(centroids) + 1) / 2;
	void	   *scratch = host->alloc(spf_nearest_scratch(centroids, BATCH, beam));
	int			items = (train->n + ITEM_POINTS - 1) / ITEM_POINTS;
	int			item;

	while ((item = claim(train, items)) >= 0)
	{
		int			from = item * ITEM_POINTS;

		label_range(train, centroids, by_label, from,
					train->n - from < ITEM_POINTS ? train->n : from + ITEM_POINTS,
					beam, scratch);
	}
	host->release(scratch);
}

/* The groups' centres are centroids, too: all of one group. */
static void
part_step(SpfTrain *train)
{
	SpfCentroids *result = &train->result;
	SpfCentroids centres = *result;
	int32_t		start[] = {0, result->ngroups};
	int32_t		block[] = {0, (result->ngroups + 15) / 16};
	float		one_norm2[16],
				one_scale[16];
	uint8_t    *one = train->host->alloc((size_t) train->padded * 16);

	/* any point does for the centre of the one group */
	centres.ngroups = 1;
	centres.ncentroids = result->ngroups;
	centres.start = start;
	centres.block = block;
	centres.packed = result->packed_groups;
	centres.packed_groups = (SpfPacked) {train->padded, one, one_norm2, one_scale};
	spf_packed_put(&centres.packed_groups, 0, result->groups, NULL);
	spf_packed_end(&centres.packed_groups, 1);
	label_step(train, &centres, false);
	train->host->release(one);
}

static SpfKmeansOptions
options(uint64_t *random, int rounds, double min_share, double max_share)
{
	return (SpfKmeansOptions) {
		.rounds = rounds, .min_share = min_share, .max_share = max_share,
			.seed = spf_kmeans_random(random), .seed_points = SEED_POINTS,
	};
}

/* Cluster each group by itself: slot[] says how many clusters it gets. */
static void
cluster_step(SpfTrain *train)
{
	int			item;

	while ((item = claim(train, train->common->nlabels)) >= 0)
	{
		int			g = train->queue[item];
		int			size = train->start[g + 1] - train->start[g];
		int			k = train->slot[g + 1] - train->slot[g];
		float	   *to = train->fresh + (size_t) train->slot[g] * train->padded;
		uint64_t	random = item_random(train, g);
		SpfKmeansOptions how = options(&random, CLUSTER_ROUNDS, 0.5, 1.5);
		int			most = k < train->room / CLUSTER_SAMPLE ? k * CLUSTER_SAMPLE : train->room;
		int			taken = load(train, train->order + train->start[g], size, most, &random);

		k = k < taken ? k : taken;
		train->got[g] = k < 1 ? 0 :
			spf_kmeans(train->buffer, taken, train->padded, k, &how, train->host, to,
					   train->assign);
		advance(train, size);
	}
}

/* The mean of the points of label j, to be the next fresh centroid. */
static void
take_mean(SpfTrain *train, int j, float *to)
{
	int			padded = train->padded;
	int			first = train->start[j],
				last = train->start[j + 1];

	memset(to, 0, (size_t) padded * sizeof(float));
	for (int i = first; i < last; i++)
	{
		const int8_t *code = train->points->codes + (size_t) train->order[i] * padded;
		float		scale = train->points->scales[train->order[i]];

		if ((i & 63) == 0)
			train->host->interrupt();
		spf_kernels->add_i8(to, code, scale, padded);
	}
	for (int d = 0; d < padded; d++)
		to[d] /= (float) (last - first);
}

/* New centroids from the labels: as many as their slots are. */
static void
means_step(SpfTrain *train)
{
	int			count = train->common->nlabels;
	int			items = (count + ITEM_LABELS - 1) / ITEM_LABELS;
	int			item;

	while ((item = claim(train, items)) >= 0)
	{
		for (int j = item * ITEM_LABELS; j < count && j < (item + 1) * ITEM_LABELS; j++)
		{
			int			k = train->slot[j + 1] - train->slot[j];
			float	   *to = train->fresh + (size_t) train->slot[j] * train->padded;

			train->got[j] = k;
			if (k == 1)
				take_mean(train, j, to);
			else if (k == 2)
			{
				uint64_t	random = item_random(train, j);
				SpfKmeansOptions how = options(&random, CLUSTER_ROUNDS, 0.5, 2.0);
				int			taken = load(train, train->order + train->start[j],
										 train->start[j + 1] - train->start[j], train->room,
										 &random);

				train->got[j] = spf_kmeans(train->buffer, taken, train->padded, 2, &how,
										   train->host, to, train->assign);
			}
		}
	}
}

void
spf_train_step(SpfTrain *train, int step)
{
	train->result = spf_centroids_map(train->result_memory);
	switch (step)
	{
		case STEP_PART:
			part_step(train);
			break;
		case STEP_CLUSTER:
			cluster_step(train);
			break;
		case STEP_LABEL:
			label_step(train, &train->result, true);
			break;
		default:
			means_step(train);
	}
}

/* ---- between the steps: the leader ---- */

static void
run_step(SpfTrain *train, int step, double share)
{
	train->common->next = 0;
	train->common->passed = 0;
	(void) spf_kmeans_random(&train->common->random);
	train->step_share = share;
	if (train->host->together)
		train->host->together(train->host->team, step);
	else
		spf_train_step(train, step);
	train->step_share = 0;
	train->done += share;
	train->result = spf_centroids_map(train->result_memory);
}

/*
 * Part the points into groups: the groups' centres come from a sample, then
 * every point goes to the nearest.
 */
static void
make_groups(SpfTrain *train)
{
	SpfCentroids *result = &train->result;
	uint64_t	random = item_random(train, 0);
	SpfKmeansOptions how = options(&random, GROUP_ROUNDS, 0, 2.0);
	int64_t		sample = (int64_t) train->common->most_groups * GROUP_SAMPLE;
	int			taken = load(train, NULL, train->n,
							 sample < train->room ? (int) sample : train->room, &random);

	result->ngroups = spf_kmeans(train->buffer, taken, train->padded,
								 train->common->most_groups, &how, train->host,
								 result->groups, train->assign);
	spf_centroids_pack_groups(result);
	run_step(train, STEP_PART, GROUPS_SHARE);
	train->common->nlabels = result->ngroups;
	spf_sort_by_label(train->label, train->n, result->ngroups, train->start, train->order);
}

/* qsort: (size, label) in one number, largest first. */
static int
by_size(const void *a, const void *b)
{
	uint64_t	x = *(const uint64_t *) a,
				y = *(const uint64_t *) b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* How many clusters each group gets goes by its size; large groups come first. */
static void
plan_clusters(SpfTrain *train)
{
	int			ngroups = train->common->nlabels;
	int64_t		points_left = train->n;
	int			want_left = train->common->want;
	int			groups_left = 0;
	uint64_t   *large = train->host->alloc((size_t) ngroups * sizeof(uint64_t));

	for (int g = 0; g < ngroups; g++)
		groups_left += train->start[g + 1] > train->start[g];
	train->slot[0] = 0;
	for (int g = 0; g < ngroups; g++)
	{
		int			size = train->start[g + 1] - train->start[g];
		int			k = 0;

		large[g] = ((uint64_t) size << 32) | (uint32_t) g;
		if (size > 0)
		{
			int			most = want_left - --groups_left;

			k = (int) (((int64_t) want_left * size + points_left / 2) / points_left);
			k = k < most ? k : most;
			k = k > 1 ? k : 1;
			points_left -= size;
			want_left -= k;
		}
		train->slot[g + 1] = train->slot[g] + k;
	}
	qsort(large, (size_t) ngroups, sizeof(uint64_t), by_size);
	for (int g = 0; g < ngroups; g++)
		train->queue[g] = (int32_t) (uint32_t) large[g];
	train->host->release(large);
}

/* Close the ranks: what came from each label, equal ones of the same label once. */
static void
gather(SpfTrain *train)
{
	size_t		padded = (size_t) train->padded;
	size_t		row = padded * sizeof(float);

	train->nfresh = 0;
	for (int j = 0; j < train->common->nlabels; j++)
	{
		int			before = train->nfresh;

		train->host->interrupt();
		for (int s = 0; s < train->got[j]; s++)
		{
			const float *from = train->fresh + padded * (size_t) (train->slot[j] + s);
			float	   *to = train->fresh + padded * (size_t) train->nfresh;
			bool		seen = false;

			for (int i = before; i < train->nfresh && !seen; i++)
				seen = memcmp(train->fresh + padded * (size_t) i, from, row) == 0;
			if (seen)
				continue;
			if (to != from)
				memmove(to, from, row);
			train->nfresh++;
		}
	}
}

/*
 * Group the fresh centroids, starting from the groups there are, if there are any, and lay them
 * side by side into the result.
 */
static void
regroup(SpfTrain *train)
{
	SpfCentroids *result = &train->result;
	size_t		padded = (size_t) train->padded;
	uint64_t	random = item_random(train, -1);
	SpfKmeansOptions how = options(&random, REGROUP_ROUNDS, 0.5, 1.5);
	int			most = spf_groups_for(train->nfresh);
	int			ngroups = result->ngroups;
	int32_t    *order = train->host->alloc((size_t) train->nfresh * sizeof(int32_t));
	int32_t    *start;

	how.warm = ngroups > 0;
	if (!how.warm || ngroups > most)
		ngroups = most;
	ngroups = spf_kmeans(train->fresh, train->nfresh, train->padded, ngroups, &how,
						 train->host, result->groups, train->assign);
	start = train->host->alloc(((size_t) ngroups + 1) * sizeof(int32_t));
	spf_sort_by_label(train->assign, train->nfresh, ngroups, start, order);
	spf_centroids_clear(result);
	for (int g = 0; g < ngroups; g++)
	{
		train->host->interrupt();
		for (int j = start[g]; j < start[g + 1]; j++)
			spf_centroids_add(result, train->fresh + (size_t) order[j] * padded);
		spf_centroids_end_group(result);
	}
	spf_centroids_pack_groups(result);
	train->host->release(start);
	train->host->release(order);
}

/*
 * Choose what becomes of each label's cluster: it gets one slot for its mean, two for its
 * halves, or none.  Those that have lost (nearly) all their points go, and as many of the
 * largest are halved; where there are not so many, some small ones stay.
 */
static void
plan_means(SpfTrain *train)
{
	int			count = train->result.ncentroids;
	double		mean = (double) train->n / train->common->want;
	int			spare = train->common->want;
	int			nlarge = 0;
	int32_t    *slots = train->got;
	uint64_t   *large = train->host->alloc((size_t) count * sizeof(uint64_t));

	for (int j = 0; j < count; j++)
	{
		int			size = train->start[j + 1] - train->start[j];

		slots[j] = size > 0 && size >= TOO_SMALL * mean;
		spare -= slots[j];
		if (size > 1 && size > TOO_LARGE * mean)
			large[nlarge++] = ((uint64_t) size << 32) | (uint32_t) j;
	}
	qsort(large, (size_t) nlarge, sizeof(uint64_t), by_size);
	for (int l = 0; l < nlarge && spare > 0; l++, spare--)
		slots[(uint32_t) large[l]] = 2;
	for (int j = 0; j < count && spare > 0; j++)
		if (slots[j] == 0 && train->start[j + 1] > train->start[j])
		{
			slots[j] = 1;
			spare--;
		}
	train->slot[0] = 0;
	for (int j = 0; j < count; j++)
		train->slot[j + 1] = train->slot[j] + slots[j];
	train->host->release(large);
}

void
spf_train_lead(SpfTrain *train, int polish)
{
	double		share = (1 - GROUPS_SHARE) / (1 + polish);

	train->result = spf_centroids_map(train->result_memory);
	make_groups(train);
	plan_clusters(train);
	run_step(train, STEP_CLUSTER, share);
	gather(train);
	regroup(train);
	for (int round = 0; round < polish; round++)
	{
		/* points of one group lie side by side in the order of their old labels */
		run_step(train, STEP_LABEL, share);
		train->common->nlabels = train->result.ncentroids;
		spf_sort_by_label(train->label, train->n, train->common->nlabels, train->start,
					  train->order);
		plan_means(train);
		run_step(train, STEP_MEANS, 0);
		gather(train);
		regroup(train);
	}
	if (train->host->progress)
		train->host->progress(1);
}

float *
spf_train_given(SpfTrain *train)
{
	return train->fresh;
}

/* qsort: rows by content, equal ones as they come */
typedef struct Given
{
	const float *row;
	size_t		bytes;
} Given;

static int
by_content(const void *a, const void *b)
{
	const Given *x = a;
	const Given *y = b;
	int			order = memcmp(x->row, y->row, x->bytes);

	return order != 0 ? order : x->row < y->row ? -1 : x->row > y->row;
}

void
spf_train_take(SpfTrain *train, int count)
{
	size_t		padded = (size_t) train->padded;
	Given	   *given = train->host->alloc((size_t) count * sizeof(Given));

	train->result = spf_centroids_map(train->result_memory);
	for (int j = 0; j < count; j++)
	{
		given[j] = (Given) {train->fresh + (size_t) j * padded, padded * sizeof(float)};
		train->label[j] = 1;
	}
	qsort(given, (size_t) count, sizeof(Given), by_content);
	for (int j = 1; j < count; j++)
		if (memcmp(given[j].row, given[j - 1].row, given[j].bytes) == 0)
			train->label[(size_t) (given[j].row - train->fresh) / padded] = 0;
	train->host->release(given);
	train->nfresh = 0;
	for (int j = 0; j < count; j++)
		if (train->label[j])
			memmove(train->fresh + padded * (size_t) train->nfresh++,
					train->fresh + padded * (size_t) j, padded * sizeof(float));
	regroup(train);
}
