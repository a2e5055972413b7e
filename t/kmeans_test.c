/*-------------------------------------------------------------------------
 *
 * kmeans_test.c
 *	  Tests of src/kmeans.c and src/train.c, without PostgreSQL.
 *
 * Links with these, src/record_code.c and all of src/kernels.  Prints a line per
 * group of checks; exits non-zero when one fails.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "code.h"
#include "kernels/kernels.h"
#include "kmeans.h"

static int	passed;
static int	failed;
static int	failed_before;

#define CHECK(ok) check((ok), #ok, __LINE__)

static void
check(bool ok, const char *what, int line)
{
	if (ok)
		passed++;
	else
	{
		failed++;
		printf("  line %d: not so: %s\n", line, what);
	}
}

static void
group(const char *name)
{
	static const char *last;

	if (last)
		printf("%s - %s\n", failed == failed_before ? "ok" : "NOT OK", last);
	failed_before = failed;
	last = name;
}

/* ---- a host that counts ---- */

/* What stands before a chunk: its size, and room for alignment as malloc's. */
#define HEAD			16

static size_t memory_now;
static size_t memory_peak;
static long interrupts;
static double progress_last;
static bool progress_fell;

static void *
host_alloc(size_t bytes)
{
	char	   *chunk = malloc(bytes + HEAD);

	if (chunk == NULL)
		abort();
	/* what is not written must not be read */
	memset(chunk, 0xa5, bytes + HEAD);
	memcpy(chunk, &bytes, sizeof(bytes));
	memory_now += bytes;
	if (memory_now > memory_peak)
		memory_peak = memory_now;
	return chunk + HEAD;
}

static void
host_release(void *chunk)
{
	size_t		bytes;

	memcpy(&bytes, (char *) chunk - HEAD, sizeof(bytes));
	memory_now -= bytes;
	free((char *) chunk - HEAD);
}

static void
host_interrupt(void)
{
	interrupts++;
}

static void
host_progress(double done)
{
	if (done < progress_last || done > 1)
		progress_fell = true;
	progress_last = done;
}

static const SpfKmeansHost host = {host_alloc, host_release, host_interrupt, host_progress, NULL, NULL};

/* ---- data ---- */

static uint64_t dice;

static double
uniform(void)
{
	return (double) (spf_kmeans_random(&dice) >> 11) * 0x1p-53;
}

static float
normal(void)
{
	double		a = uniform() + 1e-300;
	double		b = uniform();

	return (float) (sqrt(-2 * log(a)) * cos(6.283185307179586 * b));
}

static float *
rows(int n, int padded)
{
	float	   *x = calloc((size_t) n * padded + 1, sizeof(float));

	if (x == NULL)
		abort();
	return x;
}

/* Clusters of unequal weight, each of `inner` dimensions, within `padded`. */
static float *
clustered(int n, int padded, int inner, int clusters, uint64_t seed)
{
	float	   *x = rows(n, padded);
	float	   *axes = rows(inner, padded);
	float	   *centre = rows(clusters, inner);

	dice = seed;
	for (int i = 0; i < inner * padded; i++)
		axes[i] = normal() / sqrtf((float) padded);
	for (int i = 0; i < clusters * inner; i++)
		centre[i] = normal();
	for (int i = 0; i < n; i++)
	{
		int			c = (int) (uniform() * uniform() * clusters);

		for (int j = 0; j < inner; j++)
		{
			float		z = centre[c * inner + j] + 0.7f * normal();

			for (int d = 0; d < padded; d++)
				x[(size_t) i * padded + d] += z * axes[j * padded + d];
		}
	}
	free(axes);
	free(centre);
	return x;
}

static SpfPoints
encode(const float *x, int n, int padded)
{
	SpfPoints	points = {.n = n, .padded = padded};
	int8_t	   *codes = malloc((size_t) n * padded + 1);
	float	   *scales = malloc((size_t) n * sizeof(float) + 1);

	for (int i = 0; i < n; i++)
	{
		SpfRecordNumbers numbers;

		spf_record_encode(x + (size_t) i * padded, padded, codes + (size_t) i * padded,
						  &numbers);
		scales[i] = numbers.scale;
	}
	points.codes = codes;
	points.scales = scales;
	return points;
}

