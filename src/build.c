/*-------------------------------------------------------------------------
 *
 * build.c
 *	  CREATE INDEX and REINDEX.
 *
 * 1. A few blocks of the table give dimension, origin (their mean) and the density of rows;
 *	  then a sample is taken.
 * 2. Centroids are trained on the sample (train.c); where memory is too short for that, in parts,
 *	  on all rows (build_cells.c); or they come from a table (given.c).
 * 3. Every row is assigned to its postings and spread, by its first posting.
 * 4. In that order records are written; equal vectors share one.
 * 5. For every posting a record belongs to, its vector is spread again, by
 *	  posting; in that order postings are written.  One that is too large
 *	  is clustered into several first: so neither the shape of the data nor a
 *	  lack of memory for centroids makes a difference but in quality.
 * 6. The postings' centroids are the vectors of the next level: 2, 3 and 5 again, by
 *	  the leader alone, until few enough are left for a root.
 * 7. The index is calibrated, and its pages are logged, once each.
 *
 * Steps 1 to 5 and 7 are done by all processes there are (parallel.c); this file is the
 * order in which they come.
 *
 * Pages are written through shared buffers without WAL until 7; nobody else sees the
 * index before the command commits.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xloginsert.h"
#include "commands/progress.h"
#include "pgstat.h"
#include "utils/backend_progress.h"
#include "utils/memutils.h"

#include "assign.h"
#include "build.h"
#include "build_parts.h"
#include "calibrate.h"
#include "insert.h"
#include "split.h"

/* Vectors of a sample, at least. */
#define SAMPLE_MIN			10000

/* Pages that are logged as one item. */
#define LOG_BLOCKS			1024

/* ---- 1, 2: sampling and training ---- */

/* Centroids that a level of so many vectors is to have; at least 1. */
static int
plan_centroids(const SpfBuild *build, double vectors, int initial)
{
	const SpfIndex *index = build->index;
	double		want = vectors * index->replicas / (index->split_limit * SPF_PLANNED_SHARE);

	if (initial > 0)
		want = initial;
	return (int) Max(1, Min(want, spf_build_most_centroids(build)));
}

/* So many fit: each in 8 bits a component, and rounded once more. */
double
spf_build_most_centroids(const SpfBuild *build)
{
	return (double) spf_build_budget(SHARE_CENTROIDS) /
		(build->index->padded * 2 + 16);
}

/* Vectors to train so many centroids on: as many as are good for them. */
static double
plan_sample(int centroids)
{
	return Max(SAMPLE_MIN, (double) centroids * SPF_SAMPLE_PER_CENTROID);
}

/* And as fit. */
static double
sample_room(const SpfBuild *build)
{
	double		each = build->index->padded + sizeof(float) + 16;

	return spf_build_budget(SHARE_SAMPLE) / each / 1.2;
}

/* Do sample and centroids fit, and what training takes beside them? */
static bool
can_train(const SpfBuild *build, double rows, int centroids)
{
	double		making = (double) centroids * build->index->padded * sizeof(float);

	return Min(plan_sample(centroids), rows) <= sample_room(build) &&
		making <= spf_build_budget(SHARE_CENTROIDS);
}

/* Do all rows fit the memory for the sample, with all that their records will need of them? */
static bool
can_keep(const SpfBuild *build, double rows)
{
	double		each = build->index->padded + sizeof(float) + sizeof(SpfKept) + 8;

	return (rows * 1.2 + 1000) * each <= spf_build_budget(SHARE_SAMPLE);
}

/*
 * Take a sample of the table's rows.  Where it is to be (nearly) all of them, and these fit, the
 * table need not be scanned again.
 */
static void
sample_table(SpfBuild *build, double rows, int centroids, bool may_keep)
{
	SpfBuildCommon *common = build->common;
	double		density = rows / common->table_blocks;
	double		want = Min(Min(plan_sample(centroids), sample_room(build)), rows);
	bool		keep = may_keep && want * 1.1 >= rows && can_keep(build, rows);

	common->sample_blocks = (BlockNumber) Min(want / density * 1.1 + 1,
											  (double) common->table_blocks);
	common->sample_seed = (uint32) pg_prng_uint32(&build->prng);
	spf_build_sample_room(build, keep ? rows : want, keep ? 0 : common->sample_blocks * density,
						  keep);
	spf_team_total(build->team, may_keep ? want : want + rows);
	spf_team_run(build->team, BUILD_SAMPLE);
	if (keep && pg_atomic_read_u64(&common->nsample) > common->max_sample)
	{
		/* there were more than it seemed: a sample all the same, but not all */
		ereport(DEBUG1,
				(errmsg_internal("index \"%s\": more rows than expected, table is scanned again",
								 RelationGetRelationName(build->index->rel))));
		common->keep = false;
		pg_atomic_write_u64(&common->heap_tuples, 0);
		spf_team_rescan(build->team, build->heap);
	}
}

