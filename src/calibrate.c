/*-------------------------------------------------------------------------
 *
 * calibrate.c
 *	  How many postings to probe: measured on the index's own vectors.
 *
 * Some of the indexed vectors serve as queries.  For each, a deep search gives its nearest
 * neighbours, and for each neighbour the rank of the first posting that held it, and with
 * it what nprobe, or what margin (effort.h), a search needs to find it.  The share of the
 * neighbours of all queries that need less is then known for every number at once: quantiles.
 *
 * Queries differ much, so that it takes many of them; and deep searches are dear.  So there are two
 * rounds: few deep searches, and then many that are for few neighbours only, and stop where hardly
 * any of these are missed.  How many are, and what it takes to find them, the deep ones tell.
 *
 * Queries of users are not rows.  With the query's own row left out, what rows need turned out
 * to be what the real queries of two data sets need, but for 0.01 of recall; moving the
 * samples away from the rows (a fifth of the way to another one) is worse: it asks for half as
 * many probes again.  docs/architecture.md has the figures.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <float.h>
#include <math.h>

#include "common/pg_prng.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "calibrate.h"
#include "effort.h"
#include "posting.h"
#include "record.h"
#include "route.h"

/* Queries: as many as go with the square root of the postings, as all searches do. */
#define DEEP_ROOT		1
#define MIN_DEEP		64
#define MAX_DEEP		200
#define SHALLOW_SHARE	10		/* so many shallow ones for each deep one */

/* Postings whose ways are found at a time, as in scans */
#define PORTION			8

/* What is found at once needs no more than this margin. */
#define LEAST_MARGIN	0.001f

/* A deep search is deep enough at this margin for the largest k. */
#define DEEPEST			250

static const double targets[SPF_CAL_TARGETS] = {0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999};
/* targets[] whose neighbours a deep search must not miss */
#define DEEP_TARGET		5
/* and what share shallow ones do not miss */
#define SHALLOW_FOUND	0.995

static const int ks[SPF_CAL_KS] = {1, 10, 30, 100};
/* of these, the first so many are for shallow searches as well */
#define SHALLOW_KS		2
#define SUM_SHALLOW		11

double
spf_calibration_target(int i)
{
	return targets[i];
}

int
spf_calibration_k(int i)
{
	return ks[i];
}

/* ---- when ---- */

/*
 * Entries that came or went, by what is counted anyway: a posting splits after about a third of its
 * limit was added, and vacuum counts what it sweeps.
 */
static uint64
calibration_changes(const SpfMeta *meta)
{
	return (uint64) Max(meta->counters.splits * (int64) (meta->split_limit / 3 + 1) +
						meta->counters.swept, 0);
}

bool
spf_calibration_due(const SpfMeta *meta)
{
	const SpfCalibration *cal = &meta->calibration;
	double		postings = meta->counters.postings[0];
	double		entries = postings * meta->split_limit * 2 / 3;
	double		changes = (double) calibration_changes(meta) - (double) cal->changed;

	if (meta->dim == 0 || meta->root_level == 0)
		return false;
	return cal->samples == 0 || changes > entries / 8 ||
		postings > cal->postings * 1.25 || postings < cal->postings * 0.75;
}

bool
spf_calibrate_if_due(SpfIndex *index)
{
	SpfMeta		meta;

	spf_meta_read(index->rel, &meta);
	if (!spf_calibration_due(&meta))
		return false;
	spf_calibrate(index);
	return true;
}

/* ---- measuring ---- */

/* An entry met in a deep search. */
typedef struct SpfMet
{
	SpfRecordRef ref;
	float		lower;
	int			rank;			/* of its posting */
} SpfMet;

/* A vector met: one or more entries. */
typedef struct SpfNeighbor
{
	const SpfMet *entries;		/* by rank */
	int			n;
	float		score;			/* the least lower bound; then the record's */
} SpfNeighbor;

/* Neighbours of a query, for all values of k */
#define SUM_KS			141

/* What the neighbours of a query need, by k. */
typedef struct SpfCalibrationSample
{
	int			found[SPF_CAL_KS];
	float		ranks[SUM_KS];	/* as nprobe: ks[0] of them, then ks[1], and so on */
	float		needs[SUM_KS];	/* the same as margins */
	float		stops[SUM_SHALLOW];	/* what SpfCalibrationRun.stop must be for a shallow search */
} SpfCalibrationSample;