static void
free_points(SpfPoints points)
{
	free((void *) points.codes);
	free((void *) points.scales);
}

/* ---- spf_kmeans ---- */

static SpfKmeansOptions
shares(double min_share, double max_share, uint64_t seed)
{
	return (SpfKmeansOptions) {.rounds = 12, .min_share = min_share, .max_share = max_share,
	.seed = seed};
}

/* Cluster, and check what always holds.  Returns the mean squared distance. */
static double
cluster(const float *x, int n, int padded, int k, SpfKmeansOptions how)
{
	float	   *centroids = rows(k, padded);
	int32_t    *assign = malloc((size_t) n * sizeof(int32_t));
	int		   *size = calloc((size_t) k, sizeof(int));
	int			least = n,
				most = 0;
	double		lo = floor(how.min_share * n / k),
				hi = ceil(how.max_share * n / k);
	double		sum = 0,
				off = 0;
	bool		valid = true;

	CHECK(spf_kmeans(x, n, padded, k, &how, &host, centroids, assign) == k);
	for (int i = 0; i < n; i++)
	{
		valid = valid && assign[i] >= 0 && assign[i] < k;
		if (!valid)
			break;
		size[assign[i]]++;
		sum += spf_kernels->l2sq(x + (size_t) i * padded,
								 centroids + (size_t) assign[i] * padded, padded);
	}
	CHECK(valid);
	for (int j = 0; j < k; j++)
	{
		least = size[j] < least ? size[j] : least;
		most = size[j] > most ? size[j] : most;
	}
	CHECK(least >= 1 && least >= lo);
	CHECK(most <= hi);
	/* the centroids are the means */
	for (int d = 0; d < padded && valid; d++)
	{
		double		mean = 0,
					means = 0;

		for (int i = 0; i < n; i++)
			mean += x[(size_t) i * padded + d];
		for (int j = 0; j < k; j++)
			means += (double) size[j] * centroids[(size_t) j * padded + d];
		off = fmax(off, fabs(mean - means) / n);
	}
	CHECK(off < 1e-4);
	free(centroids);
	free(assign);
	free(size);
	return sum / n;
}

static void
test_limits(void)
{
	static const int ks[] = {2, 3, 8, 37, 64};
	float	   *x = clustered(2000, 40, 12, 9, 1);

	group("balance limits");
	for (int i = 0; i < 5; i++)
	{
		cluster(x, 2000, 40, ks[i], shares(2.0 / 3, 4.0 / 3, 5));
		cluster(x, 2000, 40, ks[i], shares(0, 2, 6));
		cluster(x, 2000, 40, ks[i], shares(1, 1, 7));
		cluster(x, 2000, 40, ks[i], shares(0, 1e9, 8));
	}
	for (int n = 2; n < 40; n++)
		for (int k = 2; k <= n && k < 9; k++)
			cluster(x, n, 40, k, shares(0.5, 1.5, (uint64_t) n));
	free(x);
}

static void
test_halves(void)
{
	int			n = 160;
	float	   *x = clustered(n, 128, 20, 3, 2);
	double		free_cost,
				cost;

	group("halves of a posting");
	free_cost = cluster(x, n, 128, 2, shares(0, 2, 1));
	cost = cluster(x, n, 128, 2, shares(2.0 / 3, 2, 1));
	CHECK(cost < 1.2 * free_cost);
	/* one far away point does not get a half of its own */
	for (int d = 0; d < 128; d++)
		x[d] = 100;
	cluster(x, n, 128, 2, shares(2.0 / 3, 4.0 / 3, 1));
	/* two clear clusters of 100 and 60 are told apart */
	for (int i = 0; i < n; i++)
		for (int d = 0; d < 128; d++)
			x[i * 128 + d] = (i < 100 ? -1 : 1) + 0.01f * normal();
	CHECK(cluster(x, n, 128, 2, shares(2.0 / 3, 4.0 / 3, 1)) < 128 * 0.01 * 0.01 * 1.1);
	free(x);
}