static void
report_training(double done)
{
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) (done * 1000));
}

static void
train_together(void *state, int step)
{
	SpfBuild   *build = state;

	spf_team_run(build->team, BUILD_TRAIN + step);
}

/* Room for training `want` centroids on n points, and for the result. */
static void
begin_training(SpfBuild *build, const SpfPoints *points, int n, int want, const SpfKmeansHost *host)
{
	int			padded = build->index->padded;
	void	   *work = spf_team_alloc(build->team, SPF_TEAM_WORK, spf_train_space(padded, n, want));
	void	   *result = spf_team_alloc(build->team, SPF_TEAM_CENTROIDS,
										spf_centroids_space(padded, want,
															spf_groups_for(want)));

	spf_train_init(work, result, padded, n, want, SPF_SEED);
	build->train = spf_train_open(work, result, points, host);
}

void
spf_build_take_centroids(SpfBuild *build)
{
	build->centroids = spf_centroids_map(spf_team_piece(build->team, SPF_TEAM_CENTROIDS));
	build->common->centroids = true;
	build->common->majors = build->centroids.ncentroids;
}

static void
end_training(SpfBuild *build)
{
	spf_train_close(build->train);
	build->train = NULL;
	spf_team_free(build->team, SPF_TEAM_WORK);
	spf_build_take_centroids(build);
}

/* From the sample, which goes, unless rows are still to be assigned from it. */
static void
train(SpfBuild *build, int centroids, void (*progress) (double done))
{
	SpfPoints	points = spf_build_points(build);
	SpfKmeansHost host = spf_host;

	if (centroids > 1 && points.n > 0)
	{
		host.progress = progress;
		host.together = train_together;
		host.team = build;
		begin_training(build, &points, points.n, centroids, &host);
		spf_train_lead(build->train, SPF_POLISH_ROUNDS);
		end_training(build);
	}
	if (!build->common->keep)
		spf_team_free(build->team, SPF_TEAM_SAMPLE);
}

/* Those of the table that the storage parameter names. */
static void
take_given(SpfBuild *build)
{
	int			count = spf_given_count(build);

	spf_team_phase(build->team, SPF_PHASE_TRAIN, 0);
	begin_training(build, NULL, count, count, &spf_host);
	spf_given_load(build, spf_train_given(build->train), count);
	spf_train_take(build->train, count);
	end_training(build);
}

/* A worker's part of a step of training. */
static void
help_training(SpfBuild *build, int step)
{
	SpfPoints	points = spf_build_points(build);
	SpfTrain   *train = spf_train_open(spf_team_piece(build->team, SPF_TEAM_WORK),
									   spf_team_piece(build->team, SPF_TEAM_CENTROIDS),
									   &points, &spf_host);

	spf_train_step(train, step);
	spf_train_close(train);
}

void
spf_build_forget_centroids(SpfBuild *build)
{
	spf_team_free(build->team, SPF_TEAM_CENTROIDS);
	build->common->centroids = false;
	build->common->majors = 1;
}

/* ---- 3 to 5: rows, records, postings ---- */

SpfSpread *
spf_build_spread(const SpfBuild *build, const char *name, Size item_size, int level)
{
	const SpfBuildCommon *common = build->common;
	SpfSpreadPlan plan = {
		.name = name,.item_size = item_size,
		.kilobytes = level == 0 ? spf_build_kilobytes(build, SHARE_SORT) :
		(int) (maintenance_work_mem * SHARE_SORT),
		.files = level == 0 ? spf_team_files(build->team) : NULL,
		.me = spf_team_me(build->team),.members = spf_team_members(build->team),
		.buckets = common->buckets,.majors = Max(common->majors, 1)
	};

	return spf_spread_begin(&plan);
}

