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
 *-------------------------------------------------------------------------
 */
#include "kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "code.h"
#include "kernels/kernels.h"

/* Decoded points are held in a buffer of at most so many bytes. */
#define BUFFER_BYTES	((size_t) 64 << 20)

/* Groups are found on a sample of so many points each, in so many rounds. */
#define GROUP_SAMPLE	256
#define GROUP_ROUNDS	8

/* So many groups, times the root of the number of centroids. */
#define GROUPS			1.4

/* Up to so many centroids are one group. */
#define ONE_GROUP		16

/* A group is clustered on at most so many points a cluster. */
#define CLUSTER_SAMPLE	1024

/* Rounds within a group, and of the grouping of the centroids. */
#define CLUSTER_ROUNDS	8
#define REGROUP_ROUNDS	4

/* Points that are looked up together: at most these, ... */
#define BATCH			256

/* ... and not for longer than so many floats' differences (a few milliseconds). */
#define BATCH_WORK		1e8

/* Where rows of floats are aligned to. */
#define CACHE_LINE		64

/* For the progress: the share of the work in finding the groups, and in parting into them. */
#define GROUPS_SHARE	0.04

/* After a polish round, clusters outside of these shares of the mean go. */
#define TOO_SMALL		0.33
#define TOO_LARGE		1.6

typedef struct Train
{
	const SpfPoints *points;
	const SpfKmeansHost *host;
	int			padded;
	int			want;
	uint64_t	random;
	double		done;			/* progress made, and told */
	int32_t    *label;			/* [n]: a point's group or centroid */
	int32_t    *order;			/* [n]: the points, by label */
	int32_t    *start;			/* [most labels + 1]: where in order[] a label begins */
	float	   *buffer;			/* [room x padded], within buffer_chunk */
	void	   *buffer_chunk;
	int32_t    *assign;			/* [room or want]: spf_kmeans' answer */
	int			room;
	float	   *fresh;			/* [want x padded]: the centroids in the making */
	void	   *fresh_chunk;
	int			nfresh;
	SpfCentroids *result;
} Train;

static void
advance(Train *train, double step)
{
	train->done += step;
	if (train->host->progress)
		train->host->progress(train->done < 1 ? train->done : 1);
}

static void
decode(const Train *train, int point, float *out)
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
load(Train *train, const int32_t *from, int count, int most)
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

			at = (int) (low + (int64_t) (spf_kmeans_random(&train->random) %
										 (uint64_t) (high - low)));
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

/* Offer the distances of `count` neighbours in number, from id `first` on. */
static void
offer(Nearest *nearest, const float *dist2, int count, int32_t first)
{
	int			i = 0;
	float		bar;

	for (; i < count && nearest->found < nearest->want; i++)
		keep(nearest, first + i, dist2[i]);
	bar = nearest->dist2[nearest->want - 1];
	for (; i + 8 <= count; i += 8)
	{
		int			under = 0;

		for (int l = 0; l < 8; l++)
			under |= dist2[i + l] < bar;
		if (!under)
			continue;
		for (int l = 0; l < 8; l++)
			if (dist2[i + l] < bar)
			{
				keep(nearest, first + i + l, dist2[i + l]);
				bar = nearest->dist2[nearest->want - 1];
			}
	}
	for (; i < count; i++)
		if (dist2[i] < nearest->dist2[nearest->want - 1])
			keep(nearest, first + i, dist2[i]);
}

static int
largest_group(const SpfCentroids *centroids)
{
	int			most = 0;

	for (int g = 0; g < centroids->ngroups; g++)
	{
		int			size = centroids->start[g + 1] - centroids->start[g];

		most = size > most ? size : most;
	}
	return most;
}

/* Floats for the distances of all groups, or of all centroids of one group. */
static size_t
scratch_rows(const SpfCentroids *centroids)
{
	int			most = largest_group(centroids);

	return (size_t) (most > centroids->ngroups ? most : centroids->ngroups);
}

static inline int
clamp_beam(const SpfCentroids *centroids, int beam)
{
	if (beam > centroids->ngroups)
		beam = centroids->ngroups;
	return beam > 1 ? beam : 1;
}

size_t
spf_nearest_scratch(const SpfCentroids *centroids)
{
	return scratch_rows(centroids) + 2 * (size_t) centroids->ngroups;
}