static void
test_degenerate(void)
{
	float	   *x = rows(100, 8);
	float		centroids[12 * 8];
	int32_t		assign[100];
	SpfKmeansOptions how = shares(0.5, 1.5, 3);
	bool		fine = true;

	group("equal points, few points");
	for (int i = 0; i < 100 * 8; i++)
		x[i] = 3;
	CHECK(spf_kmeans(x, 100, 8, 4, &how, &host, centroids, assign) == 1);
	for (int i = 0; i < 100; i++)
		fine = fine && assign[i] == 0;
	for (int i = 0; i < 4 * 8; i++)
		fine = fine && centroids[i] == 3;
	CHECK(fine);
	CHECK(spf_kmeans(x, 1, 8, 4, &how, &host, centroids, assign) == 1 && assign[0] == 0);
	CHECK(spf_kmeans(x, 1, 8, 1, &how, &host, centroids, assign) == 1 && assign[0] == 0);
	CHECK(spf_kmeans(x, 0, 8, 1, &how, &host, centroids, assign) == 0);
	x[0] = 5;
	CHECK(spf_kmeans(x, 2, 8, 4, &how, &host, centroids, assign) == 2);
	CHECK(assign[0] != assign[1]);
	CHECK(spf_kmeans(x, 100, 8, 1, &how, &host, centroids, assign) == 1);

	/* one differs, or few values: the limits hold all the same */
	for (int k = 2; k < 12; k++)
		cluster(x, 100, 8, k, how);
	for (int i = 0; i < 100; i++)
		x[i * 8] = (float) (i % 3);
	for (int k = 2; k < 12; k++)
		cluster(x, 100, 8, k, how);
	cluster(x, 12, 8, 12, how);

	/* numbers that overflow when squared do no harm */
	for (int i = 0; i < 100 * 8; i++)
		x[i] = i % 7 == 0 ? 3e38f : -3e38f;
	for (int k = 2; k < 12; k++)
	{
		CHECK(spf_kmeans(x, 100, 8, k, &how, &host, centroids, assign) >= 1);
		for (int i = 0; i < 100; i++)
			fine = fine && assign[i] >= 0 && assign[i] < k;
	}
	CHECK(fine);
	free(x);
}

static void
test_determinism(void)
{
	float	   *x = clustered(1500, 24, 8, 20, 4);
	float	   *a = rows(30, 24),
			   *b = rows(30, 24);
	int32_t    *assign = malloc(1500 * sizeof(int32_t));
	size_t		bytes = 30 * 24 * sizeof(float);
	SpfKmeansOptions how = shares(0.5, 1.5, 11);

	group("the same for the same seed");
	spf_kmeans(x, 1500, 24, 30, &how, &host, a, assign);
	spf_kmeans(x, 1500, 24, 30, &how, &host, b, assign);
	CHECK(memcmp(a, b, bytes) == 0);
	how.seed = 12;
	spf_kmeans(x, 1500, 24, 30, &how, &host, b, assign);
	CHECK(memcmp(a, b, bytes) != 0);
	/* a warm start from an answer that is at rest, without prices, gives that answer */
	free(x);
	x = clustered(1500, 24, 8, 1, 4);
	how.rounds = 200;
	how.min_share = 0;
	how.max_share = 1e9;
	spf_kmeans(x, 1500, 24, 6, &how, &host, a, assign);
	memcpy(b, a, bytes);
	how.warm = true;
	spf_kmeans(x, 1500, 24, 6, &how, &host, b, assign);
	CHECK(memcmp(a, b, bytes) == 0);
	free(x);
	free(a);
	free(b);
	free(assign);
}

/* ---- spf_train and spf_nearest ---- */

/* Memory that begins at a line of the cache, counted; what to release stands before it. */
static void *
line_alloc(size_t bytes)
{
	char	   *chunk = host_alloc(bytes + 64 + sizeof(void *));
	char	   *at = (char *) (((uintptr_t) chunk + sizeof(void *) + 63) & ~(uintptr_t) 63);

	memcpy(at - sizeof(void *), &chunk, sizeof(void *));
	return at;
}

static void
line_release(void *at)
{
	void	   *chunk;

	memcpy(&chunk, (char *) at - sizeof(void *), sizeof(void *));
	host_release(chunk);
}