/* The rows, to their postings; how many there are was guessed. */
static void
build_bottom(SpfBuild *build, double rows)
{
	SpfBuildCommon *common = build->common;
	SpfTeam    *team = build->team;
	double		each = Max(SPF_ROW_BYTES(build->index->padded),
						   build->index->replicas * SPF_MEMBER_BYTES(build->index->padded));
	double		tuples;

	common->majors = Max(common->majors, 1);
	common->buckets = spf_spread_buckets(rows * each, spf_build_kilobytes(build, SHARE_SORT),
										 spf_team_members(team));
	spf_team_phase(team, SPF_PHASE_ASSIGN, rows);
	spf_team_run(team, BUILD_ASSIGN);
	if (common->keep)
		spf_team_free(team, SPF_TEAM_SAMPLE);
	common->keep = false;
	common->cells = 0;
	tuples = (double) pg_atomic_read_u64(&common->index_tuples);
	spf_team_total(team, tuples);

	spf_team_phase(team, SPF_PHASE_RECORDS, tuples);
	spf_team_run(team, BUILD_RECORDS);
	spf_team_phase(team, SPF_PHASE_POSTINGS, tuples);
}

/* ---- 6: upper levels ---- */

/* The centroids that were noted, as a list that can be read again. */
static SpfList *
noted_centroids(SpfBuild *build)
{
	SpfList    *list = spf_list_begin(SPF_MEMBER_BYTES(build->index->padded));
	SpfSort    *sort = spf_spread_sort(build->next, 0);
	const void *member;
	int32		major;
	int32		minor;

	while ((member = spf_sort_next(sort, &major, &minor)) != NULL)
		spf_list_put(list, member);
	spf_sort_end(sort);
	spf_spread_end(build->next);
	build->next = NULL;
	return list;
}

/* A sample of the centroids of the level below. */
static void
sample_list(SpfBuild *build, SpfList *list, int want)
{
	SpfBuildCommon *common = build->common;
	int			padded = build->index->padded;
	double		count = (double) spf_list_count(list);
	SpfMember  *member = palloc(SPF_MEMBER_BYTES(padded));
	SpfPoints	points;
	int64		n = 0;

	spf_build_sample_room(build, Min(Min(plan_sample(want), sample_room(build)), count), count,
						  false);
	points = spf_build_points(build);
	spf_list_rewind(list);
	while (n < common->max_sample && spf_list_next(list, member))
	{
		if (common->sample_share < 1 && pg_prng_double(&build->prng) > common->sample_share)
			continue;
		memcpy(unconstify(int8_t *, points.codes) + n * padded, member->code, padded);
		unconstify(float *, points.scales)[n++] = member->scale;
	}
	pg_atomic_write_u64(&common->nsample, n);
	pfree(member);
}

/* Sample, train and assign the centroids of the level below. */
static void
assign_centroids(SpfBuild *build, int level, SpfList *list)
{
	SpfIndex   *index = build->index;
	Size		member_size = SPF_MEMBER_BYTES(index->padded);
	double		count = (double) spf_list_count(list);
	int			want = 1;

	if (count > index->split_limit * SPF_ROOT_SHARE)
	{
		want = Max(2, plan_centroids(build, count, 0));
		sample_list(build, list, want);
		spf_team_phase(build->team, SPF_PHASE_TRAIN, 1000);
		train(build, want, report_training);
	}
	spf_team_phase(build->team, SPF_PHASE_LEVELS, 2 * count);

	build->members = spf_build_spread(build, "members", member_size, level);
	build->assigner = spf_assigner_begin(index,
										 build->common->centroids ? &build->centroids : NULL,
										 index->replicas, member_size, spf_build_put_member, build);
	spf_list_rewind(list);
	for (;;)
	{
		SpfMember  *member = spf_assigner_slot(build->assigner);

		if (!spf_list_next(list, member))
			break;
		spf_assigner_put(build->assigner, member->code, member->scale);
		spf_build_count(build);
	}
	spf_assigner_end(build->assigner);
	spf_list_end(list);
}

static void
build_levels(SpfBuild *build)
{
	bool		whole = false;

	if (build->common->centroids)
		spf_team_run(build->team, BUILD_POSTINGS);
	else
		whole = spf_build_level(build, 0);
	build->meta.counters.postings[0] += pg_atomic_read_u64(&build->common->postings);

	for (int level = 1; !whole; level++)
	{
		spf_build_forget_centroids(build);
		if (level >= SPF_MAX_LEVELS)
			elog(ERROR, "index \"%s\" would have too many levels",
				 RelationGetRelationName(build->index->rel));
		assign_centroids(build, level, noted_centroids(build));
		whole = spf_build_level(build, level);
	}
	spf_spread_end(build->next);
	spf_build_forget_centroids(build);
}

