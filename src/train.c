/*-------------------------------------------------------------------------
 *
 * train.c
 *	  Training many centroids, and finding the nearest of them.
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

/* So many groups, times the root of the number of centroids. */
#define GROUPS			1.4

/* Up to so many centroids are one group. */
#define ONE_GROUP		16

/* A group is clustered on at most so many points a cluster. */
#define CLUSTER_SAMPLE	1024

/* Rounds within a group, and of the grouping of the centroids. */
#define CLUSTER_ROUNDS	6
#define REGROUP_ROUNDS	4

/* Points that are looked up together. */
#define BATCH			256

/* Points, and labels, that make an item of a step. */
#define ITEM_POINTS		1024
#define ITEM_LABELS		16

/* Where rows of floats are aligned to. */
#define CACHE_LINE		64

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

/* At the front of `result`. */
typedef struct Head
{
	int			padded;
	int			most;			/* centroids there is room for */
	int			ngroups;
	int			ncentroids;
} Head;

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

static size_t
align_line(size_t bytes)
{
	return (bytes + CACHE_LINE - 1) & ~(size_t) (CACHE_LINE - 1);
}

/* ---- what lies where ---- */

static int
groups_for(int want)
{
	return want > ONE_GROUP ? (int) (GROUPS * sqrt(want) + 0.5) : 1;
}

/* Groups begin with a block of their own. */
static size_t
most_blocks(int want)
{
	return (size_t) want / 16 + (size_t) groups_for(want) + 1;
}

static size_t
group_blocks(int want)
{
	return ((size_t) groups_for(want) + 15) / 16;
}

size_t
spf_centroids_space(int padded, int most)
{
	size_t		row = (size_t) padded * sizeof(float);
	size_t		ngroups = (size_t) groups_for(most);

	return CACHE_LINE + align_line(ngroups * row) + align_line((size_t) most * row) +
		align_line(spf_packed_space(padded, group_blocks(most))) +
		align_line(spf_packed_space(padded, most_blocks(most))) +
		2 * align_line((ngroups + 1) * sizeof(int32_t));
}

SpfCentroids
spf_centroids_map(void *memory)
{
	const Head *head = memory;
	int			padded = head->padded;
	size_t		row = (size_t) padded * sizeof(float);
	size_t		ngroups = (size_t) groups_for(head->most);
	char	   *at = (char *) memory + CACHE_LINE;
	SpfCentroids centroids = {.padded = padded, .ngroups = head->ngroups,
	.ncentroids = head->ncentroids, .memory = memory};

	centroids.groups = (float *) at;
	at += align_line(ngroups * row);
	centroids.centroids = (float *) at;
	at += align_line((size_t) head->most * row);
	centroids.packed_groups = spf_packed_map(at, padded, group_blocks(head->most));
	at += align_line(spf_packed_space(padded, group_blocks(head->most)));
	centroids.packed = spf_packed_map(at, padded, most_blocks(head->most));
	at += align_line(spf_packed_space(padded, most_blocks(head->most)));
	centroids.start = (int32_t *) at;
	at += align_line((ngroups + 1) * sizeof(int32_t));
	centroids.block = (int32_t *) at;
	return centroids;
}

size_t
spf_train_space(int padded, int n, int want)
{
	return align_line(sizeof(Common)) + 2 * align_line((size_t) n * sizeof(int32_t)) +
		4 * align_line(((size_t) want + 1) * sizeof(int32_t)) +
		(size_t) want * padded * sizeof(float);
}

void
spf_train_init(void *work, void *result, int padded, int n, int want, uint64_t seed)
{
	if (n > 0 && want > n)
		want = n;
	*(Common *) work = (Common) {
		.padded = padded, .n = n, .want = want, .most_groups = groups_for(want), .random = seed
	};
	*(Head *) result = (Head) {
		.padded = padded, .most = want
	};
}