/* ---- those who take part: threads, each with its own view of what is shared ---- */

typedef struct Member
{
	pthread_t	thread;
	SpfTrain   *train;
	int			step;
} Member;

typedef struct Team
{
	int			n;
	Member		member[3];
} Team;

static void *
take_part(void *arg)
{
	Member	   *member = arg;

	spf_train_step(member->train, member->step);
	return NULL;
}

static void
together(void *state, int step)
{
	Team	   *team = state;

	for (int i = 1; i < team->n; i++)
	{
		team->member[i].step = step;
		if (pthread_create(&team->member[i].thread, NULL, take_part, &team->member[i]) != 0)
			abort();
	}
	spf_train_step(team->member[0].train, step);
	for (int i = 1; i < team->n; i++)
		pthread_join(team->member[i].thread, NULL);
}

/* The others' memory is not counted. */
static void *
plain_alloc(size_t bytes)
{
	void	   *chunk = malloc(bytes);

	if (chunk == NULL)
		abort();
	return chunk;
}

static void
no_interrupt(void)
{
}

static size_t
centroids_space(int padded, int want)
{
	return spf_centroids_space(padded, want, spf_groups_for(want));
}

static SpfCentroids *
train_together(const SpfPoints *points, int want, int polish, uint64_t seed, int members)
{
	static const SpfKmeansHost others = {plain_alloc, free, no_interrupt, NULL, NULL, NULL};
	SpfCentroids *c = host_alloc(sizeof(SpfCentroids));
	Team		team = {.n = members};
	SpfKmeansHost leader = host;
	void	   *result = line_alloc(centroids_space(points->padded, want));
	void	   *work = line_alloc(spf_train_space(points->padded, points->n, want));

	progress_last = 0;
	progress_fell = false;
	if (members > 1)
	{
		leader.together = together;
		leader.team = &team;
	}
	spf_train_init(work, result, points->padded, points->n, want, seed);
	for (int i = 0; i < members; i++)
		team.member[i].train = spf_train_open(work, result, points, i == 0 ? &leader : &others);
	spf_train_lead(team.member[0].train, polish);
	for (int i = 0; i < members; i++)
		spf_train_close(team.member[i].train);
	line_release(work);
	*c = spf_centroids_map(result);
	return c;
}

static SpfCentroids *
train(const SpfPoints *points, int want, int polish, uint64_t seed)
{
	return train_together(points, want, polish, seed, 1);
}

static void
free_centroids(SpfCentroids *c)
{
	line_release(c->memory);
	host_release(c);
}

/* Where the groups and the centroids are, all is as it says. */
static void
check_shape(const SpfCentroids *c, int want)
{
	bool		fine = true;

	CHECK(c->ncentroids >= 1 && c->ncentroids <= want);
	CHECK(c->ngroups >= 1 && c->ngroups <= c->ncentroids);
	CHECK(c->start[0] == 0 && c->start[c->ngroups] == c->ncentroids);
	for (int g = 0; g < c->ngroups; g++)
		fine = fine && c->start[g] < c->start[g + 1];
	for (int j = 0; j < c->ncentroids; j++)
		fine = fine && isfinite(c->scales[j]);
	CHECK(fine);
	CHECK(!progress_fell && progress_last == 1);
}

static float
distance(const SpfCentroids *c, const float *x, int j)
{
	return spf_kernels->l2sq_i8(x, c->codes + (size_t) j * c->padded, c->scales[j], c->padded);
}

/* The nearest of all, by looking at all. */
static int
true_nearest(const SpfCentroids *c, const float *x, float *dist2)
{
	int			best = 0;

	*dist2 = INFINITY;
	for (int j = 0; j < c->ncentroids; j++)
	{
		float		d = distance(c, x, j);

		if (d < *dist2)
		{
			*dist2 = d;
			best = j;
		}
	}
	return best;
}