/* ---- 7: the end ---- */

static void
write_meta(SpfBuild *build)
{
	Buffer		buf = spf_meta_lock(build->index->rel);
	SpfWrite	write;
	SpfMeta    *content;

	spf_write_begin(&write, build->index->rel, true);
	content = spf_meta_edit(&write, buf);
	*content = build->meta;
	spf_meta_seal(content);
	spf_write_finish(&write);
	UnlockReleaseBuffer(buf);
}

static void *
calibration_room(void *state, Size size)
{
	SpfTeam    *team = ((SpfBuild *) state)->team;

	spf_team_free(team, SPF_TEAM_SAMPLE);
	return memset(spf_team_alloc(team, SPF_TEAM_SAMPLE, size), 0, size);
}

static void
run_calibration(void *state, int samples)
{
	SpfBuild   *build = state;

	/* it may come again, for deeper searches */
	build->samples += samples;
	spf_team_total(build->team, build->samples);
	spf_team_run(build->team, BUILD_CALIBRATE);
}

static bool
claim_sample(void *state, int64 samples, int64 *sample)
{
	SpfTeam    *team = ((SpfBuild *) state)->team;
	bool		claimed = spf_team_claim(team, samples, sample);

	if (claimed)
		spf_team_advance(team, 1);
	return claimed;
}

static SpfCalibrateTeam
calibrate_team(SpfBuild *build)
{
	return (SpfCalibrateTeam) {calibration_room, run_calibration, claim_sample, build};
}

static void
calibrate(SpfBuild *build)
{
	SpfCalibrateTeam team = calibrate_team(build);

	spf_team_phase(build->team, SPF_PHASE_CALIBRATE, 0);
	spf_calibrate_together(build->index, &team);
	spf_team_free(build->team, SPF_TEAM_SAMPLE);
}

/* Everyone's part of logging the pages. */
static void
log_pages(SpfBuild *build)
{
	Relation	rel = build->index->rel;
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);
	int64		item;

	while (spf_team_claim(build->team, (blocks + LOG_BLOCKS - 1) / LOG_BLOCKS, &item))
	{
		BlockNumber first = (BlockNumber) (item * LOG_BLOCKS);
		BlockNumber last = first + Min(LOG_BLOCKS, blocks - first);

		log_newpage_range(rel, MAIN_FORKNUM, first, last, true);
		spf_team_advance(build->team, last - first);
	}
}

/* ---- all processes ---- */

/* What the leader has found out by now. */
static void
learn(SpfBuild *build)
{
	SpfIndex   *index = build->index;
	int			dim = build->common->dim;
	void	   *centroids = spf_team_piece(build->team, SPF_TEAM_CENTROIDS);

	if (index->rotation == NULL)
	{
		spf_index_derive(index, dim, spf_choose_bits(build->options, dim), SPF_SEED);
		spf_choose_limits(index, build->options);
		memcpy(index->origin, build->common->origin, index->padded * sizeof(float));
	}
	if (build->common->centroids)
		build->centroids = spf_centroids_map(centroids);
}

static void
build_step(void *state, int step)
{
	SpfBuild   *build = state;
	bool		leader = spf_team_me(build->team) == 0;
	MemoryContext old = MemoryContextSwitchTo(build->context);

	if (!leader)
		learn(build);
	if (step == BUILD_SAMPLE)
		spf_build_sample(build);
	else if (step == BUILD_SPILL)
		spf_build_spill(build);
	else if (step == BUILD_CELLS)
		spf_build_cells(build);
	else if (step == BUILD_ASSIGN)
		spf_build_assign(build);
	else if (step == BUILD_RECORDS)
		spf_build_records(build);
	else if (step == BUILD_POSTINGS)
	{
		spf_build_postings(build);
		if (!leader)
		{
			spf_spread_end(build->next);
			build->next = NULL;
		}
	}
	else if (step == BUILD_LOG)
		log_pages(build);
	else if (step == BUILD_CALIBRATE)
	{
		SpfCalibrateTeam team = calibrate_team(build);

		spf_calibrate_help(build->index, spf_team_piece(build->team, SPF_TEAM_SAMPLE), &team);
	}
	else if (leader)
		spf_train_step(build->train, step - BUILD_TRAIN);
	else
		help_training(build, step - BUILD_TRAIN);
	MemoryContextSwitchTo(old);
}