static void
map_work(SpfTrain *train, void *work)
{
	size_t		n = (size_t) train->common->n;
	size_t		want = (size_t) train->common->want;
	char	   *at = (char *) work + align_line(sizeof(Common));

	train->label = (int32_t *) at;
	at += align_line(n * sizeof(int32_t));
	train->order = (int32_t *) at;
	at += align_line(n * sizeof(int32_t));
	train->start = (int32_t *) at;
	at += align_line((want + 1) * sizeof(int32_t));
	train->slot = (int32_t *) at;
	at += align_line((want + 1) * sizeof(int32_t));
	train->got = (int32_t *) at;
	at += align_line((want + 1) * sizeof(int32_t));
	train->queue = (int32_t *) at;
	at += align_line((want + 1) * sizeof(int32_t));
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
	train->buffer_chunk = host->alloc((size_t) train->room * row + CACHE_LINE);
	train->buffer = (float *) align_line((uintptr_t) train->buffer_chunk);
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

/* start[] and order[] from label[0 .. n): a counting sort. */
static void
sort_by_label(const int32_t *label, int n, int nlabels, int32_t *start, int32_t *order)
{
	memset(start, 0, ((size_t) nlabels + 1) * sizeof(int32_t));
	for (int i = 0; i < n; i++)
		start[label[i]]++;
	for (int j = 1; j <= nlabels; j++)
		start[j] += start[j - 1];
	for (int i = n - 1; i >= 0; i--)
		order[--start[label[i]]] = i;
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

/* ---- the nearest ---- */

/* The nearest found so far: sorted, at most `want`. */
typedef struct Nearest
{
	int			want;
	int			found;
	int32_t    *id;
	float	   *dist2;
} Nearest;

static void
keep(Nearest *nearest, int32_t id, float dist2)
{
	int			at = nearest->found < nearest->want ? nearest->found++ : nearest->want - 1;

	for (; at > 0 && nearest->dist2[at - 1] > dist2; at--)
	{
		nearest->dist2[at] = nearest->dist2[at - 1];
		nearest->id[at] = nearest->id[at - 1];
	}
	nearest->dist2[at] = dist2;
	nearest->id[at] = id;
}

/* Keep what passes the bar, and what comes before there is one: `here` of sixteen, from id on. */
static void
keep_block(Nearest *nearest, SpfMeeting *meeting, int32_t id, int here, uint32_t below)
{
	const float *dist2 = meeting->out;
	int			l = 0;

	for (; l < here && nearest->found < nearest->want; l++)
		keep(nearest, id + l, dist2[l]);
	for (below = l < 16 ? below >> l << l : 0; below != 0; below &= below - 1)
	{
		l = __builtin_ctz(below);
		if (dist2[l] < nearest->dist2[nearest->want - 1])
			keep(nearest, id + l, dist2[l]);
	}
	if (nearest->found == nearest->want)
		meeting->bar = nearest->dist2[nearest->want - 1];
}

/*
 * Vectors meet the rows of some blocks, which are those of `count` neighbours in number, from
 * id `first` on.  nearest[k].dist2 has room for what is wanted.
 */
static void
meet_rows(const SpfPacked *packed, size_t block, int count, int32_t first,
		  SpfMeeting *meeting, Nearest *nearest, int many)
{
	float		out[SPF_MEET][16];
	uint32_t	below[SPF_MEET] = {0};
	bool		full = true;

	for (int k = 0; k < many; k++)
	{
		bool		k_full = nearest[k].found == nearest[k].want;

		meeting[k].out = out[k];
		meeting[k].bar = k_full ? nearest[k].dist2[nearest[k].want - 1] : INFINITY;
		full = full && k_full;
	}
	for (int at = 0; at < count; at += 16, block++)
	{
		SpfRows16	rows = spf_packed_rows(packed, block);
		int			here = count - at < 16 ? count - at : 16;
		uint32_t	any = 0;

		spf_kernels->meet(&rows, packed->padded, meeting, many, below);
		for (int k = 0; k < SPF_MEET; k++)
			any |= below[k];
		if (full && any == 0)
			continue;
		full = true;
		for (int k = 0; k < many; k++)
		{
			if (below[k] != 0 || nearest[k].found < nearest[k].want)
				keep_block(&nearest[k], &meeting[k], first + at, here, below[k]);
			full = full && nearest[k].found == nearest[k].want;
		}
	}
}

static inline int
clamp_beam(const SpfCentroids *centroids, int beam)
{
	if (beam > centroids->ngroups)
		beam = centroids->ngroups;
	return beam > 1 ? beam : 1;
}

/* A batch on its way; the arrays are in the caller's scratch. */
typedef struct Batch
{
	const SpfCentroids *centroids;
	int			m;
	int			beam;
	SpfMeeting *meeting;		/* [m] */
	float	   *group_dist2;	/* [SPF_MEET x beam] */
	int32_t    *group_id;		/* [SPF_MEET x beam] */
	int32_t    *start;			/* [ngroups + 1] */
	int32_t    *group;			/* [beam x m]: the groups to look into, b-nearest of all points */
	int32_t    *order;			/* [beam x m]: pairs of (b, point), by group */
} Batch;

size_t
spf_nearest_scratch(const SpfCentroids *centroids, int m, int beam)
{
	beam = clamp_beam(centroids, beam);
	return (size_t) m * sizeof(SpfMeeting) +
		sizeof(int32_t) * (2 * SPF_MEET * (size_t) beam + (size_t) centroids->ngroups + 1 +
						   2 * (size_t) m * (size_t) beam);
}

static void
lay_out_batch(Batch *batch, void *scratch)
{
	batch->meeting = scratch;
	batch->group_dist2 = (float *) (batch->meeting + batch->m);
	batch->group_id = (int32_t *) (batch->group_dist2 + SPF_MEET * batch->beam);
	batch->start = batch->group_id + SPF_MEET * batch->beam;
	batch->group = batch->start + batch->centroids->ngroups + 1;
	batch->order = batch->group + (size_t) batch->m * batch->beam;
}

/* Where each point will look. */
static void
choose_groups(Batch *batch)
{
	const SpfCentroids *centroids = batch->centroids;

	for (int i = 0; i < batch->m; i += SPF_MEET)
	{
		int			many = batch->m - i < SPF_MEET ? batch->m - i : SPF_MEET;
		Nearest		nearest[SPF_MEET] = {{0}};

		for (int k = 0; k < many; k++)
			nearest[k] = (Nearest) {batch->beam, 0, batch->group_id + k * batch->beam,
			batch->group_dist2 + k * batch->beam};
		meet_rows(&centroids->packed_groups, 0, centroids->ngroups, 0, batch->meeting + i,
				  nearest, many);
		for (int k = 0; k < many; k++)
			for (int b = 0; b < batch->beam; b++)
				batch->group[(size_t) b * batch->m + i + k] = nearest[k].id[b];
	}
}

/* Some points that look into one group: pairs[count], count <= SPF_MEET. */
static void
look_into(Batch *batch, int group, const int32_t *pairs, int count,
		  int want, int32_t *id, float *dist2, int32_t *found)
{
	const SpfCentroids *centroids = batch->centroids;
	int			first = centroids->start[group];
	SpfMeeting	meeting[SPF_MEET] = {{0}};
	Nearest		nearest[SPF_MEET] = {{0}};

	for (int k = 0; k < count; k++)
	{
		size_t		i = (size_t) (pairs[k] % batch->m);

		meeting[k] = batch->meeting[i];
		nearest[k] = (Nearest) {want, found[i], id + i * want, dist2 + i * want};
	}
	meet_rows(&centroids->packed, (size_t) centroids->block[group],
			  centroids->start[group + 1] - first, first, meeting, nearest, count);
	for (int k = 0; k < count; k++)
		found[pairs[k] % batch->m] = nearest[k].found;
}

/*
 * Each point meets its nearest group first, which sets a bar that little of the
 * others passes; then all the others.  Both go group by group.
 */
void
spf_nearest(const SpfCentroids *centroids, const SpfCoded *x, int m, int want, int beam,
			void *scratch, int32_t *id, float *dist2, int32_t *found)
{
	Batch		batch = {.centroids = centroids, .m = m};

	memset(found, 0, (size_t) m * sizeof(int32_t));
	if (centroids->ncentroids < 1 || want < 1)
		return;
	batch.beam = clamp_beam(centroids, beam);
	lay_out_batch(&batch, scratch);
	for (int i = 0; i < m; i++)
		spf_meeting_init(&batch.meeting[i], x[i].code, x[i].scale, centroids->padded);
	choose_groups(&batch);
	for (int pass = 0; pass < 2; pass++)
	{
		const int32_t *label = batch.group + (pass == 0 ? 0 : m);
		int			pairs = pass == 0 ? m : (batch.beam - 1) * m;

		sort_by_label(label, pairs, centroids->ngroups, batch.start, batch.order);
		for (int g = 0; g < centroids->ngroups; g++)
			for (int p = batch.start[g]; p < batch.start[g + 1]; p += SPF_MEET)
			{
				int			count = batch.start[g + 1] - p;

				look_into(&batch, g, batch.order + p, count < SPF_MEET ? count : SPF_MEET,
						  want, id, dist2, found);
			}
	}
}

/*
 * Measured at 50 to 200 groups of real data (128-d, 512-d): the nearest is found for
 * 99.4 to 99.9 of 100, the nearest sixteen for 97.5 to 99.
 */
int
spf_default_beam(const SpfCentroids *centroids)
{
	return clamp_beam(centroids, (int) (2.5 + sqrt(centroids->ngroups)));
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
			.seed = spf_kmeans_random(random),
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

/* The result is what train->result says. */
static void
publish(SpfTrain *train)
{
	Head	   *head = train->result_memory;

	head->ngroups = train->result.ngroups;
	head->ncentroids = train->result.ncentroids;
}

static void
pack_groups(const SpfCentroids *result)
{
	for (int g = 0; g < result->ngroups; g++)
		spf_packed_put(&result->packed_groups, (size_t) g,
					   result->groups + (size_t) g * result->padded, NULL);
	spf_packed_end(&result->packed_groups, (size_t) result->ngroups);
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
	pack_groups(result);
	publish(train);
	run_step(train, STEP_PART, GROUPS_SHARE);
	train->common->nlabels = result->ngroups;
	sort_by_label(train->label, train->n, result->ngroups, train->start, train->order);
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
	int			most = groups_for(train->nfresh);
	int32_t    *order = train->host->alloc((size_t) train->nfresh * sizeof(int32_t));

	how.warm = result->ngroups > 0;
	if (!how.warm || result->ngroups > most)
		result->ngroups = most;
	result->ngroups = spf_kmeans(train->fresh, train->nfresh, train->padded, result->ngroups,
								 &how, train->host, result->groups, train->assign);
	sort_by_label(train->assign, train->nfresh, result->ngroups, result->start, order);
	result->block[0] = 0;
	for (int g = 0; g < result->ngroups; g++)
	{
		size_t		at = (size_t) result->block[g] * 16;

		train->host->interrupt();
		for (int j = result->start[g]; j < result->start[g + 1]; j++, at++)
		{
			const float *from = train->fresh + (size_t) order[j] * padded;

			memcpy(result->centroids + (size_t) j * padded, from, padded * sizeof(float));
			spf_packed_put(&result->packed, at, from, NULL);
		}
		spf_packed_end(&result->packed, at);
		result->block[g + 1] = (int32_t) ((at + 15) / 16);
	}
	result->ncentroids = train->nfresh;
	pack_groups(result);
	publish(train);
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
		sort_by_label(train->label, train->n, train->common->nlabels, train->start,
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
