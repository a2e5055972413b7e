/*-------------------------------------------------------------------------
 *
 * kmeans.c
 *	  Balanced k-means of a handful of points.
 *
 * Two users with different needs.  A posting that splits wants two halves of
 * some hundred points, at once, for it happens within an insert: each round
 * cuts at the sign of the difference of the two distances, or where the limits
 * say.  Training wants a group of some thousand points in some hundred clusters:
 * Lloyd rounds in which a cluster that has become too large or too small
 * gets a price, added to its distances, that makes its neighbours take or
 * give the points at its border (this is the dual of the transport problem that
 * a balanced assignment is, so it costs the least in distance); what the
 * prices leave outside of the limits is moved by force at the end.
 *
 *-------------------------------------------------------------------------
 */
#include "kmeans.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "packed.h"

/* Interrupts are looked at once in so many points (a power of two). */
#define BREATH			16

/* Prices start to act this far into the room between 1 and the limit. */
#define PRICE_ZONE		0.5

/* Change of a price in a round: this share of the mean distance, per unit of log size. */
#define PRICE_STEP		0.05f

/* What a price loses in a round in which it is not called for. */
#define PRICE_DECAY		0.75f

/* A point that might go to another cluster, and what this would cost. */
typedef struct Move
{
	float		cost;
	int32_t		point;
	int32_t		to;
} Move;

typedef struct Work
{
	const SpfKmeansHost *host;
	const float *points;
	int			n;
	int			padded;
	int			k;
	int			lo;				/* no cluster smaller than this ... */
	int			hi;				/* ... nor larger than this */
	uint64_t	random;
	float	   *centroids;
	int32_t    *assign;
	int			lanes;			/* k, rounded up to 16 */
	float	   *dist;			/* [lanes] */
	float	   *price;			/* [lanes] */
	int32_t    *size;			/* [lanes] */
	Move	   *moves;			/* [n] */

	/* points and centroids less the mean of all points, rounded: more than two clusters only */
	float	   *middle;			/* [padded] */
	int8_t	   *codes;			/* [n x padded] */
	float	   *scale;			/* [n] */
	float	   *bias;			/* [n], see SpfMeeting */
	float	   *norm2;			/* [n] */
	SpfPacked	packed;
} Work;

static inline const float *
point(const Work *work, int i)
{
	return work->points + (size_t) i * work->padded;
}

static inline float *
centroid(const Work *work, int j)
{
	return work->centroids + (size_t) j * work->padded;
}

static inline void
breathe(const Work *work, int i)
{
	if ((i & (BREATH - 1)) == 0)
		work->host->interrupt();
}

/* A number in [0, 1). */
static double
chance(Work *work)
{
	return (double) (spf_kmeans_random(&work->random) >> 11) * 0x1p-53;
}

/* ---- moves, cheapest first ---- */

static inline bool
move_before(const Move *a, const Move *b)
{
	/* the point decides among equals: the answer must not depend on the order */
	return a->cost < b->cost || (a->cost == b->cost && a->point < b->point);
}

/* Bring the `want` cheapest of n moves to the front, in no particular order. */
static void
select_moves(Move *moves, int n, int want)
{
	int			left = 0,
				right = n - 1;

	while (left < right)
	{
		Move		pivot = moves[left + (right - left) / 2];
		int			i = left,
					j = right;

		while (i <= j)
		{
			while (move_before(&moves[i], &pivot))
				i++;
			while (move_before(&pivot, &moves[j]))
				j--;
			if (i <= j)
			{
				Move		swap = moves[i];

				moves[i++] = moves[j];
				moves[j--] = swap;
			}
		}
		if (want - 1 <= j)
			right = j;
		else if (want - 1 >= i)
			left = i;
		else
			break;
	}
}

/* Sort n moves, cheapest first: Shell's way, for they are few. */
static void
sort_moves(Move *moves, int n)
{
	int			gap = 1;

	while (gap < n / 3)
		gap = gap * 3 + 1;
	for (; gap > 0; gap /= 3)
		for (int i = gap; i < n; i++)
		{
			Move		move = moves[i];
			int			j = i;

			for (; j >= gap && move_before(&move, &moves[j - gap]); j -= gap)
				moves[j] = moves[j - gap];
			moves[j] = move;
		}
}

/* ---- seeds ---- */

