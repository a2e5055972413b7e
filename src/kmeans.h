/*-------------------------------------------------------------------------
 *
 * kmeans.h
 *	  Clustering: balanced k-means of a handful, and training of many centroids.
 *
 * Nothing here knows of PostgreSQL: memory, interrupts and progress come
 * through SpfKmeansHost.  Everything is deterministic for a given seed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_KMEANS_H
#define SPF_KMEANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "packed.h"

/* Where rows of floats are aligned to. */
#define SPF_CACHE_LINE	64

static inline size_t
spf_cache_aligned(size_t bytes)
{
	return (bytes + SPF_CACHE_LINE - 1) & ~(size_t) (SPF_CACHE_LINE - 1);
}

/* What the surroundings lend: all functions may leave by longjmp. */
typedef struct SpfKmeansHost
{
	void	   *(*alloc) (size_t bytes);
	void		(*release) (void *chunk);
	void		(*interrupt) (void);	/* called at least every few milliseconds */
	void		(*progress) (double done);	/* 0 .. 1, never backwards; may be NULL */

	/*
	 * Have everyone who takes part call spf_train_step(..., step), oneself included, and
	 * return when all are done.  NULL: there is nobody else.
	 */
	void		(*together) (void *team, int step);
	void	   *team;
} SpfKmeansHost;

/* splitmix64: the one source of chance here, the same on every machine. */
static inline uint64_t
spf_kmeans_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Points held as record codes: point i is scale[i] * codes[i * padded ...]. */
typedef struct SpfPoints
{
	int			n;
	int			padded;
	const int8_t *codes;
	const float *scales;
} SpfPoints;

/*
 * Balanced k-means of n points (floats, n x padded) into k clusters: Lloyd
 * rounds, no cluster smaller than min_share * n / k (rounded down) nor larger
 * than max_share * n / k (rounded up).  centroids[k x padded] and assign[n] are
 * filled, the centroids being the means of what is assigned to them.  Returns
 * the number of clusters, which all have at least one point: k; or n for n < k;
 * or 1 when all points are equal.  Centroids beyond this number repeat the last.
 * For halving a posting 20 rounds are enough to come to rest.
 */
typedef struct SpfKmeansOptions
{
	int			rounds;			/* at most; stops early when nothing moves */
	double		min_share;
	double		max_share;
	uint64_t	seed;
	int			seed_points;	/* seeds are drawn from so many points a cluster; 0: from all */
	bool		warm;			/* centroids[] holds where to start from; else seeds are drawn */
} SpfKmeansOptions;

extern int	spf_kmeans(const float *points, int n, int padded, int k,
					   const SpfKmeansOptions *options, const SpfKmeansHost *host,
					   float *centroids, int32_t *assign);

/*
 * Many centroids, grouped so that the nearest ones are found without looking
 * at all: a group's centroids lie side by side, as codes of 8 bits (centroid j is scales[j] *
 * codes[j * padded ...]) and rounded once more (packed.h).
 * All of it lies in one piece of memory that several processes may look at.
 */
typedef struct SpfCentroids
{
	int			padded;
	int			ngroups;
	int			ncentroids;
	float	   *groups;			/* [ngroups x padded]: mean of the group's centroids */
	int8_t	   *codes;			/* [ncentroids x padded] */
	float	   *scales;			/* [ncentroids] */
	int32_t    *start;			/* [ngroups + 1]: the group's first centroid */
	int32_t    *block;			/* [ngroups + 1]: and its first block of packed ones */
	SpfPacked	packed_groups;
	SpfPacked	packed;
	void	   *memory;			/* the piece: begins at a line of the cache */
} SpfCentroids;

/* Groups that go with so many centroids. */
extern int	spf_groups_for(int centroids);

/* Bytes for at most so many centroids, and to begin there without any: at a line of the cache. */
extern size_t spf_centroids_space(int padded, int most, int most_groups);
extern void spf_centroids_init(void *memory, int padded, int most, int most_groups);

/* Look at those there are, from wherever their memory is mapped to. */
extern SpfCentroids spf_centroids_map(void *memory);

/* Put them in, group by group; at last, make the groups' centres ready to be looked up. */
extern void spf_centroids_clear(SpfCentroids *centroids);
extern void spf_centroids_add(SpfCentroids *centroids, const float *x);
extern void spf_centroids_end_group(SpfCentroids *centroids);
extern void spf_centroids_pack_groups(SpfCentroids *centroids);

/* start[nlabels + 1] and order[n] from label[n]: a counting sort. */
extern void spf_sort_by_label(const int32_t *label, int n, int nlabels, int32_t *start,
							  int32_t *order);

/*
 * Training: hierarchical (groups, then within each group), balanced, then
 * polish rounds in which every point goes to the nearest of all centroids and
 * these are recomputed.  May give fewer than `want` where the points are too few or too
 * equal, at least 1 for n >= 1.
 *
 * What is in `work` and `result` is shared by all who take part; each opens his own
 * view of it, and of the points.  One leads.  The result does not depend on how many
 * there are.  Memory: see spf_train_space(), plus, for each, one group's points as floats and
 * as codes, and 40 bytes for each of these; groups are subsampled beyond 32 MB of that.
 */
typedef struct SpfTrain SpfTrain;

/* Bytes of `work`: the centroids once, 8 bytes a point. */
extern size_t spf_train_space(int padded, int n, int want);

/* Both begin at a line of the cache; want >= 1. */
extern void spf_train_init(void *work, void *result, int padded, int n, int want, uint64_t seed);

extern SpfTrain *spf_train_open(void *work, void *result, const SpfPoints *points,
								const SpfKmeansHost *host);
extern void spf_train_lead(SpfTrain *train, int polish);
extern void spf_train_step(SpfTrain *train, int step);
extern void spf_train_close(SpfTrain *train);

/*
 * No training: `count` centroids from elsewhere, put to spf_train_given() one after the other
 * (want x padded floats, n = want), are only grouped.  Equal ones are taken once.
 */
extern float *spf_train_given(SpfTrain *train);
extern void spf_train_take(SpfTrain *train, int count);

/* A vector of record codes. */
typedef struct SpfCoded
{
	const int8_t *code;
	float		scale;
} SpfCoded;

/*
 * The (nearly) `want` nearest centroids of each of m vectors: vector i's are id[i * want ...],
 * nearest first; dist2[i * want ...] is about |x - c|^2 - |x|^2, and found[i] says how
 * many.  Looks into the `beam` nearest groups.  A group's centroids are
 * read once for all the vectors that look into it; a few hundred, near each other if
 * possible, make a good batch.  `scratch` has spf_nearest_scratch() bytes.
 */
extern void spf_nearest(const SpfCentroids *centroids, const SpfCoded *x, int m,
						int want, int beam, void *scratch,
						int32_t *id, float *dist2, int32_t *found);

extern size_t spf_nearest_scratch(const SpfCentroids *centroids, int m, int beam);

/* A beam with which the nearest centroid is found in at least 99 of 100 cases on real data. */
extern int	spf_default_beam(const SpfCentroids *centroids);

#endif							/* SPF_KMEANS_H */