/* Flat Lloyd k-means from random points: the mean squared distance. */
static double
flat_lloyd(const float *x, int n, int padded, int k, int rounds)
{
	float	   *c = rows(k, padded);
	float	   *dist2 = malloc((size_t) k * sizeof(float));
	int32_t    *assign = malloc((size_t) n * sizeof(int32_t));
	int		   *size = malloc((size_t) k * sizeof(int));
	double		sum = 0;

	for (int j = 0; j < k; j++)
		memcpy(c + (size_t) j * padded, x + (size_t) ((long) j * n / k) * padded,
			   (size_t) padded * sizeof(float));
	for (int round = 0; round < rounds; round++)
	{
		sum = 0;
		for (int i = 0; i < n; i++)
		{
			spf_kernels->l2sq_rows(x + (size_t) i * padded, c, k, padded, dist2);
			assign[i] = 0;
			for (int j = 1; j < k; j++)
				if (dist2[j] < dist2[assign[i]])
					assign[i] = j;
			sum += dist2[assign[i]];
		}
		memset(size, 0, (size_t) k * sizeof(int));
		for (int i = 0; i < n; i++)
			size[assign[i]]++;
		for (int j = 0; j < k; j++)
			if (size[j] > 0)
				memset(c + (size_t) j * padded, 0, (size_t) padded * sizeof(float));
		for (int i = 0; i < n; i++)
			for (int d = 0; d < padded; d++)
				c[(size_t) assign[i] * padded + d] += x[(size_t) i * padded + d] / size[assign[i]];
	}
	free(c);
	free(dist2);
	free(assign);
	free(size);
	return sum / n;
}

static void
test_train(void)
{
	int			n = 20000,
				padded = 48,
				want = 400,
				exact = 0;
	float	   *x = clustered(n, padded, 16, 60, 21);
	SpfPoints	points = encode(x, n, padded);
	SpfCentroids *c;
	void	   *scratch;
	int		   *size = calloc((size_t) want, sizeof(int));
	double		sum = 0,
				near = 0;
	int			largest = 0;
	size_t		before = memory_now,
				result;

	group("training");
	memory_peak = memory_now;
	interrupts = 0;
	c = train(&points, want, 2, 1);
	result = (size_t) want * padded * sizeof(float);
	check_shape(c, want);
	CHECK(c->ncentroids > want * 0.98);
	CHECK(interrupts > 100);
	/* as the header says, one group being at most a few times the mean; the rest is small */
	CHECK(memory_peak - before < centroids_space(padded, want) +
		  spf_train_space(padded, n, want) +
		  (size_t) n * (padded * sizeof(float) + padded + 20) + (1 << 20));
	CHECK(centroids_space(padded, want) < result + (1 << 16));
	CHECK(spf_train_space(padded, n, want) < result + 8 * (size_t) n + (1 << 16));

	group("the nearest, and the quality");
	scratch = malloc(spf_nearest_scratch(c, 1, spf_default_beam(c)));
	for (int i = 0; i < n; i++)
	{
		float		best,
					got;
		int32_t		id,
					found;
		SpfCoded	coded = {points.codes + (size_t) i * padded, points.scales[i]};
		const float *at = x + (size_t) i * padded;

		spf_nearest(c, &coded, 1, 1, spf_default_beam(c), scratch, &id, &got, &found);
		CHECK(found == 1);
		true_nearest(c, at, &best);
		near += distance(c, at, id);
		exact += distance(c, at, id) <= best * 1.00001f;
		sum += best;
		largest = ++size[id] > largest ? size[id] : largest;
	}
	/* what rounding and groups cost, in neighbours and in distance */
	CHECK(near < 1.002 * sum);
	CHECK(exact >= 0.97 * n);
	printf("  nearest found: %.4f, largest cluster %.2f of the mean\n", (double) exact / n,
		   (double) largest * c->ncentroids / n);
	CHECK(largest < 4.0 * n / c->ncentroids);
	{
		double		flat = flat_lloyd(x, n, padded, want, 12);

		printf("  mean squared distance: %.5f, flat k-means %.5f\n", sum / n, flat);
		CHECK(sum / n < 1.03 * flat);
	}
	free_centroids(c);
	CHECK(memory_now == before);
	free(size);
	free(scratch);
	free(x);
	free_points(points);
}