static SpfBuild *
new_build(Relation heap, Relation rel, IndexInfo *info)
{
	SpfBuild   *build = palloc0(sizeof(SpfBuild));
	MemoryContext old;

	build->heap = heap;
	build->info = info;
	build->options = spf_options(rel);
	build->context = AllocSetContextCreate(CurrentMemoryContext, "spfresh build",
										   ALLOCSET_DEFAULT_SIZES);
	build->row_context = AllocSetContextCreate(build->context, "spfresh build row",
											   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(build->context);
	build->values = spf_value_reader_make();
	MemoryContextSwitchTo(old);
	build->index = MemoryContextAllocZero(build->context, sizeof(SpfIndex));
	build->index->rel = rel;
	build->index->type = spf_type_metric(rel);
	build->index->building = true;
	return build;
}

void
spf_build_serve(SpfTeam *team, Relation heap, Relation rel, IndexInfo *info)
{
	SpfBuild   *build = new_build(heap, rel, info);

	build->team = team;
	build->common = spf_team_common(team);
	pg_prng_seed(&build->prng, SPF_SEED + spf_team_me(team));
	spf_team_serve(team, build_step, build);
}

/* ---- the leader ---- */

static void
build_index(SpfBuild *build)
{
	double		rows;
	int			centroids;

	spf_team_phase(build->team, SPF_PHASE_SAMPLE, 0);
	if (!spf_build_look(build, &rows))
		return;

	centroids = plan_centroids(build, rows, build->options->initial_postings);
	ereport(DEBUG1,
			(errmsg_internal("index \"%s\": about %.0f rows expected",
							 RelationGetRelationName(build->index->rel), rows)));
	if (rows <= build->index->split_limit && build->options->initial_postings == 0)
		centroids = 1;
	if (build->options->centroids > 0)
		take_given(build);
	else if (centroids > 1 && can_train(build, rows, centroids))
	{
		sample_table(build, rows, centroids, true);
		spf_team_phase(build->team, SPF_PHASE_TRAIN, 1000);
		train(build, centroids, report_training);
	}
	else if (centroids > 1)
	{
		int			cells = spf_build_plan_cells(build, rows, centroids);

		sample_table(build, rows, cells, false);
		train(build, cells, NULL);
		if (build->common->centroids)
			spf_build_train_cells(build, centroids);
	}
	build_bottom(build, rows);
	build_levels(build);
	write_meta(build);
	if (build->meta.root_level > 0)
		calibrate(build);
}

IndexBuildResult *
spf_build(Relation heap, Relation rel, IndexInfo *info)
{
	SpfBuild   *build;
	IndexBuildResult *result = palloc(sizeof(IndexBuildResult));
	MemoryContext old;

	if (RelationGetNumberOfBlocks(rel) != 0)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(rel));

	build = new_build(heap, rel, info);
	spf_check_dim(build->index, spf_typmod_dim(rel), 0);
	pg_prng_seed(&build->prng, SPF_SEED);
	spf_meta_init(&build->meta, build->index);
	spf_meta_create(rel, MAIN_FORKNUM, &build->meta);

	old = MemoryContextSwitchTo(build->context);
	build->team = spf_team_begin(heap, rel, info, sizeof(SpfBuildCommon), build_step, build);
	build->common = spf_team_common(build->team);
	build_index(build);
	if (RelationNeedsWAL(rel))
	{
		spf_team_phase(build->team, SPF_PHASE_LOG, RelationGetNumberOfBlocks(rel));
		spf_team_run(build->team, BUILD_LOG);
	}
	result->heap_tuples = (double) pg_atomic_read_u64(&build->common->heap_tuples);
	result->index_tuples = (double) pg_atomic_read_u64(&build->common->index_tuples);
	spf_team_end(build->team);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(build->context);
	pfree(build);
	return result;
}

void
spf_build_empty(Relation rel)
{
	SpfIndex	index = {.rel = rel,.type = spf_type_metric(rel)};
	SpfMeta		meta;

	spf_meta_init(&meta, &index);
	spf_meta_create(rel, INIT_FORKNUM, &meta);
}
