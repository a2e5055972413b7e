/*-------------------------------------------------------------------------
 *
 * calibrate.c
 *	  How many postings to probe: measured on the index's own vectors.
 *
 * Some of the indexed vectors serve as queries.  For each, a deep search (many times the
 * probes that any target should need) gives its nearest neighbours, and for each neighbour
 * the rank of the first posting that held it.  How many of the neighbours
 * of all queries are found within n probes is then known for every n at once.
 *
 * Queries of users are not rows.  With the query's own row left out, the probes that rows need
 * turned out to be those that the real queries of two data sets need, but for 0.005 of
 * recall: hence MISS_SHARE.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "common/pg_prng.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "calibrate.h"
#include "posting.h"
#include "record.h"
#include "route.h"
#include "scan.h"

#define SAMPLES			200
#define MAX_K			100

/*
 * Users' queries are somewhat harder than rows, and a mean over samples is not
 * exact: aim at this share of the misses that the target allows.
 */
#define MISS_SHARE		0.9

/* Records read to know a query's MAX_K nearest */
#define MAX_READS		300

static const double targets[SPF_CAL_TARGETS] = {0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999};
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

/* ---- use ---- */

/* The table's value between two targets, along -log(1 - target). */
static double
at_target(const float *row, double target)
{
	int			i = 0;
	double		a;
	double		b;
	double		t;

	if (target <= targets[0])
		return row[0];
	while (i < SPF_CAL_TARGETS - 2 && target > targets[i + 1])
		i++;
	a = -log(1 - targets[i]);
	b = -log(1 - targets[i + 1]);
	t = (-log(1 - Min(target, targets[SPF_CAL_TARGETS - 1])) - a) / (b - a);
	return exp(log(row[i]) + t * (log(row[i + 1]) - log(row[i])));
}

int
spf_choose_nprobe(const SpfMeta *meta, double target, double k)
{
	const SpfCalibration *cal = &meta->calibration;
	double		aim = 1 - MISS_SHARE * (1 - target);
	double		postings = Max((double) meta->counters.postings[0], 1);
	double		nprobe;

	if (cal->samples == 0)
	{
		/* a cautious guess, until there is enough to measure */
		nprobe = 8 + 1.5 * sqrt(postings) * -log10(1 - Min(target, 0.999)) *
			Max(1, pow(k / 10, 0.3));
	}
	else
	{
		int			i = 0;
		double		low;
		double		high;
		double		t;

		while (i < SPF_CAL_KS - 2 && k > ks[i + 1])
			i++;
		low = at_target(cal->nprobe[i], aim);
		high = at_target(cal->nprobe[i + 1], aim);
		t = log(Max(k, 1) / ks[i]) / log((double) ks[i + 1] / ks[i]);
		nprobe = exp(log(low) + t * (log(high) - log(low)));

		/* a posting's share of the neighbours shrinks as postings multiply */
		nprobe *= Max(1, sqrt(postings / cal->postings));
	}
	return (int) Max(1, Min(ceil(nprobe), postings * 2 + 1));
}

bool
spf_calibration_due(const SpfMeta *meta)
{
	double		postings = meta->counters.postings[0];

	if (meta->dim == 0 || meta->root_level == 0)
		return false;
	return meta->calibration.samples == 0 || postings > 1.5 * meta->calibration.postings;
}

/* ---- measuring ---- */

/* A vector met in a deep search. */
typedef struct SpfMet
{
	SpfRecordRef ref;
	float		est;
	int			rank;			/* of the first posting that has it */
} SpfMet;

typedef struct SpfCalibrator
{
	SpfIndex   *index;
	SpfMeta		meta;
	pg_prng_state prng;
	int			samples;		/* queries */
	int			depth;			/* probes of a deep search */
	double	   *found[SPF_CAL_KS];	/* [depth]: neighbours first found at this rank */
	double		total[SPF_CAL_KS];

	/* of the query at hand */
	SpfProbe	probe;
	SpfBest		best;
	int			rank;
	SpfMet	   *met;
	int			nmet;
	int			space;
} SpfCalibrator;

/* A random row's vector, decoded, and its record; false if none was met. */
static bool
pick_row(SpfCalibrator *cal, float *x, SpfRecordRef *ref)
{
	SpfIndex   *index = cal->index;
	BlockNumber nblocks = RelationGetNumberOfBlocks(index->rel);

	for (int tries = 0; tries < 50; tries++)
	{
		BlockNumber block = pg_prng_uint64_range(&cal->prng, 1, nblocks - 1);
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

		mask &= mask - 1;
		if (!(lower[lane] < cal->probe.threshold))
			continue;
		if (cal->nmet == cal->space)
			cal->met = repalloc_huge(cal->met, (cal->space *= 2) * sizeof(SpfMet));
		cal->met[cal->nmet].ref = spf_posting_ref(cal->index, block, lane);
		cal->met[cal->nmet].est = lower[lane];
		cal->met[cal->nmet++].rank = cal->rank;
		cal->probe.threshold = spf_best_add(&cal->best, 2 * est[lane] - lower[lane]);
	}
}

/* The deep search: all that may be among the nearest goes to cal->met. */
static void
search_deeply(SpfCalibrator *cal, const SpfQuery *query)
{
	SpfWork		work = {0};
	SpfStream  *stream;
	SpfRoute	route;

	spf_best_init(&cal->best, 2 * (MAX_K + 1));
	cal->probe = (SpfProbe)
	{
		.index = cal->index,.query = query,.level = 0,.work = &work,
			.found = keep_entry,.state = cal,.threshold = INFINITY
	};
	cal->space = 1024;
	cal->met = palloc(cal->space * sizeof(SpfMet));
	cal->nmet = 0;
	stream = spf_stream_open(cal->index, &cal->meta, query, 1, cal->depth, false, &work);
	for (cal->rank = 0; cal->rank < cal->depth; cal->rank++)
	{
		if (spf_stream_next(stream, &route, 1) == 0)
			break;
		spf_probe_postings(&cal->probe, &route, 1);
	}
}

