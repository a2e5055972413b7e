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
 * Queries of users are not rows.  With the query's own row left out, what rows need turned out
 * to be what the real queries of two data sets need, but for 0.005 of recall; moving the
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
#define SAMPLES_ROOT	3
#define MIN_SAMPLES		100
#define MAX_SAMPLES		400

/* Postings whose ways are found at a time, as in scans */
#define PORTION			8

/* What is found at once needs no more than this margin. */
#define LEAST_MARGIN	0.001f

/* A deep search is deep enough at this margin for the largest k. */
#define DEEPEST			600

static const double targets[SPF_CAL_TARGETS] = {0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999};
/* targets[] whose neighbours a deep search must not miss */
#define DEEP_TARGET		5

static const int ks[SPF_CAL_KS] = {1, 10, 30, 100};

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
} SpfCalibrationSample;

/* Searches of up to a certain depth, shared by all who measure: each sample is one's own. */
typedef struct SpfCalibrationRun
{
	int			nsamples;		/* queries */
	int			depth;			/* probes of a deep search, at most */
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
 * those that they are like, so drawing them evenly from all of it, by the golden ratio, makes for a fairer
 * sample than chance.
 */
static bool
pick_row(SpfCalibrator *cal, float *x, SpfRecordRef *ref)
{
	SpfIndex   *index = cal->index;
	BlockNumber nblocks = RelationGetNumberOfBlocks(index->rel);

	for (int tries = 0; tries < 50; tries++)
	{
		double		draw = cal->number + (double) tries * cal->run->nsamples;
		double		place = draw * 0.6180339887498949;
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
		if (spf_record_ref_cmp(&ref, &cal->self) == 0)
			continue;
		if (cal->nmet == cal->space)
			cal->met = repalloc_huge(cal->met, (cal->space *= 2) * sizeof(SpfMet));
		cal->met[cal->nmet].ref = ref;
		cal->met[cal->nmet].lower = lower[lane];
		cal->met[cal->nmet++].rank = cal->rank;
		for (int i = 0; i < SPF_CAL_KS; i++)
			cal->kth[i] = spf_best_add(&cal->best[i], 2 * est[lane] - lower[lane]);
		cal->probe.threshold = cal->kth[SPF_CAL_KS - 1];
	}
}

/* Note what margin the posting at this rank needs. */
static void
note_margins(SpfCalibrator *cal, float score)
{
	for (int i = 0; i < SPF_CAL_KS; i++)
	{
		float		before = cal->rank > 0 ? cal->margins[i][cal->rank - 1] : 0;
		float		margin = 0;

		if (cal->kth[i] < INFINITY && cal->kth[i] > 0)
			margin = Min(spf_effort_of(cal->rank, score, cal->kth[i]), FLT_MAX);
		cal->margins[i][cal->rank] = Max(before, margin);
	}
}

/* The deep search: all that may be among the nearest goes to cal->met. */
static void
search_deeply(SpfCalibrator *cal)
{
	SpfWork		work = {0};
	SpfStream  *stream;
	SpfRoute	routes[PORTION];
	int			n = 0;

	for (int i = 0; i < SPF_CAL_KS; i++)
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
		if (cal->margins[SPF_CAL_KS - 1][cal->rank] > DEEPEST)
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

	for (int i = 0; i < SPF_CAL_KS && cal->nneighbors > 0; start += ks[i++])
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
		}
	}
}

static int
compare_floats(const void *a, const void *b)
{
	float		x = *(const float *) a;
	float		y = *(const float *) b;

	return x < y ? -1 : x > y;
}

/* What finds these shares of all neighbours, and `least` at least. */
static void
quantiles(float *numbers, int n, float least, float *result)
{
	qsort(numbers, n, sizeof(float), compare_floats);
	for (int t = 0; t < SPF_CAL_TARGETS; t++)
		result[t] = Max(numbers[Min((int) (targets[t] * n), n - 1)], least);
}