static bool
all_equal(const Work *work)
{
	for (int i = 1; i < work->n; i++)
	{
		breathe(work, i);
		if (spf_kernels->l2sq(point(work, 0), point(work, i), work->padded) > 0)
			return false;
	}
	return true;
}

/* Draw one of n with a probability in proportion to its weight[]. */
static int
draw(Work *work, const float *weight, int n)
{
	double		sum = 0,
				at;

	for (int i = 0; i < n; i++)
		sum += weight[i];
	at = chance(work) * sum;
	for (int i = 0; i < n; i++)
	{
		at -= weight[i];
		if (at < 0 && weight[i] > 0)
			return i;
	}
	/* nothing is left that differs from the seeds, or nothing finite */
	return (int) (spf_kmeans_random(&work->random) % (uint64_t) n);
}

/* Points that seeds are drawn from: all, or one from each of m equal stretches. */
static void
choose_drawn(Work *work, int32_t *drawn, int m)
{
	for (int i = 0; i < m; i++)
	{
		int64_t		low = (int64_t) i * work->n / m;
		int64_t		high = ((int64_t) i + 1) * work->n / m;

		drawn[i] = (int32_t) low;
		if (high - low > 1)
			drawn[i] += (int32_t) (spf_kmeans_random(&work->random) % (uint64_t) (high - low));
	}
}

/* k-means++: each seed is drawn by the square of its distance from those before. */
static void
seed(Work *work, int each)
{
	size_t		row = (size_t) work->padded * sizeof(float);
	int			m = each > 0 && work->n / each > work->k ? work->k * each : work->n;
	float	   *nearest = work->host->alloc((size_t) m * (sizeof(float) + sizeof(int32_t)));
	int32_t    *drawn = (int32_t *) (nearest + m);
	int			chosen;

	choose_drawn(work, drawn, m);
	chosen = (int) (spf_kmeans_random(&work->random) % (uint64_t) m);
	for (int i = 0; i < m; i++)
		nearest[i] = INFINITY;
	for (int j = 0;; j++)
	{
		memcpy(centroid(work, j), point(work, drawn[chosen]), row);
		if (j + 1 == work->k)
			break;
		for (int i = 0; i < m; i++)
		{
			float		dist2 = spf_kernels->l2sq(centroid(work, j), point(work, drawn[i]),
												  work->padded);

			breathe(work, i);
			nearest[i] = dist2 < nearest[i] ? dist2 : nearest[i];
		}
		chosen = draw(work, nearest, m);
	}
	work->host->release(nearest);
}

/* ---- rounds ---- */

/* Put point i into cluster j. */
static inline bool
put(Work *work, int i, int j)
{
	int			was = work->assign[i];

	if (was == j)
		return false;
	if (was >= 0)
		work->size[was]--;
	work->size[j]++;
	work->assign[i] = j;
	return true;
}

/* Round the points, around their mean: only what sets them apart counts. */
static void
round_points(Work *work)
{
	size_t		padded = (size_t) work->padded;

	memset(work->middle, 0, padded * sizeof(float));
	for (int i = 0; i < work->n; i++)
	{
		breathe(work, i);
		spf_kernels->add(work->middle, point(work, i), work->padded);
	}
	for (size_t d = 0; d < padded; d++)
		work->middle[d] /= (float) work->n;
	for (int i = 0; i < work->n; i++)
	{
		SpfMeeting	meeting;

		breathe(work, i);
		work->scale[i] = spf_round_8bit(point(work, i), work->middle, work->padded,
										work->codes + (size_t) i * padded);
		spf_meeting_init(&meeting, work->codes + (size_t) i * padded, work->scale[i],
						 work->padded);
		work->bias[i] = meeting.bias;
		work->norm2[i] = spf_kernels->l2sq(point(work, i), work->middle, work->padded);
	}
}

static void
pack_centroids(Work *work)
{
	for (int j = 0; j < work->k; j++)
	{
		breathe(work, j);
		spf_packed_put(&work->packed, (size_t) j, centroid(work, j), work->middle);
	}
	spf_packed_end(&work->packed, (size_t) work->k);
}

/*
 * Every point to the cluster that is nearest, prices included.  Returns how
 * many moved; *cost is the mean squared distance.
 */