/* Searches of up to a certain depth, shared by all who measure: each sample is one's own. */
typedef struct SpfCalibrationRun
{
	int			nsamples;		/* queries */
	int			depth;			/* probes of a search, at most */
	bool		by_rank;		/* scores are no distances, so that there is no margin */
	float		stop;			/* a margin, or number of probes, that the largest k may reach */
	int			nks;			/* values of k: the first so many of ks[] */
	SpfCalibrationSample samples[FLEXIBLE_ARRAY_MEMBER];
} SpfCalibrationRun;

typedef struct SpfCalibrator
{
	SpfIndex   *index;
	SpfMeta		meta;
	SpfCalibrationRun *run;
	pg_prng_state prng;
	int			number;			/* of the sample at hand */
	SpfCalibrationSample *sample;

	/* of the query at hand */
	const SpfQuery *query;
	SpfRecordRef self;			/* the row that is the query: not among its neighbours */
	SpfProbe	probe;
	SpfBest		best[SPF_CAL_KS];
	float		kth[SPF_CAL_KS];	/* best scores so far, as scans see them */
	float	   *margins[SPF_CAL_KS];	/* [rank]: of the postings up to this one, the most */
	int			rank;
	float		nearest;		/* score of the first posting's centroid */
	SpfMet	   *met;
	int			nmet;
	int			space;
	SpfNeighbor *neighbors;		/* the nearest first */
	int			nneighbors;
	int			next;			/* of these, the next whose record is to come */
	int			known;			/* and how many records came */
} SpfCalibrator;

/*
 * A row's vector, decoded, and its record; false if none was met.  Rows of a built index lie near
 * those that they are like, so drawing them evenly from all of it makes for a fairer sample than
 * chance; and one query after the other finds much of what it needs in the processor's caches.
 */
static bool
pick_row(SpfCalibrator *cal, float *x, SpfRecordRef *ref)
{
	SpfIndex   *index = cal->index;
	BlockNumber nblocks = RelationGetNumberOfBlocks(index->rel);

	for (int tries = 0; tries < 50; tries++)
	{
		double		place = (double) cal->number / cal->run->nsamples +
			tries * 0.6180339887498949;
		BlockNumber block = 1 + (BlockNumber) ((place - floor(place)) * (nblocks - 1));
		Buffer		buf = spf_record_page(index->rel, block, BUFFER_LOCK_SHARE);
		bool		found = false;

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf))
			continue;
		if (spf_record_offsets(buf) > 0)
		{
			uint16		offset = pg_prng_uint64_range(&cal->prng, 1, spf_record_offsets(buf));
			uint16		version = spf_record_version_at(index, buf, offset);
			SpfRecordView view;

			if (version != 0 && spf_record_view(index, buf, offset, version, 0, &view))
			{
				spf_record_decode(view.code, view.numbers.scale, index->padded, x);
				ref->block = block;
				ref->offset = offset;
				ref->version = version;
				found = true;
			}
		}
		UnlockReleaseBuffer(buf);
		if (found)
			return true;
	}
	return false;
}

static void
keep_entry(void *state, const uint8_t *block, uint32 mask, const float *est, const float *lower)
{
	SpfCalibrator *cal = state;

	while (mask != 0)
	{
		int			lane = pg_rightmost_one_pos32(mask);
		SpfRecordRef ref;

		mask &= mask - 1;
		if (!(lower[lane] < cal->probe.threshold))
			continue;
		ref = spf_posting_ref(cal->index, block, lane);

		/* what is superseded helps searches, but will be gone before the next calibration */
		if (spf_record_ref_cmp(&ref, &cal->self) == 0 ||
			spf_posting_superseded(cal->index, block, lane))
			continue;
		if (cal->nmet == cal->space)
			cal->met = repalloc_huge(cal->met, (cal->space *= 2) * sizeof(SpfMet));
		cal->met[cal->nmet].ref = ref;
		cal->met[cal->nmet].lower = lower[lane];
		cal->met[cal->nmet++].rank = cal->rank;
		for (int i = 0; i < cal->run->nks; i++)
			cal->kth[i] = spf_best_add(&cal->best[i], 2 * est[lane] - lower[lane]);
		cal->probe.threshold = cal->kth[cal->run->nks - 1];
	}
}