int
spf_nearest(const SpfCentroids *centroids, const float *x, int want, int beam,
			float *scratch, int32_t *id, float *dist2)
{
	int			ngroups = centroids->ngroups;
	int			padded = centroids->padded;
	float	   *dist = scratch + 2 * (size_t) ngroups;
	Nearest		groups = {clamp_beam(centroids, beam), 0, (int32_t *) scratch, scratch + ngroups};
	Nearest		nearest = {want, 0, id, dist2};

	if (centroids->ncentroids < 1 || want < 1)
		return 0;
	spf_kernels->l2sq_rows(x, centroids->groups, ngroups, padded, dist);
	offer(&groups, dist, ngroups, 0);
	for (int b = 0; b < groups.found; b++)
	{
		int			first = centroids->start[groups.id[b]];
		int			count = centroids->start[groups.id[b] + 1] - first;

		spf_kernels->l2sq_rows(x, centroids->centroids + (size_t) first * padded,
							   count, padded, dist);
		offer(&nearest, dist, count, first);
	}
	return nearest.found;
}

/* A batch on its way; the arrays are in the caller's scratch. */
typedef struct Batch
{
	const SpfCentroids *centroids;
	const float *x;
	int			m;
	int			beam;
	float	   *dist;			/* [SPF_MANY x rows] */
	size_t		rows;
	float	   *group_dist2;	/* [beam] */
	int32_t    *start;			/* [ngroups + 1] */
	int32_t    *group;			/* [beam x m]: the groups to look into, b-nearest of all points */
	int32_t    *order;			/* [beam x m]: pairs of (b, point), by group */
} Batch;

size_t
spf_nearest_batch_scratch(const SpfCentroids *centroids, int m, int beam)
{
	beam = clamp_beam(centroids, beam);
	return sizeof(float) * (SPF_MANY * scratch_rows(centroids) + (size_t) beam +
							(size_t) centroids->ngroups + 1 +
							2 * (size_t) m * (size_t) beam);
}

static void
lay_out_batch(Batch *batch, void *scratch)
{
	batch->rows = scratch_rows(batch->centroids);
	batch->dist = scratch;
	batch->group_dist2 = batch->dist + SPF_MANY * batch->rows;
	batch->start = (int32_t *) (batch->group_dist2 + batch->beam);
	batch->group = batch->start + batch->centroids->ngroups + 1;
	batch->order = batch->group + (size_t) batch->m * batch->beam;
}

/* Where each point will look. */
static void
choose_groups(Batch *batch)
{
	const SpfCentroids *centroids = batch->centroids;

	for (int i = 0; i < batch->m; i += SPF_MANY)
	{
		int			many = batch->m - i < SPF_MANY ? batch->m - i : SPF_MANY;
		const float *x[SPF_MANY];

		for (int k = 0; k < many; k++)
			x[k] = batch->x + (size_t) (i + k) * centroids->padded;
		spf_l2sq_many(x, many, centroids->groups, centroids->ngroups, centroids->padded,
					  batch->dist, batch->rows);
		for (int k = 0; k < many; k++)
		{
			/* order[] is not in use yet */
			Nearest		groups = {batch->beam, 0, batch->order, batch->group_dist2};

			offer(&groups, batch->dist + k * batch->rows, centroids->ngroups, 0);
			for (int b = 0; b < batch->beam; b++)
				batch->group[(size_t) b * batch->m + i + k] = groups.id[b];
		}
	}
}

/* Some points that look into one group: pairs[count], count <= SPF_MANY. */
static void
look_into(Batch *batch, int group, const int32_t *pairs, int count,
		  int want, int32_t *id, float *dist2, int32_t *found)
{
	const SpfCentroids *centroids = batch->centroids;
	int			first = centroids->start[group];
	int			size = centroids->start[group + 1] - first;
	const float *x[SPF_MANY];

	for (int k = 0; k < count; k++)
		x[k] = batch->x + (size_t) (pairs[k] % batch->m) * centroids->padded;
	spf_l2sq_many(x, count, centroids->centroids + (size_t) first * centroids->padded, size,
				  centroids->padded, batch->dist, batch->rows);
	for (int k = 0; k < count; k++)
	{
		int			i = pairs[k] % batch->m;
		Nearest		nearest = {want, found[i], id + (size_t) i * want, dist2 + (size_t) i * want};

		offer(&nearest, batch->dist + k * batch->rows, size, first);
		found[i] = nearest.found;
	}
}

/*
 * Each point meets its nearest group first, which sets a bar that little of the
 * others passes; then all the others.  Both go group by group.
 */