/* All of them are given when all are wanted, and those that are near come first. */
static void
test_nearest(void)
{
	int			n = 6000,
				padded = 24,
				m = 37;
	float	   *x = clustered(n, padded, 10, 30, 31);
	SpfPoints	points = encode(x, n, padded);
	SpfCentroids *c = train(&points, 300, 1, 2);
	int32_t    *id = malloc((size_t) m * 300 * sizeof(int32_t)),
				found[37],
				one[16],
				one_found;
	float	   *dist2 = malloc((size_t) m * 300 * sizeof(float)),
				one_dist2[16];
	SpfCoded	coded[37];
	void	   *scratch = malloc(spf_nearest_scratch(c, m, 1000));
	bool		sorted = true,
				once = true,
				same = true;
	double		off = 0,
				spread = 0;

	group("many nearest, and batches");
	for (int i = 0; i < m; i++)
		coded[i] = (SpfCoded) {points.codes + (size_t) i * padded, points.scales[i]};
	spf_nearest(c, coded, m, 300, 1000, scratch, id, dist2, found);
	for (int i = 0; i < m; i++)
	{
		bool		seen[300] = {0};
		float	   *at = rows(1, padded);
		float	   *zero = rows(1, padded);
		float		norm2;

		spf_record_decode(coded[i].code, coded[i].scale, padded, at);
		norm2 = spf_kernels->l2sq(at, zero, padded);
		CHECK(found[i] == c->ncentroids);
		for (int k = 0; k < found[i]; k++)
		{
			int32_t		this = id[i * 300 + k];
			float		d = dist2[i * 300 + k];

			sorted = sorted && (k == 0 || dist2[i * 300 + k - 1] <= d);
			once = once && !seen[this];
			seen[this] = true;
			off += fabsf(d + norm2 - distance(c, at, this));
			spread += distance(c, at, this);
		}
		free(at);
		free(zero);
	}
	CHECK(sorted && once);
	printf("  distances are off by %.4f of themselves\n", off / spread);
	CHECK(off < 0.01 * spread);
	spf_nearest(c, coded, 1, 0, 1, scratch, id, dist2, found);
	CHECK(found[0] == 0);
	spf_nearest(c, coded, 1, 300, 1, scratch, id, dist2, found);
	CHECK(found[0] < c->ncentroids);

	/* a batch gives what each gives alone */
	for (int size = 1; size <= m; size += 4)
	{
		spf_nearest(c, coded, size, 16, 5, scratch, id, dist2, found);
		for (int i = 0; i < size; i++)
		{
			spf_nearest(c, &coded[i], 1, 16, 5, scratch, one, one_dist2, &one_found);
			same = same && one_found == found[i] &&
				memcmp(one, id + i * 16, (size_t) one_found * sizeof(int32_t)) == 0;
		}
	}
	CHECK(same);
	free_centroids(c);
	free(id);
	free(dist2);
	free(scratch);
	free(x);
	free_points(points);
}

static void
test_train_small(void)
{
	static const int ns[] = {1, 2, 3, 5, 17, 40, 100, 1000};
	static const int wants[] = {1, 2, 3, 16, 17, 50, 400, 5000};
	float	   *x = clustered(1000, 16, 6, 5, 41);
	size_t		before = memory_now;

	group("training on few points");
	for (int i = 0; i < 8; i++)
		for (int w = 0; w < 8; w++)
		{
			SpfPoints	points = encode(x, ns[i], 16);
			SpfCentroids *c = train(&points, wants[w], i % 3, 5);
			int			most = wants[w] < ns[i] ? wants[w] : ns[i];

			check_shape(c, most);
			CHECK(c->ncentroids >= most * 0.7);
			free_centroids(c);
			free_points(points);
		}
	CHECK(memory_now == before);
	free(x);
}