/* Note what margin the posting at this rank needs. */
static void
note_margins(SpfCalibrator *cal, float score)
{
	if (cal->rank == 0)
		cal->nearest = score;
	for (int i = 0; i < cal->run->nks; i++)
	{
		SpfProgress progress = {
			.probed = cal->rank,.nearest = cal->nearest,.next = score,.best = cal->kth[i],
			.mean_rank = spf_best_mean_rank(&cal->best[i])
		};
		float		before = cal->rank > 0 ? cal->margins[i][cal->rank - 1] : 0;

		cal->margins[i][cal->rank] = Max(before, Min(spf_effort_of(&progress), FLT_MAX));
		cal->best[i].rank = cal->rank;
	}
}

/* What is compared with the run's stop, ks[i] being the largest k. */
static float
stop_of(const SpfCalibrator *cal, int i, int rank)
{
	return cal->run->by_rank ? rank + 1 : cal->margins[i][rank];
}

/* The search: all that may be among the nearest goes to cal->met. */
static void
search(SpfCalibrator *cal)
{
	int			nks = cal->run->nks;
	SpfWork		work = {0};
	SpfStream  *stream;
	SpfRoute	routes[PORTION];
	int			n = 0;

	for (int i = 0; i < nks; i++)
	{
		spf_best_init(&cal->best[i], (double) ks[i] * cal->index->replicas,
					  SPF_SPARE_BEST);
		cal->kth[i] = INFINITY;
		cal->margins[i] = palloc(cal->run->depth * sizeof(float));
	}
	cal->probe = (SpfProbe)
	{
		.index = cal->index,.query = cal->query,.level = 0,.caution = 1,.work = &work,
			.found = keep_entry,.state = cal,.threshold = INFINITY
	};
	cal->space = 1024;
	cal->met = palloc(cal->space * sizeof(SpfMet));
	cal->nmet = 0;
	stream = spf_stream_open(cal->index, &cal->meta, cal->query, 1, SPF_EXPECTED_PROBES, SPF_TO_SEARCH,
							 &work);
	for (cal->rank = 0; cal->rank < cal->run->depth; cal->rank++)
	{
		int			i = cal->rank % PORTION;

		if (i == 0)
			n = spf_stream_next(stream, routes, PORTION);
		if (i >= n)
			break;
		note_margins(cal, routes[i].score);
		if (stop_of(cal, nks - 1, cal->rank) > cal->run->stop)
			break;
		(void) spf_probe_postings(&cal->probe, &routes[i], 1);
	}
}

static int
compare_met(const void *a, const void *b)
{
	const SpfMet *x = a;
	const SpfMet *y = b;
	int			order = spf_record_ref_cmp(&x->ref, &y->ref);

	return order != 0 ? order : x->rank - y->rank;
}

static int
compare_neighbors(const void *a, const void *b)
{
	const SpfNeighbor *x = a;
	const SpfNeighbor *y = b;

	return x->score < y->score ? -1 : x->score > y->score;
}

/* Put the entries of each vector together, of those that may be among the nearest. */
static void
group_met(SpfCalibrator *cal)
{
	SpfNeighbor *last = NULL;
	int			kept = 0;

	for (int i = 0; i < cal->nmet; i++)
	{
		if (cal->met[i].lower <= cal->probe.threshold)
			cal->met[kept++] = cal->met[i];
	}
	cal->nmet = kept;
	qsort(cal->met, cal->nmet, sizeof(SpfMet), compare_met);
	cal->neighbors = palloc(Max(cal->nmet, 1) * sizeof(SpfNeighbor));
	cal->nneighbors = 0;
	for (int i = 0; i < cal->nmet; i++)
	{
		const SpfMet *met = &cal->met[i];

		if (last == NULL || spf_record_ref_cmp(&met->ref, &last->entries->ref) != 0)
		{
			last = &cal->neighbors[cal->nneighbors++];
			*last = (SpfNeighbor) {.entries = met,.score = met->lower};
		}
		last->n++;
		last->score = Min(last->score, met->lower);
	}
}