static int
compare_met_refs(const void *a, const void *b)
{
	const SpfMet *x = a;
	const SpfMet *y = b;
	int			order = memcmp(&x->ref, &y->ref, sizeof(SpfRecordRef));

	return order != 0 ? order : x->rank - y->rank;
}

static int
compare_met_distances(const void *a, const void *b)
{
	const SpfMet *x = a;
	const SpfMet *y = b;

	return x->est < y->est ? -1 : x->est > y->est;
}

/*
 * Replace the bounds of the most promising by record distances, leaving out the query's own
 * record; returns how many are known.
 */
static int
read_met(SpfCalibrator *cal, const SpfQuery *query, SpfRecordRef self)
{
	SpfVector	vector;
	int			n = 0;
	int			known = 0;

	/* each vector once, with its first rank */
	qsort(cal->met, cal->nmet, sizeof(SpfMet), compare_met_refs);
	for (int i = 0; i < cal->nmet; i++)
	{
		if (n == 0 || memcmp(&cal->met[i].ref, &cal->met[n - 1].ref, sizeof(SpfRecordRef)) != 0)
			cal->met[n++] = cal->met[i];
	}
	qsort(cal->met, n, sizeof(SpfMet), compare_met_distances);

	vector.code = palloc(cal->index->padded);
	for (int i = 0; i < n && i < MAX_READS; i++)
	{
		float		lower;

		if (memcmp(&cal->met[i].ref, &self, sizeof(SpfRecordRef)) == 0 ||
			!spf_record_fetch(cal->index, cal->met[i].ref, 0, &vector, NULL))
			continue;
		cal->met[known] = cal->met[i];
		spf_query_record(query, vector.code, &vector.numbers, &cal->met[known++].est, &lower);
	}
	qsort(cal->met, known, sizeof(SpfMet), compare_met_distances);
	return known;
}

/* Count at which ranks the neighbours were found. */
static void
count_ranks(SpfCalibrator *cal, int known)
{
	for (int i = 0; i < SPF_CAL_KS; i++)
	{
		int			end = Min(ks[i], known);

		for (int j = 0; j < end; j++)
			cal->found[i][cal->met[j].rank]++;
		cal->total[i] += end;
	}
}

/* The probes that find a share of all neighbours. */
static float
probes_for(const SpfCalibrator *cal, int i, double target)
{
	double		found = 0;

	for (int rank = 0; rank < cal->depth; rank++)
	{
		found += cal->found[i][rank];
		if (found >= target * cal->total[i])
			return rank + 1;
	}
	return cal->depth;
}

static void
measure_query(SpfCalibrator *cal)
{
	SpfIndex   *index = cal->index;
	float	   *x = palloc(index->padded * sizeof(float));
	SpfRecordRef self;
	SpfQuery   *query;

	if (!pick_row(cal, x, &self))
		return;
	query = spf_index_row_query(index, x);
	search_deeply(cal, query);
	count_ranks(cal, read_met(cal, query, self));
}

/* Measure with searches of a certain depth. */
static void
measure(SpfCalibrator *cal, MemoryContext query_context)
{
	MemoryContext context = CurrentMemoryContext;

	pg_prng_seed(&cal->prng, 1);
	for (int i = 0; i < SPF_CAL_KS; i++)
	{
		cal->found[i] = palloc0(cal->depth * sizeof(double));
		cal->total[i] = 0;
	}
	for (int s = 0; s < cal->samples; s++)
	{
		MemoryContextSwitchTo(query_context);
		measure_query(cal);
		MemoryContextSwitchTo(context);
		MemoryContextReset(query_context);
	}
}

void
spf_calibrate(SpfIndex *index)
{
	SpfCalibrator cal = {.index = index};
	SpfCalibration result = {0};
	MemoryContext context;
	MemoryContext query_context;
	MemoryContext old;

	spf_meta_read(index->rel, &cal.meta);
	if (cal.meta.root_level == 0)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "spfresh calibration",
									ALLOCSET_DEFAULT_SIZES);
	query_context = AllocSetContextCreate(context, "spfresh calibration query",
										  ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	result.postings = cal.meta.counters.postings[0];
	cal.depth = Min(result.postings, Max(128, 8 * sqrt(result.postings)));
	cal.samples = SAMPLES;
	measure(&cal, query_context);

	/*
	 * Neighbours that are still found near the end say that there are more behind it.  The
	 * deeper the searches, the fewer will do, or this would be felt.
	 */
	while (cal.depth < result.postings &&
		   probes_for(&cal, SPF_CAL_KS - 1, 0.98) > cal.depth / 2)
	{
		cal.depth = Min(result.postings, (double) cal.depth * 4);
		cal.samples = Max(SAMPLES / 4, cal.samples / 2);
		measure(&cal, query_context);
	}
	if (cal.total[0] > 0)
	{
		result.samples = cal.samples;
		for (int i = 0; i < SPF_CAL_KS; i++)
		{
			for (int t = 0; t < SPF_CAL_TARGETS; t++)
				result.nprobe[i][t] = probes_for(&cal, i, targets[t]);
		}
		spf_meta_set_calibration(index, &result);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