static int
assign_nearest(Work *work, float *cost)
{
	int			lanes = work->lanes;
	int			moved = 0;
	double		sum = 0;
	float		cheapest = 0;

	for (int j = 0; j < work->k; j++)
		cheapest = work->price[j] < cheapest ? work->price[j] : cheapest;
	pack_centroids(work);
	for (int i = 0; i < work->n; i += SPF_MEET)
	{
		int			many = work->n - i < SPF_MEET ? work->n - i : SPF_MEET;
		SpfMeeting	meeting[SPF_MEET];
		float		out[SPF_MEET][16];
		float		least[SPF_MEET];
		float		real[SPF_MEET] = {0};
		int			nearest[SPF_MEET] = {0};
		uint32_t	below[SPF_MEET];

		breathe(work, i);
		for (int m = 0; m < many; m++)
		{
			meeting[m] = (SpfMeeting) {
				.code = work->codes + (size_t) (i + m) * work->padded,
					.twice = 2 * work->scale[i + m], .bias = work->bias[i + m],
					.bar = INFINITY, .out = out[m]
			};
			least[m] = INFINITY;
			nearest[m] = work->assign[i + m] >= 0 ? work->assign[i + m] : 0;
		}
		for (int j = 0; j < lanes; j += 16)
		{
			SpfRows16	rows = spf_packed_rows(&work->packed, (size_t) j / 16);

			spf_kernels->meet(&rows, work->padded, meeting, many, below);
			for (int m = 0; m < many; m++)
			{
				for (; below[m] != 0; below[m] &= below[m] - 1)
				{
					int			l = __builtin_ctz(below[m]);
					float		priced = out[m][l] + work->price[j + l];

					if (priced < least[m])
					{
						least[m] = priced;
						real[m] = out[m][l];
						nearest[m] = j + l;
					}
				}
				meeting[m].bar = least[m] - cheapest;
			}
		}
		for (int m = 0; m < many; m++)
		{
			float		dist2 = real[m] + work->norm2[i + m];

			sum += dist2 > 0 ? dist2 : 0;
			moved += put(work, i + m, nearest[m]);
		}
	}
	*cost = (float) (sum / work->n);
	return moved;
}

/*
 * The same for two clusters, exactly within the limits: by the difference of
 * the two distances, cut at zero or as near to it as the limits allow.
 */
static int
assign_halves(Work *work)
{
	int			least = work->lo > work->n - work->hi ? work->lo : work->n - work->hi;
	int			first = 0,
				moved = 0;

	for (int i = 0; i < work->n; i++)
	{
		Move	   *move = &work->moves[i];

		breathe(work, i);
		spf_kernels->l2sq_rows(point(work, i), work->centroids, 2, work->padded, work->dist);
		move->cost = work->dist[0] - work->dist[1];
		move->point = i;
		if (!(move->cost == move->cost))
			move->cost = 0;		/* infinity less infinity has no order */
		move->to = move->cost >= 0;
		first += !move->to;
	}
	if (first < least || first > work->n - least)
	{
		first = first < least ? least : work->n - least;
		select_moves(work->moves, work->n, first);
		for (int i = 0; i < work->n; i++)
			work->moves[i].to = i >= first;
	}
	for (int i = 0; i < work->n; i++)
		moved += put(work, work->moves[i].point, work->moves[i].to);
	return moved;
}

/* Clusters that are near their limits get dearer or cheaper. */
static void
adapt_prices(Work *work, float cost)
{
	float		mean = (float) work->n / work->k;
	float		above = mean + (float) PRICE_ZONE * (work->hi - mean);
	float		below = mean - (float) PRICE_ZONE * (mean - work->lo);

	for (int j = 0; j < work->k; j++)
	{
		float		size = work->size[j] > 0 ? (float) work->size[j] : 0.5f;

		if (size > above)
			work->price[j] += PRICE_STEP * cost * logf(size / above);
		else if (size < below)
			work->price[j] += PRICE_STEP * cost * logf(size / below);
		else
			work->price[j] *= PRICE_DECAY;
	}
}

static int
largest_cluster(const Work *work)
{
	int			largest = 0;

	for (int j = 1; j < work->k; j++)
		if (work->size[j] > work->size[largest])
			largest = j;
	return largest;
}