/* A neighbour's record was read: they come in the order in which they were asked for. */
static void
take_neighbor(void *state, SpfRecordRef ref, const SpfRecordView *view)
{
	SpfCalibrator *cal = state;
	float		lower;

	while (spf_record_ref_cmp(&ref, &cal->neighbors[cal->next].entries->ref) != 0)
		cal->next++;
	cal->neighbors[cal->known] = cal->neighbors[cal->next++];
	spf_query_record(cal->query, view->code, &view->numbers,
					 &cal->neighbors[cal->known++].score, &lower);
}

/* Replace bounds by record distances, leaving out what is gone. */
static void
read_neighbors(SpfCalibrator *cal)
{
	SpfRecordRef refs[SPF_RECORD_BATCH];
	int			n = 0;

	group_met(cal);
	cal->next = cal->known = 0;
	for (int i = 0; i < cal->nneighbors; i++)
	{
		refs[n++] = cal->neighbors[i].entries->ref;
		if (n == SPF_RECORD_BATCH || i == cal->nneighbors - 1)
		{
			spf_record_read_batch(cal->index, refs, n, 0, take_neighbor, cal);
			n = 0;
		}
	}
	cal->nneighbors = cal->known;
	qsort(cal->neighbors, cal->known, sizeof(SpfNeighbor), compare_neighbors);
}

/*
 * At what rank does a search for k rows find this one of them?  Where an entry's bound, which is but a
 * probable one, is not beyond the distance of the next one behind them: or k others are given
 * first.
 */
static int
rank_found(const SpfNeighbor *neighbor, float next)
{
	for (int i = 0; i < neighbor->n; i++)
	{
		if (neighbor->entries[i].lower <= next)
			return neighbor->entries[i].rank;
	}
	return -1;
}

/* Note what it takes to find the neighbours. */
static void
note_needs(SpfCalibrator *cal)
{
	int			start = 0;

	for (int i = 0; i < cal->run->nks && cal->nneighbors > 0; start += ks[i++])
	{
		int			k = Min(ks[i], cal->nneighbors);
		float		next = k < cal->nneighbors ? cal->neighbors[k].score : INFINITY;

		for (int j = 0; j < k; j++)
		{
			int			rank = rank_found(&cal->neighbors[j], next);
			int			n = start + cal->sample->found[i]++;

			/* what no probe finds needs all of them */
			if (rank < 0)
				rank = cal->rank - 1;
			cal->sample->ranks[n] = rank + 1;

			/* a margin that is not above it would not do */
			cal->sample->needs[n] = nextafterf(cal->margins[i][rank], FLT_MAX);
			if (i < SHALLOW_KS)
				cal->sample->stops[n] = stop_of(cal, SHALLOW_KS - 1, rank);
		}
	}
}

static void
measure_query(SpfCalibrator *cal)
{
	SpfIndex   *index = cal->index;
	float	   *x = palloc(index->padded * sizeof(float));

	if (!pick_row(cal, x, &cal->self))
		return;
	cal->query = spf_index_row_query(index, x);
	search(cal);
	read_neighbors(cal);
	note_needs(cal);
}

/* ---- alone ---- */

typedef struct SpfAlone
{
	SpfIndex   *index;
	void	   *room;
	int64		next;
} SpfAlone;