static void
test_train_equal(void)
{
	int			n = 3000;
	float	   *x = rows(n, 16);
	SpfPoints	points;
	SpfCentroids *c;

	group("training on equal points and duplicates");
	for (int values = 1; values <= 50; values = values * 2 + 1)
		for (int polish = 0; polish < 3; polish++)
		{
			for (int i = 0; i < n; i++)
				for (int d = 0; d < 16; d++)
					x[i * 16 + d] = (float) ((i % values * 37 + d * d * (i % values)) % 101) + 1;
			points = encode(x, n, 16);
			c = train(&points, 200, polish, 6);
			check_shape(c, 200);
			if (values == 1)
				CHECK(c->ncentroids == 1);
			free_centroids(c);
			free_points(points);
		}
	/* nine of ten the same, the rest real */
	free(x);
	x = clustered(n, 16, 6, 5, 42);
	for (int i = 0; i < n; i++)
		if (i % 10)
			memcpy(x + (size_t) i * 16, x, 16 * sizeof(float));
	points = encode(x, n, 16);
	c = train(&points, 100, 2, 6);
	check_shape(c, 100);
	CHECK(c->ncentroids > 8);
	free_centroids(c);
	free_points(points);
	/* all zero */
	memset(x, 0, (size_t) n * 16 * sizeof(float));
	points = encode(x, n, 16);
	c = train(&points, 100, 1, 6);
	check_shape(c, 100);
	CHECK(c->ncentroids == 1);
	free_centroids(c);
	free_points(points);
	free(x);
}

static void
test_train_determinism(void)
{
	float	   *x = clustered(4000, 32, 10, 20, 51);
	SpfPoints	points = encode(x, 4000, 32);
	SpfCentroids *a = train(&points, 150, 2, 9);
	SpfCentroids *b = train(&points, 150, 2, 9);

	group("training: the same for the same seed");
	CHECK(a->ncentroids == b->ncentroids && a->ngroups == b->ngroups);
	CHECK(memcmp(a->codes, b->codes, (size_t) a->ncentroids * 32) == 0);
	CHECK(memcmp(a->start, b->start, ((size_t) a->ngroups + 1) * sizeof(int32_t)) == 0);
	free_centroids(b);
	for (int members = 2; members <= 3; members++)
	{
		b = train_together(&points, 150, 2, 9, members);
		CHECK(a->ncentroids == b->ncentroids);
		CHECK(memcmp(a->codes, b->codes, (size_t) a->ncentroids * 32) == 0);
		CHECK(!progress_fell && progress_last == 1);
		free_centroids(b);
	}
	b = train(&points, 150, 2, 10);
	CHECK(a->ncentroids != b->ncentroids ||
		  memcmp(a->codes, b->codes, (size_t) a->ncentroids * 32) != 0);
	free_centroids(a);
	free_centroids(b);
	free(x);
	free_points(points);
}

/* Centroids from elsewhere are only grouped: none is lost, none changed but by rounding, equal ones are one. */
static void
test_given(void)
{
	int			padded = 24,
				want = 500;
	float	   *x = clustered(want, padded, 10, 30, 61);
	void	   *work = line_alloc(spf_train_space(padded, want, want));
	void	   *result = line_alloc(centroids_space(padded, want));
	SpfTrain   *t;
	SpfCentroids c;
	int			found = 0;

	group("centroids from elsewhere");
	for (int i = 0; i < want; i += 5)
		memcpy(x + (size_t) i * padded, x, (size_t) padded * sizeof(float));
	spf_train_init(work, result, padded, want, want, 3);
	t = spf_train_open(work, result, NULL, &host);
	memcpy(spf_train_given(t), x, (size_t) want * padded * sizeof(float));
	spf_train_take(t, want);
	spf_train_close(t);
	c = spf_centroids_map(result);
	CHECK(c.ncentroids == want - want / 5 + 1);
	for (int i = 0; i < want; i++)
		for (int j = 0; j < c.ncentroids; j++)
			if (distance(&c, x + (size_t) i * padded, j) <
				1e-4 * spf_kernels->dot(x + (size_t) i * padded, x + (size_t) i * padded, padded))
			{
				found++;
				break;
			}
	CHECK(found == want);
	line_release(work);
	line_release(result);
	free(x);
}

int
main(void)
{
	test_limits();
	test_halves();
	test_degenerate();
	test_determinism();
	test_train();
	test_nearest();
	test_train_small();
	test_train_equal();
	test_train_determinism();
	test_given();
	group(NULL);
	CHECK(memory_now == 0);
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