/* An empty cluster starts anew from some point of the largest. */
static void
reseed(Work *work, int j)
{
	int			from = largest_cluster(work);
	uint64_t	nth = spf_kmeans_random(&work->random) % (uint64_t) work->size[from];

	for (int i = 0; i < work->n; i++)
		if (work->assign[i] == from && nth-- == 0)
		{
			memcpy(centroid(work, j), point(work, i), (size_t) work->padded * sizeof(float));
			return;
		}
}

/* Each centroid becomes the mean of its points; true where one had none. */
static bool
take_means(Work *work)
{
	int			padded = work->padded;
	bool		empty = false;

	memset(work->centroids, 0, (size_t) work->k * padded * sizeof(float));
	for (int i = 0; i < work->n; i++)
	{
		breathe(work, i);
		spf_kernels->add(centroid(work, work->assign[i]), point(work, i), padded);
	}
	for (int j = 0; j < work->k; j++)
	{
		float	   *c = centroid(work, j);
		float		share = 1.0f / (work->size[j] > 0 ? work->size[j] : 1);

		breathe(work, j);
		for (int d = 0; d < padded; d++)
			c[d] *= share;
		if (work->size[j] == 0)
		{
			reseed(work, j);
			empty = true;
		}
	}
	return empty;
}

/* ---- limits, by force ---- */

/*
 * Moves out of cluster c, each to the nearest other one that has room, for all
 * its points.  Returns how many.
 */
static int
moves_out(Work *work, int c)
{
	int			count = 0;

	for (int i = 0; i < work->n; i++)
	{
		Move	   *move = &work->moves[count];

		breathe(work, i);
		if (work->assign[i] != c)
			continue;
		spf_kernels->l2sq_rows(point(work, i), work->centroids, work->k, work->padded,
							   work->dist);
		move->to = -1;
		for (int j = 0; j < work->k; j++)
			if (j != c && work->size[j] < work->hi &&
				(move->to < 0 || work->dist[j] < work->dist[move->to]))
				move->to = j;
		if (move->to < 0)
			break;
		move->cost = work->dist[move->to] - work->dist[c];
		move->point = i;
		count++;
	}
	return count;
}

/* Moves into cluster c, from all the clusters that can spare a point. */
static int
moves_in(Work *work, int c)
{
	int			count = 0;

	for (int i = 0; i < work->n; i++)
	{
		Move	   *move = &work->moves[count];
		int			own = work->assign[i];

		breathe(work, i);
		if (own == c || work->size[own] <= work->lo)
			continue;
		move->cost = spf_kernels->l2sq(point(work, i), centroid(work, c), work->padded) -
			spf_kernels->l2sq(point(work, i), centroid(work, own), work->padded);
		move->point = i;
		move->to = c;
		count++;
	}
	return count;
}

/*
 * Make the `want` cheapest of the moves, as long as they break no limit.  (Some will
 * not be made when a cluster has filled up or emptied meanwhile; the
 * caller comes again.)
 */
static void
make_moves(Work *work, int count, int want)
{
	if (want < count)
		select_moves(work->moves, count, want);
	else
		want = count;
	sort_moves(work->moves, want);
	for (int i = 0; i < want; i++)
	{
		const Move *move = &work->moves[i];

		if (work->size[move->to] < work->hi &&
			work->size[work->assign[move->point]] > work->lo)
			put(work, move->point, move->to);
	}
}

/*
 * Every cluster within the limits.  This ends: the limits are such that while a
 * cluster is above (below), another has room (to spare), and the cheapest
 * move is always made.  Returns whether anything had to move.
 */
static bool
enforce_limits(Work *work)
{
	bool		moved = false;

	for (int j = 0; j < work->k; j++)
		while (work->size[j] > work->hi)
		{
			int			count = moves_out(work, j);

			make_moves(work, count, work->size[j] - work->hi);
			moved = true;
		}
	for (int j = 0; j < work->k; j++)
		while (work->size[j] < work->lo)
		{
			int			count = moves_in(work, j);

			make_moves(work, count, work->lo - work->size[j]);
			moved = true;
		}
	return moved;
}

/* ---- the whole ---- */