static void *
alone_room(void *team, Size size)
{
	return ((SpfAlone *) team)->room = palloc_extended(size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static bool
alone_claim(void *team, int64 samples, int64 *sample)
{
	*sample = ((SpfAlone *) team)->next++;
	return *sample < samples;
}

static void
alone_run(void *team, int samples)
{
	SpfAlone   *alone = team;
	SpfCalibrateTeam self = {.claim = alone_claim,.team = team};

	alone->next = 0;
	spf_calibrate_help(alone->index, alone->room, &self);
}

/* ---- together ---- */

void
spf_calibrate_help(SpfIndex *index, void *room, const SpfCalibrateTeam *team)
{
	SpfCalibrator cal = {.index = index,.run = room};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "spfresh calibration query",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int64		number;

	spf_meta_read(index->rel, &cal.meta);
	while (team->claim(team->team, cal.run->nsamples, &number))
	{
		/* whoever measures it, a sample is the same */
		pg_prng_seed(&cal.prng, 1 + number);
		cal.number = (int) number;
		cal.sample = &cal.run->samples[number];
		measure_query(&cal);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* ---- what was measured ---- */

/* What a neighbour needs, and its share of all neighbours. */
typedef struct SpfNeed
{
	float		need;
	float		share;
} SpfNeed;

/* The table that is made of needs: of numbers of probes or of margins, for ks[k]. */
typedef struct SpfWanted
{
	int			k;
	bool		margins;
} SpfWanted;

static int
compare_needs(const void *a, const void *b)
{
	const SpfNeed *x = a;
	const SpfNeed *y = b;

	return x->need < y->need ? -1 : x->need > y->need;
}

/*
 * What neighbours need, without those that searches with this stop find; it may be negative.  Returns
 * how many, and in *all the number with those left out.
 */
static int
collect(const SpfCalibrationRun *run, SpfWanted wanted, float stop, SpfNeed *needs, int *all)
{
	int			start = 0;
	int			n = 0;

	*all = 0;
	for (int i = 0; i < wanted.k; i++)
		start += ks[i];
	for (int s = 0; s < run->nsamples; s++)
	{
		const SpfCalibrationSample *sample = &run->samples[s];

		for (int i = start; i < start + sample->found[wanted.k]; i++)
		{
			*all += 1;
			if (stop < 0 || sample->stops[i] > stop)
				needs[n++].need = wanted.margins ? sample->needs[i] : sample->ranks[i];
		}
	}
	return n;
}

static void
share_out(SpfNeed *needs, int n, double share)
{
	for (int i = 0; i < n; i++)
		needs[i].share = share / n;
}

/* The least need, of those in order, that this share of all neighbours does not exceed. */
static float
quantile(const SpfNeed *needs, int n, double target)
{
	double		share = 0;

	for (int i = 0; i < n; i++)
	{
		share += needs[i].share;
		if (share > target)
			return needs[i].need;
	}
	return needs[n - 1].need;
}

/*
 * All needs, in order.  What shallow searches find is by these, and the rest by the deep ones.
 * Returns how many; 0 if there are none.
 */
static int
order_needs(const SpfCalibrationRun *deep, const SpfCalibrationRun *shallow, SpfWanted wanted,
			SpfNeed *needs)
{
	bool		both = shallow != NULL && wanted.k < SHALLOW_KS;
	int			all;
	int			n = collect(deep, wanted, both ? shallow->stop : -1, needs, &all);

	share_out(needs, n, all > 0 ? (double) n / all : 0);
	if (both && all > 0)
	{
		double		rest = 1 - (double) n / all;
		int			m = collect(shallow, wanted, -1, needs + n, &all);

		share_out(needs + n, m, rest);
		n += m;
	}
	qsort(needs, n, sizeof(SpfNeed), compare_needs);
	return n;
}

/* Room for the needs of any k */
static SpfNeed *
needs_room(const SpfCalibrationRun *deep, const SpfCalibrationRun *shallow)
{
	Size		most = (Size) deep->nsamples * ks[SPF_CAL_KS - 1];

	if (shallow != NULL)
		most += (Size) shallow->nsamples * ks[SHALLOW_KS - 1];
	return palloc_extended(most * sizeof(SpfNeed), MCXT_ALLOC_HUGE);
}

/* The quantiles of all samples, for each k. */
static void
summarize(const SpfCalibrationRun *deep, const SpfCalibrationRun *shallow, SpfCalibration *result)
{
	SpfNeed    *needs = needs_room(deep, shallow);

	result->samples = 0;
	for (int i = 0; i < SPF_CAL_KS * 2; i++)
	{
		SpfWanted	wanted = {.k = i / 2,.margins = i % 2 == 1};
		int			n = order_needs(deep, shallow, wanted, needs);
		float	   *row = wanted.margins ? result->margin[wanted.k] : result->nprobe[wanted.k];

		if (n == 0)
			return;
		for (int t = 0; t < SPF_CAL_TARGETS; t++)
			row[t] = Max(quantile(needs, n, targets[t]), wanted.margins ? LEAST_MARGIN : 1);
	}
	result->samples = shallow != NULL ? shallow->nsamples : deep->nsamples;
	pfree(needs);
}

/* Search as `plan` says, which has no samples; the samples are the team's until the next measure(). */
static const SpfCalibrationRun *
measure(const SpfCalibrateTeam *team, const SpfCalibrationRun *plan)
{
	SpfCalibrationRun *run = team->room(team->team, offsetof(SpfCalibrationRun, samples) +
										(Size) plan->nsamples * sizeof(SpfCalibrationSample));

	*run = *plan;
	team->run(team->team, run->nsamples);
	return run;
}

/* Measure by deep searches; what they say goes to the result, and a copy of the samples is returned. */
static SpfCalibrationRun *
measure_deeply(const SpfCalibrateTeam *team, bool by_rank, SpfCalibration *result)
{
	double		postings = result->postings;
	SpfCalibrationRun plan = {
		.nsamples = Max(MIN_DEEP, Min(DEEP_ROOT * sqrt(postings), MAX_DEEP)),
		.depth = Min(postings, Max(128, 16 * sqrt(postings))),
		.by_rank = by_rank,
		.stop = by_rank ? INFINITY : DEEPEST,
		.nks = SPF_CAL_KS
	};
	const SpfCalibrationRun *run = measure(team, &plan);
	SpfCalibrationRun *copy;
	Size		size;

	/*
	 * Neighbours that are still found near the end say that there are more behind it.  The
	 * deeper the searches, the fewer will do, or this would be felt.
	 */
	summarize(run, NULL, result);
	while (plan.depth < postings && result->nprobe[SPF_CAL_KS - 1][DEEP_TARGET] > plan.depth / 2)
	{
		plan.depth = Min(postings, (double) plan.depth * 4);
		plan.nsamples = Max(MIN_DEEP / 2, plan.nsamples / 2);
		run = measure(team, &plan);
		summarize(run, NULL, result);
	}
	size = offsetof(SpfCalibrationRun, samples) + run->nsamples * sizeof(SpfCalibrationSample);
	copy = palloc(size);
	memcpy(copy, run, size);
	return copy;
}

/* Measure again, by many shallow searches. */
static void
measure_shallowly(const SpfCalibrateTeam *team, const SpfCalibrationRun *deep,
				  SpfCalibration *result)
{
	SpfNeed    *needs = needs_room(deep, NULL);
	SpfWanted	wanted = {.k = SHALLOW_KS - 1,.margins = !deep->by_rank};
	int			n = order_needs(deep, NULL, wanted, needs);
	SpfCalibrationRun plan = {
		.nsamples = deep->nsamples * SHALLOW_SHARE,
		.depth = deep->depth,
		.by_rank = deep->by_rank,
		.stop = quantile(needs, n, SHALLOW_FOUND),
		.nks = SHALLOW_KS
	};

	pfree(needs);
	summarize(deep, measure(team, &plan), result);
}

/*
 * There is but one nearest neighbour of each query, a tenth of what the ten nearest tell.  As margins
 * hardly change with k, half of what is said of it comes from those.
 */
static void
smooth(SpfCalibration *result)
{
	for (int t = 0; t < SPF_CAL_TARGETS; t++)
		result->margin[0][t] = sqrtf(result->margin[0][t] * result->margin[1][t]);
}

void
spf_calibrate_together(SpfIndex *index, const SpfCalibrateTeam *team)
{
	SpfCalibration result = {0};
	SpfCalibrationRun *deep;
	SpfMeta		meta;

	spf_meta_read(index->rel, &meta);
	if (meta.root_level == 0)
		return;
	result.postings = meta.counters.postings[0];
	result.changed = calibration_changes(&meta);
	deep = measure_deeply(team, meta.metric == SPF_IP, &result);
	if (result.samples > 0)
		measure_shallowly(team, deep, &result);
	pfree(deep);
	if (result.samples > 0)
	{
		smooth(&result);
		spf_meta_set_calibration(index, &result);
	}
}

void
spf_calibrate(SpfIndex *index)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "spfresh calibration",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SpfAlone	alone = {.index = index};
	SpfCalibrateTeam team = {alone_room, alone_run, alone_claim, &alone};

	spf_calibrate_together(index, &team);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