static void
measure_query(SpfCalibrator *cal)
{
	SpfIndex   *index = cal->index;
	float	   *x = palloc(index->padded * sizeof(float));

	if (!pick_row(cal, x, &cal->self))
		return;
	cal->query = spf_index_row_query(index, x);
	search_deeply(cal);
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

/* The quantiles of all samples, for each k. */
static void
summarize(const SpfCalibrationRun *run, SpfCalibration *result)
{
	float	   *ranks = palloc((Size) run->nsamples * ks[SPF_CAL_KS - 1] * sizeof(float));
	float	   *needs = palloc((Size) run->nsamples * ks[SPF_CAL_KS - 1] * sizeof(float));
	int			start = 0;

	result->samples = 0;
	for (int i = 0; i < SPF_CAL_KS; start += ks[i++])
	{
		int			n = 0;

		for (int s = 0; s < run->nsamples; s++)
		{
			const SpfCalibrationSample *sample = &run->samples[s];

			memcpy(ranks + n, sample->ranks + start, sample->found[i] * sizeof(float));
			memcpy(needs + n, sample->needs + start, sample->found[i] * sizeof(float));
			n += sample->found[i];
		}
		if (n == 0)
			return;
		quantiles(ranks, n, 1, result->nprobe[i]);
		quantiles(needs, n, LEAST_MARGIN, result->margin[i]);
	}
	result->samples = run->nsamples;
	pfree(ranks);
	pfree(needs);
}

/* Measure with searches of up to a certain depth. */
static void
measure(const SpfCalibrateTeam *team, int depth, int nsamples, SpfCalibration *result)
{
	SpfCalibrationRun *run = team->room(team->team, offsetof(SpfCalibrationRun, samples) +
										(Size) nsamples * sizeof(SpfCalibrationSample));

	run->depth = depth;
	run->nsamples = nsamples;
	team->run(team->team, nsamples);
	summarize(run, result);
}

/*
 * There is but one nearest neighbour of each query, a hundredth of what the hundred nearest
 * tell.  As needs change slowly with k, half of what is said of it comes from the others: a line
 * through them, along log k.
 */
static void
smooth(float (*table)[SPF_CAL_TARGETS], float least)
{
	double		along = log((double) ks[1] / ks[0]) / log((double) ks[SPF_CAL_KS - 1] / ks[1]);

	for (int t = 0; t < SPF_CAL_TARGETS; t++)
	{
		double		near = log(table[1][t]);
		double		line = near - along * (log(table[SPF_CAL_KS - 1][t]) - near);

		table[0][t] = Max(exp((log(table[0][t]) + Min(line, near)) / 2), least);
	}
}

void
spf_calibrate_together(SpfIndex *index, const SpfCalibrateTeam *team)
{
	SpfCalibration result = {0};
	SpfMeta		meta;
	double		postings;
	int			depth;
	int			nsamples;

	spf_meta_read(index->rel, &meta);
	if (meta.root_level == 0)
		return;
	result.postings = meta.counters.postings[0];
	result.changed = calibration_changes(&meta);
	postings = result.postings;
	nsamples = Max(MIN_SAMPLES, Min(SAMPLES_ROOT * sqrt(postings), MAX_SAMPLES));
	depth = Min(postings, Max(128, 16 * sqrt(postings)));
	measure(team, depth, nsamples, &result);

	/*
	 * Neighbours that are still found near the end say that there are more behind it.  The
	 * deeper the searches, the fewer will do, or this would be felt.
	 */
	while (depth < postings && result.nprobe[SPF_CAL_KS - 1][DEEP_TARGET] > depth / 2)
	{
		depth = Min(postings, (double) depth * 4);
		nsamples = Max(MIN_SAMPLES / 2, nsamples / 2);
		measure(team, depth, nsamples, &result);
	}
	if (result.samples > 0)
	{
		smooth(result.nprobe, 1);
		smooth(result.margin, LEAST_MARGIN);
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
