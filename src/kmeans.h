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

/* What the surroundings lend: all functions may leave by longjmp. */
typedef struct SpfKmeansHost
{
	void	   *(*alloc) (size_t bytes);
	void		(*release) (void *chunk);
	void		(*interrupt) (void);	/* called at least every few milliseconds */
	void		(*progress) (double done);	/* 0 .. 1, never backwards; may be NULL */
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
	bool		warm;			/* centroids[] holds where to start from; else seeds are drawn */
} SpfKmeansOptions;

extern int	spf_kmeans(const float *points, int n, int padded, int k,
					   const SpfKmeansOptions *options, const SpfKmeansHost *host,
					   float *centroids, int32_t *assign);

/*
 * out[i * stride + j] = |x[i] - row j|^2 for nx <= SPF_MANY vectors x[i] and nrows
 * rows.  Rows are read into the nearest cache once for all x.
 */
#define SPF_MANY		4

extern void spf_l2sq_many(const float *const *x, int nx, const float *rows, int nrows,
						  int n, float *out, size_t stride);

/*
 * Many centroids, grouped so that the nearest ones are found without looking
 * at all: a group's centroids lie side by side.
 */
typedef struct SpfCentroids
{
	int			padded;
	int			ngroups;
	int			ncentroids;
	float	   *groups;			/* [ngroups x padded]: mean of the group's centroids */
	int32_t    *start;			/* [ngroups + 1]: the group's first centroid */
	float	   *centroids;		/* [ncentroids x padded] */
	void	   *memory;			/* where groups[] and centroids[] are, aligned for the caches */
} SpfCentroids;

/*
 * Train about `want` centroids on the points: hierarchical (groups, then
 * within each group), balanced, then `polish` rounds in which every point
 * goes to the nearest of all centroids and these are recomputed.  May return
 * fewer than `want` where the points are too few or too equal, at least 1 for
 * n >= 1.  Memory beyond the points: the centroids twice, plus 12 bytes a point,
 * plus one group's points as floats (groups are subsampled beyond 64 MB) and 20
 * bytes for each of these.  Everything comes from host->alloc, the result included.
 */
extern SpfCentroids *spf_train(const SpfPoints *points, int want, int polish, uint64_t seed,
							   const SpfKmeansHost *host);

extern void spf_centroids_free(SpfCentroids *centroids, const SpfKmeansHost *host);

/*
 * The (nearly) `want` nearest centroids of x[padded], nearest first: ids to id[],
 * |x - c|^2 to dist2[].  Looks into the `beam` nearest groups.  Returns how many:
 * min(want, what these hold).  `scratch` has spf_nearest_scratch() floats.
 */
extern int	spf_nearest(const SpfCentroids *centroids, const float *x, int want, int beam,
						float *scratch, int32_t *id, float *dist2);

extern size_t spf_nearest_scratch(const SpfCentroids *centroids);

/*
 * The same for m points at once, x[m x padded]: point i's are id[i * want ...],
 * dist2[i * want ...], and found[i] says how many.  A group's centroids are
 * read once for all the points that look into it, which is what counts where
 * the centroids outgrow the cache; a few hundred points, near each other if
 * possible, make a good batch.  `scratch` has spf_nearest_batch_scratch() bytes.
 */
extern void spf_nearest_batch(const SpfCentroids *centroids, const float *x, int m,
							  int want, int beam, void *scratch,
							  int32_t *id, float *dist2, int32_t *found);

extern size_t spf_nearest_batch_scratch(const SpfCentroids *centroids, int m, int beam);

/* A beam with which the nearest centroid is found in at least 99 of 100 cases on real data. */
extern int	spf_default_beam(const SpfCentroids *centroids);

#endif							/* SPF_KMEANS_H */