static void
set_limits(Work *work, const SpfKmeansOptions *options)
{
	double		mean = (double) work->n / work->k;
	double		lo = floor(mean * options->min_share);
	double		hi = ceil(mean * options->max_share);

	work->lo = lo > 1 ? (int) lo : 1;
	if (work->lo > work->n / work->k)
		work->lo = work->n / work->k;
	work->hi = hi < work->n ? (int) hi : work->n;
	if (work->hi < (work->n + work->k - 1) / work->k)
		work->hi = (work->n + work->k - 1) / work->k;
}

static void
run_rounds(Work *work, int rounds)
{
	bool		again = true;

	for (int round = 0; round < rounds && again; round++)
	{
		float		cost;

		if (work->k == 2)
			again = assign_halves(work) > 0;
		else
		{
			again = assign_nearest(work, &cost) > 0;
			adapt_prices(work, cost);
		}
		if (take_means(work))
			again = true;
	}
	if (enforce_limits(work))
		(void) take_means(work);
}

/* As many clusters as points, or more: each point is one, the others repeat the last. */
static int
trivial(const float *points, int n, int padded, int k, float *centroids, int32_t *assign)
{
	for (int j = 0; j < k; j++)
		memcpy(centroids + (size_t) j * padded,
			   points + (size_t) (j < n ? j : n - 1) * padded,
			   (size_t) padded * sizeof(float));
	for (int i = 0; i < n; i++)
		assign[i] = i;
	return n;
}

/* All points equal, or one cluster wanted: all centroids are the mean. */
static int
one_cluster(Work *work)
{
	int			k = work->k;

	memset(work->assign, 0, (size_t) work->n * sizeof(int32_t));
	work->k = 1;
	work->size[0] = work->n;
	(void) take_means(work);
	work->k = k;
	for (int j = 1; j < k; j++)
		memcpy(centroid(work, j), centroid(work, 0), (size_t) work->padded * sizeof(float));
	return 1;
}

/* Room for what assign_nearest() needs; returns what to release. */
static void *
prepare_rounding(Work *work)
{
	size_t		padded = (size_t) work->padded;
	size_t		n = (size_t) work->n;
	size_t		packed = spf_packed_space(work->padded, (size_t) work->lanes / 16);
	char	   *memory = work->host->alloc(64 + packed + padded * sizeof(float) +
										   n * (padded + 3 * sizeof(float)));
	char	   *aligned = (char *) (((uintptr_t) memory + 63) & ~(uintptr_t) 63);

	work->packed = spf_packed_map(aligned, work->padded, (size_t) work->lanes / 16);
	work->middle = (float *) (aligned + packed);
	work->scale = work->middle + padded;
	work->bias = work->scale + n;
	work->norm2 = work->bias + n;
	work->codes = (int8_t *) (work->norm2 + n);
	round_points(work);
	return memory;
}

int
spf_kmeans(const float *points, int n, int padded, int k,
		   const SpfKmeansOptions *options, const SpfKmeansHost *host,
		   float *centroids, int32_t *assign)
{
	size_t		lanes = ((size_t) k + 15) & ~(size_t) 15;
	char	   *memory;
	void	   *rounded = NULL;
	int			clusters = k;
	Work		work = {
		.host = host, .points = points, .n = n, .padded = padded, .k = k,
		.random = options->seed, .centroids = centroids, .assign = assign,
	};

	if (n < 1 || k < 1)
		return 0;
	memory = host->alloc((size_t) n * sizeof(Move) +
						 lanes * (2 * sizeof(float) + sizeof(int32_t)));
	work.lanes = (int) lanes;
	work.moves = (Move *) memory;
	work.dist = (float *) (work.moves + n);
	work.price = work.dist + lanes;
	work.size = (int32_t *) (work.price + lanes);
	memset(work.price, 0, lanes * sizeof(float));
	memset(work.size, 0, lanes * sizeof(int32_t));

	if (k == 1 || all_equal(&work))
		clusters = one_cluster(&work);
	else if (n <= k)
		clusters = trivial(points, n, padded, k, centroids, assign);
	else
	{
		set_limits(&work, options);
		if (!options->warm)
			seed(&work, options->seed_points);
		for (int i = 0; i < n; i++)
			assign[i] = -1;
		if (k > 2)
			rounded = prepare_rounding(&work);
		run_rounds(&work, options->rounds > 1 ? options->rounds : 1);
	}
	if (rounded)
		host->release(rounded);
	host->release(memory);
	return clusters;
}
