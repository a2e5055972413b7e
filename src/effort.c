/*-------------------------------------------------------------------------
 *
 * effort.c
 *	  How much to search: when probing has been enough.
 *
 * See effort.h for the rule, and calibrate.c for where its numbers come from.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "calibrate.h"
#include "effort.h"
#include "scan.h"

/*
 * Users' queries are somewhat harder than rows, and a mean over samples is not
 * exact: aim at this share of the misses that the target allows.
 */
#define MISS_SHARE		0.92

/*
 * A query may take so many times the probes that would do if all took the same number, and so many
 * more: few need it, and none is much slower than the others.
 */
#define MOST_PROBES		1.75
#define MORE_PROBES		8

/* A query that is nearly a centroid itself is not easier than one with s0 = d times this. */
#define LEAST_NEAREST	0.25f

/* By what each further round grows. */
#define ROUND_PROBES	2

/* Margins for more rows are those for this many. */
#define BIGGEST_K		1000

const char *
spf_stop_name(SpfStop stop)
{
	switch (stop)
	{
		case SPF_STOP_ALL:
			return "all postings";
		case SPF_STOP_NPROBE:
			return "nprobe";
		case SPF_STOP_RECALL:
			return "target recall";
		case SPF_STOP_PAGES:
			return "max_probe_pages";
		case SPF_STOP_TIME:
			return "latency budget";
		case SPF_STOP_ROWS:
			return "max_scan_tuples";
		case SPF_STOP_SWEEP:
			return "all records";
		case SPF_STOP_NONE:
			break;
	}
	return NULL;
}

/* ---- the calibration's tables ---- */

/* A row's value between two targets, along -log(1 - target). */
static double
at_target(const float *row, double target)
{
	int			i = 0;
	double		a;
	double		b;
	double		t;

	if (target <= spf_calibration_target(0))
		return row[0];
	while (i < SPF_CAL_TARGETS - 2 && target > spf_calibration_target(i + 1))
		i++;
	a = -log(1 - spf_calibration_target(i));
	b = -log(1 - spf_calibration_target(i + 1));
	t = (-log(1 - Min(target, spf_calibration_target(SPF_CAL_TARGETS - 1))) - a) / (b - a);
	return exp(log(row[i]) + t * (log(row[i + 1]) - log(row[i])));
}

/* A table's value for a target and a k, between and beyond values of k along log k. */
static double
look_up(const float (*table)[SPF_CAL_TARGETS], double target, double k)
{
	int			i = 0;
	double		low;
	double		high;
	double		t;

	while (i < SPF_CAL_KS - 2 && k > spf_calibration_k(i + 1))
		i++;
	low = at_target(table[i], target);
	high = at_target(table[i + 1], target);
	t = log(Max(k, 1) / spf_calibration_k(i)) /
		log((double) spf_calibration_k(i + 1) / spf_calibration_k(i));
	return exp(log(low) + t * (log(high) - log(low)));
}

static double
aim(double target)
{
	return 1 - MISS_SHARE * (1 - target);
}

/* A posting's share of the neighbours shrinks as postings multiply. */
static double
growth(const SpfMeta *meta)
{
	double		postings = Max((double) meta->counters.postings[0], 1);

	return Max(1, sqrt(postings / Max(meta->calibration.postings, 1)));
}

int
spf_choose_nprobe(const SpfMeta *meta, double target, double k)
{
	double		postings = Max((double) meta->counters.postings[0], 1);
	double		nprobe;

	if (meta->calibration.samples == 0)
		/* a cautious guess, until there is enough to measure */
		nprobe = 8 + 1.5 * sqrt(postings) * -log10(1 - Min(target, 0.999)) *
			Max(1, pow(k / 10, 0.3));
	else
		nprobe = look_up(meta->calibration.nprobe, aim(target), k) * growth(meta);
	return (int) Max(1, Min(ceil(nprobe), postings * 2 + 1));
}

/* ---- a round's effort ---- */

/*
 * The margin.  How many rows a radius holds is not known: the most cautious k will do.  Beyond what
 * was measured, it is not extrapolated: it hardly depends on k, for the k-th best does.
 */
static double
choose_margin(const SpfMeta *meta, double k)
{
	double		target = aim(spf_setting_target_recall);
	double		margin = 0;

	if (!isinf(k))
		margin = look_up(meta->calibration.margin, target, Min(k, BIGGEST_K));
	for (int i = 0; isinf(k) && i < SPF_CAL_KS; i++)
		margin = Max(margin, at_target(meta->calibration.margin[i], target));
	return margin * growth(meta);
}

void
spf_effort_init(SpfEffort *effort, const SpfMeta *meta, double k, int round, float radius)
{
	double		nprobe = spf_setting_nprobe;

	effort->radius = radius;
	effort->margin = INFINITY;
	effort->stop = SPF_STOP_NONE;
	if (nprobe == 0)
	{
		/* a score by inner product is no distance, and the root alone needs no rule */
		if (meta->calibration.samples > 0 && meta->metric != SPF_IP &&
			(!isinf(k) || radius < INFINITY))
			effort->margin = choose_margin(meta, k);
		nprobe = isinf(k) ? INT_MAX : spf_choose_nprobe(meta, spf_setting_target_recall, k);
		if (effort->margin < INFINITY)
			nprobe = nprobe * MOST_PROBES + MORE_PROBES;
	}
	effort->nprobe = (int) Min(nprobe * pow(ROUND_PROBES, round - 1), INT_MAX);
}

void
spf_effort_start_clock(SpfEffort *effort)
{
	effort->budget = spf_setting_latency_budget;
	if (effort->budget > 0)
		INSTR_TIME_SET_CURRENT(effort->started);
}

bool
spf_effort_out_of_time(const SpfEffort *effort)
{
	instr_time	now;

	if (effort->budget == 0)
		return false;
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, effort->started);
	return INSTR_TIME_GET_MILLISEC(now) >= effort->budget;
}

bool
spf_effort_exhausted(SpfEffort *effort, const SpfWork *work, int probed)
{
	if (work->max_pages > 0 && work->pages >= work->max_pages)
		effort->stop = SPF_STOP_PAGES;

	/* one posting there is time for, or there would be no answer */
	else if (probed > 0 && spf_effort_out_of_time(effort))
		effort->stop = SPF_STOP_TIME;
	else
		return false;
	return true;
}

double
spf_effort_of(const SpfProgress *progress)
{
	float		best = progress->best;
	double		beyond;
	double		behind;
	double		root;

	if (!(best > 0 && best < INFINITY))
		return 0;
	beyond = progress->next / best;
	behind = progress->next / Max(progress->nearest, best * LEAST_NEAREST);
	root = sqrt(1 + progress->mean_rank);
	beyond *= beyond;
	return progress->probed * beyond * beyond * beyond * behind * behind / (root * sqrt(root));
}

bool
spf_effort_enough(SpfEffort *effort, const SpfWork *work, const SpfProgress *progress)
{
	if (progress->probed >= effort->nprobe)
		effort->stop = SPF_STOP_NPROBE;
	else if (spf_effort_of(progress) >= effort->margin)
		effort->stop = SPF_STOP_RECALL;
	else
		return spf_effort_exhausted(effort, work, progress->probed);
	return true;
}