void
spf_nearest_batch(const SpfCentroids *centroids, const float *x, int m, int want, int beam,
				  void *scratch, int32_t *id, float *dist2, int32_t *found)
{
	Batch		batch = {.centroids = centroids, .x = x, .m = m};

	memset(found, 0, (size_t) m * sizeof(int32_t));
	if (centroids->ncentroids < 1 || want < 1)
		return;
	batch.beam = clamp_beam(centroids, beam);
	lay_out_batch(&batch, scratch);
	choose_groups(&batch);
	for (int pass = 0; pass < 2; pass++)
	{
		const int32_t *label = batch.group + (pass == 0 ? 0 : m);
		int			pairs = pass == 0 ? m : (batch.beam - 1) * m;

		sort_by_label(label, pairs, centroids->ngroups, batch.start, batch.order);
		for (int g = 0; g < centroids->ngroups; g++)
			for (int p = batch.start[g]; p < batch.start[g + 1]; p += SPF_MANY)
			{
				int			count = batch.start[g + 1] - p;

				look_into(&batch, g, batch.order + p, count < SPF_MANY ? count : SPF_MANY,
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

/* ---- training ---- */

static SpfKmeansOptions
options(Train *train, int rounds, double min_share, double max_share)
{
	return (SpfKmeansOptions) {
		.rounds = rounds, .min_share = min_share, .max_share = max_share,
			.seed = spf_kmeans_random(&train->random),
	};
}

static int
batch_size(const Train *train, const SpfCentroids *centroids, int beam)
{
	double		rows = centroids->ngroups +
		(double) centroids->ncentroids * beam / centroids->ngroups;
	double		size = BATCH_WORK / (rows * centroids->padded);

	size = fmin(fmax(size, SPF_MANY), BATCH);
	return size < train->room ? (int) size : train->room;
}

/*
 * label[] of every point: the nearest of the centroids, looked up in batches.
 * Goes by the label that points had (sorted: they are), so that a batch looks
 * into few groups.  Half of the usual beam will do: what one round misses, the
 * next one finds, and more rounds for the same time are worth more.
 */
static void
label_points(Train *train, const SpfCentroids *centroids, bool sorted, double share)
{
	const SpfKmeansHost *host = train->host;
	int			n = train->points->n;
	int			beam = (spf_default_beam(centroids) + 1) / 2;
	int			batch = batch_size(train, centroids, beam);
	void	   *scratch = host->alloc(spf_nearest_batch_scratch(centroids, batch, beam));
	int32_t		at[BATCH],
				id[BATCH],
				found[BATCH];
	float		dist2[BATCH];

	for (int i = 0; i < n; i += batch)
	{
		int			m = n - i < batch ? n - i : batch;

		for (int b = 0; b < m; b++)
		{
			at[b] = sorted ? train->order[i + b] : i + b;
			decode(train, at[b], train->buffer + (size_t) b * train->padded);
		}
		spf_nearest_batch(centroids, train->buffer, m, 1, beam, scratch, id, dist2, found);
		host->interrupt();
		for (int b = 0; b < m; b++)
			train->label[at[b]] = id[b];
		advance(train, share * m / n);
	}
	host->release(scratch);
	sort_by_label(train->label, n, centroids->ncentroids, train->start, train->order);
}

/*
 * Part the points into groups: the groups' centres come from a sample, then
 * every point goes to the nearest.
 */
static void
make_groups(Train *train)
{
	SpfCentroids *result = train->result;
	int			n = train->points->n;
	int64_t		sample = (int64_t) result->ngroups * GROUP_SAMPLE;
	SpfKmeansOptions how = options(train, GROUP_ROUNDS, 0, 2.0);
	SpfCentroids centres = {.padded = train->padded, .ngroups = 1,
	.groups = result->groups, .centroids = result->groups};
	int32_t		start[2];
	int			taken;

	taken = load(train, NULL, n, sample < train->room ? (int) sample : train->room);
	result->ngroups = spf_kmeans(train->buffer, taken, train->padded, result->ngroups, &how,
								 train->host, result->groups, train->assign);
	advance(train, GROUPS_SHARE);
	/* the groups' centres are centroids, too: all of one group */
	start[0] = 0;
	start[1] = result->ngroups;
	centres.start = start;
	centres.ncentroids = result->ngroups;
	label_points(train, &centres, false, GROUPS_SHARE);
}

/* Take in `count` centroids from where they are, behind the others; equal ones once. */
static void
append_distinct(Train *train, const float *centroids, int count)
{
	size_t		padded = (size_t) train->padded;
	int			before = train->nfresh;

	for (int j = 0; j < count; j++)
	{
		float	   *to = train->fresh + padded * train->nfresh;
		bool		seen = false;

		memmove(to, centroids + padded * j, padded * sizeof(float));
		for (int i = before; i < train->nfresh && !seen; i++)
			seen = memcmp(train->fresh + padded * i, to, padded * sizeof(float)) == 0;
		train->nfresh += !seen;
	}
}

/* Cluster each group by itself; how many clusters it gets goes by its size. */
static void
cluster_groups(Train *train, double share)
{
	int			ngroups = train->result->ngroups;
	int			n = train->points->n;
	int64_t		points_left = n;
	int			want_left = train->want;
	int			groups_left = 0;

	for (int g = 0; g < ngroups; g++)
		groups_left += train->start[g + 1] > train->start[g];
	for (int g = 0; g < ngroups; g++)
	{
		int			size = train->start[g + 1] - train->start[g];
		SpfKmeansOptions how = options(train, CLUSTER_ROUNDS, 0.5, 1.5);
		float	   *to = train->fresh + (size_t) train->nfresh * train->padded;
		int			k,
					most,
					taken;

		if (size == 0)
			continue;
		groups_left--;
		k = (int) (((int64_t) want_left * size + points_left / 2) / points_left);
		most = want_left - groups_left;
		k = k < most ? k : most;
		k = k > 1 ? k : 1;
		points_left -= size;
		want_left -= k;
		most = k < train->room / CLUSTER_SAMPLE ? k * CLUSTER_SAMPLE : train->room;
		taken = load(train, train->order + train->start[g], size, most);
		k = k < taken ? k : taken;
		k = spf_kmeans(train->buffer, taken, train->padded, k, &how, train->host,
					   to, train->assign);
		append_distinct(train, to, k);
		advance(train, share * size / n);
	}
}

/*
 * Group the fresh centroids, starting from the groups there are, and lay them
 * side by side into the result.
 */
static void
regroup(Train *train)
{
	SpfCentroids *result = train->result;
	size_t		row = (size_t) train->padded * sizeof(float);
	SpfKmeansOptions how = options(train, REGROUP_ROUNDS, 0.5, 1.5);
	int32_t    *order;

	how.warm = true;
	if (result->ngroups > train->nfresh)
		result->ngroups = train->nfresh;
	result->ngroups = spf_kmeans(train->fresh, train->nfresh, train->padded, result->ngroups,
								 &how, train->host, result->groups, train->assign);
	order = train->host->alloc((size_t) train->nfresh * sizeof(int32_t));
	sort_by_label(train->assign, train->nfresh, result->ngroups, result->start, order);
	for (int j = 0; j < train->nfresh; j++)
	{
		if ((j & 63) == 0)
			train->host->interrupt();
		memcpy(result->centroids + (size_t) j * train->padded,
			   train->fresh + (size_t) order[j] * train->padded, row);
	}
	result->ncentroids = train->nfresh;
	train->host->release(order);
}

/* The mean of the points of label j, to be the next fresh centroid. */
static void
append_mean(Train *train, int j)
{
	int			padded = train->padded;
	float	   *to = train->fresh + (size_t) train->nfresh * padded;
	int			first = train->start[j],
				last = train->start[j + 1];

	memset(to, 0, (size_t) padded * sizeof(float));
	for (int i = first; i < last; i++)
	{
		if ((i & 63) == 0)
			train->host->interrupt();
		decode(train, train->order[i], train->buffer);
		for (int d = 0; d < padded; d += SPF_PAD)
			for (int l = 0; l < SPF_PAD; l++)
				to[d + l] += train->buffer[d + l];
	}
	for (int d = 0; d < padded; d++)
		to[d] /= (float) (last - first);
	train->nfresh++;
}

/* The means of the two halves of the points of label j, or only one if they are equal. */
static void
append_halves(Train *train, int j)
{
	SpfKmeansOptions how = options(train, CLUSTER_ROUNDS, 0.5, 2.0);
	float	   *to = train->fresh + (size_t) train->nfresh * train->padded;
	int			taken;

	taken = load(train, train->order + train->start[j],
				 train->start[j + 1] - train->start[j], train->room);
	train->nfresh += spf_kmeans(train->buffer, taken, train->padded, 2, &how, train->host,
								to, train->assign);
}

/* qsort: (size, label) in one number, largest first. */
static int
by_size(const void *a, const void *b)
{
	uint64_t	x = *(const uint64_t *) a,
				y = *(const uint64_t *) b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/*
 * Choose what becomes of each label's cluster: TAKE its mean, HALVE it, or DROP it.
 * Those that have lost (nearly) all their points go, and as many of the
 * largest are halved; where there are not so many, some small ones stay.
 */
enum
{
	DROP, TAKE, HALVE
};

static void
choose_fates(Train *train, char *fate)
{
	int			count = train->result->ncentroids;
	double		mean = (double) train->points->n / train->want;
	int			spare = train->want;
	int			nlarge = 0;
	uint64_t   *large = train->host->alloc((size_t) count * sizeof(uint64_t));

	for (int j = 0; j < count; j++)
	{
		int			size = train->start[j + 1] - train->start[j];

		fate[j] = size > 0 && size >= TOO_SMALL * mean ? TAKE : DROP;
		spare -= fate[j] == TAKE;
		if (size > 1 && size > TOO_LARGE * mean)
			large[nlarge++] = ((uint64_t) size << 32) | (uint32_t) j;
	}
	qsort(large, (size_t) nlarge, sizeof(uint64_t), by_size);
	for (int l = 0; l < nlarge && spare > 0; l++, spare--)
		fate[(uint32_t) large[l]] = HALVE;
	for (int j = 0; j < count && spare > 0; j++)
		if (fate[j] == DROP && train->start[j + 1] > train->start[j])
		{
			fate[j] = TAKE;
			spare--;
		}
	train->host->release(large);
}

/* The fresh centroids, from the labelled points. */
static void
take_means(Train *train)
{
	int			count = train->result->ncentroids;
	char	   *fate = train->host->alloc((size_t) count);

	choose_fates(train, fate);
	train->nfresh = 0;
	for (int j = 0; j < count; j++)
	{
		if (fate[j] == HALVE)
			append_halves(train, j);
		else if (fate[j] == TAKE)
			append_mean(train, j);
	}
	train->host->release(fate);
}

/* Rows begin where a line of the cache does; *chunk is what to release. */
static float *
alloc_rows(const SpfKmeansHost *host, size_t floats, void **chunk)
{
	*chunk = host->alloc(floats * sizeof(float) + CACHE_LINE);
	return (float *) (((uintptr_t) *chunk + CACHE_LINE - 1) & ~(uintptr_t) (CACHE_LINE - 1));
}

static void
prepare(Train *train, int ngroups)
{
	const SpfKmeansHost *host = train->host;
	SpfCentroids *result = host->alloc(sizeof(SpfCentroids));
	size_t		n = (size_t) train->points->n;
	size_t		want = (size_t) train->want;
	size_t		padded = (size_t) train->padded;
	size_t		room = BUFFER_BYTES / (padded * sizeof(float));

	train->room = (int) (room < n ? room : n);
	train->buffer = alloc_rows(host, (size_t) train->room * padded, &train->buffer_chunk);
	train->label = host->alloc(n * sizeof(int32_t));
	train->order = host->alloc(n * sizeof(int32_t));
	train->start = host->alloc((want + 1) * sizeof(int32_t));
	train->assign = host->alloc(((size_t) train->room > want ? (size_t) train->room : want) *
								sizeof(int32_t));
	train->fresh = alloc_rows(host, want * padded, &train->fresh_chunk);
	result->padded = train->padded;
	result->ngroups = ngroups;
	result->ncentroids = 0;
	result->groups = alloc_rows(host, ((size_t) ngroups + want) * padded, &result->memory);
	result->centroids = result->groups + (size_t) ngroups * padded;
	result->start = host->alloc(((size_t) ngroups + 1) * sizeof(int32_t));
	train->result = result;
}

SpfCentroids *
spf_train(const SpfPoints *points, int want, int polish, uint64_t seed,
		  const SpfKmeansHost *host)
{
	Train		train = {.points = points, .host = host, .padded = points->padded,
	.random = seed};
	int			ngroups;
	double		share;

	train.want = want < points->n ? want : points->n;
	if (train.want < 1)
		train.want = points->n > 0;
	ngroups = train.want > ONE_GROUP ? (int) (GROUPS * sqrt(train.want) + 0.5) : 1;
	prepare(&train, ngroups);
	if (train.want > 0)
	{
		share = (1 - 2 * GROUPS_SHARE) / (1 + polish);
		make_groups(&train);
		cluster_groups(&train, share);
		regroup(&train);
		for (int round = 0; round < polish; round++)
		{
			label_points(&train, train.result, true, share);
			take_means(&train);
			regroup(&train);
		}
	}
	host->release(train.fresh_chunk);
	host->release(train.assign);
	host->release(train.start);
	host->release(train.order);
	host->release(train.label);
	host->release(train.buffer_chunk);
	if (host->progress)
		host->progress(1);
	return train.result;
}

void
spf_centroids_free(SpfCentroids *centroids, const SpfKmeansHost *host)
{
	host->release(centroids->memory);
	host->release(centroids->start);
	host->release(centroids);
}
