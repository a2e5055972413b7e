/*-------------------------------------------------------------------------
 *
 * build_cells.c
 *	  Building: training on rows that do not fit the memory.
 *
 * A sample that is too small for the number of centroids makes poor ones: of some rows each they
 * are hardly better than chance.  So where memory is short the rows, coded, go to temporary
 * files by cell: the coarse centroids that a small sample is good for.  Then each cell is
 * trained by itself, on all its rows (or as many as are good for its centroids), by
 * whoever claims it.  Rows are assigned from these files, too, so the table is scanned once.
 *
 * What this loses, at the borders of the cells, is 0.000 to 0.005 of recall at the same number of
 * probes: docs/architecture.md.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "utils/memutils.h"

#include "assign.h"
#include "build.h"
#include "build_parts.h"
#include "code.h"
#include "insert.h"

/* The mean cell takes this part of what there is room for: cells differ in size. */
#define CELL_SHARE		3

/*
 * Rounds of the grouping of a cell's centroids, and how many times as many groups as usual: groups
 * that end where their cell does are less well formed, and looking the nearest up in fewer of
 * them was seen to cost 0.005 of recall.
 */
#define GROUP_ROUNDS	4
#define MORE_GROUPS		2

/* A row in the file of its cell */
typedef struct SpfCellRow
{
	SpfKept		kept;
	int8_t		code[FLEXIBLE_ARRAY_MEMBER];
} SpfCellRow;

#define CELL_ROW_BYTES(padded)	(offsetof(SpfCellRow, code) + (padded))

/* ---- plans: the leader ---- */

/* Bytes that training takes for each row, with its share of the centroids. */
static double
bytes_per_row(const SpfBuild *build, double rows, double centroids)
{
	int			padded = build->index->padded;

	return padded + sizeof(float) + 2 * sizeof(int32) +
		centroids / rows * (padded * (sizeof(float) + 2) + 64);
}

/* Rows of a cell that one process has room for */
static int64
cell_room(const SpfBuild *build)
{
	double		bytes = spf_build_kilobytes(build, SHARE_SAMPLE) * 1024.0;

	return Max(SPF_MIN_CELL_ROWS, (int64) (bytes / build->common->cell_row_bytes));
}

int
spf_build_plan_cells(SpfBuild *build, double rows, int centroids)
{
	double		mean;

	build->common->cell_row_bytes = bytes_per_row(build, rows, centroids);
	mean = Max(cell_room(build) / CELL_SHARE, 1);
	return (int) Max(2, Min(ceil(rows / mean), SPF_MOST_PILES));
}

/* Where the centroids that cells give are collected: codes, scales, groups, by slot. */
typedef struct Collected
{
	int8_t	   *codes;
	float	   *scales;
	int32	   *group;			/* within the cell */
} Collected;

static Size
collected_bytes(const SpfBuild *build, int slots)
{
	return CACHELINEALIGN((Size) slots * build->index->padded) +
		CACHELINEALIGN((Size) slots * sizeof(float)) + (Size) slots * sizeof(int32);
}

static Collected
collected(const SpfBuild *build)
{
	int			slots = build->common->cell_slot[build->common->cells];
	char	   *memory = spf_team_piece(build->team, SPF_TEAM_WORK);
	Collected	result = {.codes = (int8_t *) memory};

	memory += CACHELINEALIGN((Size) slots * build->index->padded);
	result.scales = (float *) memory;
	memory += CACHELINEALIGN((Size) slots * sizeof(float));
	result.group = (int32 *) memory;
	return result;
}

/* How many centroids a cell gets goes by its rows. */
static void
plan_slots(SpfBuildCommon *common, int centroids)
{
	double		rows = 0;

	for (int c = 0; c < common->cells; c++)
		rows += pg_atomic_read_u32(&common->cell_rows[c]);
	common->cell_slot[0] = 0;
	for (int c = 0; c < common->cells; c++)
	{
		uint32		here = pg_atomic_read_u32(&common->cell_rows[c]);
		int			k = here == 0 ? 0 : Max(1, (int) (centroids * (here / rows) + 0.5));

		common->cell_slot[c + 1] = common->cell_slot[c] + k;
		common->cell_got[c] = 0;
	}
}

/* All that the cells gave, as the centroids of the build. */
static void
join_cells(SpfBuild *build)
{
	SpfBuildCommon *common = build->common;
	int			padded = build->index->padded;
	int			slots = common->cell_slot[common->cells];
	int			most_groups = MORE_GROUPS * spf_groups_for(slots) + common->cells;
	void	   *memory = spf_team_alloc(build->team, SPF_TEAM_CENTROIDS,
										spf_centroids_space(padded, slots, most_groups));
	Collected	from = collected(build);
	float	   *x = palloc(padded * sizeof(float));
	SpfCentroids centroids;

	spf_centroids_init(memory, padded, slots, most_groups);
	centroids = spf_centroids_map(memory);
	spf_centroids_clear(&centroids);
	for (int c = 0; c < common->cells; c++)
	{
		int			first = common->cell_slot[c];
		int			last = first + common->cell_got[c];

		CHECK_FOR_INTERRUPTS();
		for (int s = first; s < last; s++)
		{
			spf_record_decode(from.codes + (Size) s * padded, from.scales[s], padded, x);
			spf_centroids_add(&centroids, x);
			if (s + 1 == last || from.group[s + 1] != from.group[s])
				spf_centroids_end_group(&centroids);
		}
	}
	spf_centroids_pack_groups(&centroids);
	pfree(x);
}

void
spf_build_train_cells(SpfBuild *build, int centroids)
{
	SpfBuildCommon *common = build->common;
	uint64		rows = 0;

	common->cells = build->centroids.ncentroids;
	ereport(DEBUG1,
			(errmsg_internal("index \"%s\": %d centroids are trained in %d cells",
							 RelationGetRelationName(build->index->rel), centroids,
							 common->cells)));
	spf_team_run(build->team, BUILD_SPILL);
	spf_build_forget_centroids(build);

	for (int c = 0; c < common->cells; c++)
		rows += pg_atomic_read_u32(&common->cell_rows[c]);
	plan_slots(common, centroids);
	spf_team_phase(build->team, SPF_PHASE_TRAIN, (double) rows);
	if (rows == 0)
		return;
	spf_team_alloc(build->team, SPF_TEAM_WORK,
				   collected_bytes(build, common->cell_slot[common->cells]));
	spf_team_run(build->team, BUILD_CELLS);
	join_cells(build);
	spf_team_free(build->team, SPF_TEAM_WORK);
	spf_build_take_centroids(build);
}

/* ---- spilling: everyone ---- */

/* One's view of the files; he may have come too late to write some. */
static SpfPiles *
cells_files(SpfBuild *build)
{
	SpfPilesPlan plan = {
		.name = "cells",.item_size = CELL_ROW_BYTES(build->index->padded),
		.files = spf_team_files(build->team),.me = spf_team_me(build->team),
		.members = spf_team_members(build->team),.piles = build->common->cells
	};

	if (build->cells == NULL)
		build->cells = spf_piles_begin(&plan);
	return build->cells;
}

static void
row_has_cell(void *state, void *item, const int32 *cells, int ncells)
{
	SpfBuild   *build = state;

	spf_piles_put(build->cells, cells[0], item);
	pg_atomic_fetch_add_u32(&build->common->cell_rows[cells[0]], 1);
}

static void
spill_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	SpfBuild   *build = state;
	SpfIndex   *index = build->index;
	MemoryContext old;
	float	   *x;

	if (isnull[0])
		return;
	old = MemoryContextSwitchTo(build->row_context);
	if (spf_build_floats(build, values[0], &x))
	{
		SpfCellRow *row = spf_assigner_slot(build->assigner);

		spf_index_rotate(index, x, x);
		spf_record_encode(x, index->padded, row->code, &row->kept.numbers);
		row->kept.tid = *tid;
		spf_assigner_put(build->assigner, row->code, row->kept.numbers.scale);
		spf_build_count(build);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
}

void
spf_build_spill(SpfBuild *build)
{
	SpfPiles   *cells = cells_files(build);

	build->assigner = spf_assigner_begin(build->index, &build->centroids, 0,
										 CELL_ROW_BYTES(build->index->padded), row_has_cell,
										 build);
	spf_build_scan(build, spill_row);
	spf_assigner_end(build->assigner);
	spf_build_counted(build);
	spf_piles_close(cells);
}

/* ---- training: everyone ---- */

/* Read a cell's rows, or `take` of them: codes[take x padded], scales[take]. */
static SpfPoints
load_cell(SpfBuild *build, int cell, int64 take)
{
	int			padded = build->index->padded;
	int64		left = pg_atomic_read_u32(&build->common->cell_rows[cell]);
	int8_t	   *codes = palloc_extended(take * padded, MCXT_ALLOC_HUGE);
	float	   *scales = palloc_extended(take * sizeof(float), MCXT_ALLOC_HUGE);
	SpfCellRow *row = palloc(CELL_ROW_BYTES(padded));
	int			n = 0;

	spf_pile_open(cells_files(build), cell);
	for (; n < take && spf_pile_next(build->cells, row); left--)
	{
		/* each with the chance that makes it `take` of them in the end */
		if (take - n < left && pg_prng_double(&build->prng) * left >= take - n)
			continue;
		memcpy(codes + (Size) n * padded, row->code, padded);
		scales[n++] = row->kept.numbers.scale;
	}
	pfree(row);
	return (SpfPoints) {
		.n = n,.padded = padded,.codes = codes,.scales = scales
	};
}

/* Note a cell's centroids, in `want` groups. */
static void
collect_cell(SpfBuild *build, int cell, const SpfCentroids *centroids, int want)
{
	int			padded = build->index->padded;
	int			k = centroids->ncentroids;
	int			first = build->common->cell_slot[cell];
	Collected	to = collected(build);
	SpfKmeansOptions options = {
		.rounds = GROUP_ROUNDS,.min_share = 0.5,.max_share = 1.5,.seed = SPF_SEED
	};
	float	   *x = palloc_extended((Size) k * padded * sizeof(float), MCXT_ALLOC_HUGE);
	float	   *centres = palloc_extended((Size) want * padded * sizeof(float), MCXT_ALLOC_HUGE);
	int32_t    *assign = palloc(k * sizeof(int32_t));
	int32_t    *start = palloc((want + 1) * sizeof(int32_t));
	int32_t    *order = palloc(k * sizeof(int32_t));

	for (int j = 0; j < k; j++)
		spf_record_decode(centroids->codes + (Size) j * padded, centroids->scales[j], padded,
						  x + (Size) j * padded);
	want = spf_kmeans(x, k, padded, want, &options, &spf_host, centres, assign);
	spf_sort_by_label(assign, k, want, start, order);
	for (int s = 0; s < k; s++)
	{
		int			j = order[s];

		memcpy(to.codes + (Size) (first + s) * padded, centroids->codes + (Size) j * padded,
			   padded);
		to.scales[first + s] = centroids->scales[j];
		to.group[first + s] = assign[j];
	}
	build->common->cell_got[cell] = k;
}

static void
train_cell(SpfBuild *build, int cell)
{
	SpfBuildCommon *common = build->common;
	int			padded = build->index->padded;
	int			slots = common->cell_slot[common->cells];
	int			want = common->cell_slot[cell + 1] - common->cell_slot[cell];
	int64		take = Min(pg_atomic_read_u32(&common->cell_rows[cell]), cell_room(build));
	SpfPoints	points;
	void	   *work_chunk;
	void	   *work;
	void	   *result;			/* goes with the context, like the points */
	SpfTrain   *train;
	SpfCentroids centroids;
	double		groups;

	if (want == 0)
		return;
	points = load_cell(build, cell, Min(take, (int64) want * SPF_SAMPLE_PER_CENTROID));
	work_chunk = spf_host.alloc(spf_train_space(padded, points.n, want) + PG_CACHE_LINE_SIZE);
	work = (void *) CACHELINEALIGN(work_chunk);
	result = spf_host.alloc(spf_centroids_space(padded, want, spf_groups_for(want)) +
							PG_CACHE_LINE_SIZE);
	result = (void *) CACHELINEALIGN(result);
	spf_train_init(work, result, padded, points.n, want, SPF_SEED + cell);
	train = spf_train_open(work, result, &points, &spf_host);
	spf_train_lead(train, SPF_POLISH_ROUNDS);
	spf_train_close(train);
	spf_host.release(work_chunk);
	centroids = spf_centroids_map(result);
	groups = MORE_GROUPS * spf_groups_for(slots) * ((double) want / slots);
	collect_cell(build, cell, &centroids, Max(1, (int) (groups + 0.5)));
}

void
spf_build_cells(SpfBuild *build)
{
	MemoryContext context = AllocSetContextCreate(build->context, "spfresh build cell",
												  ALLOCSET_DEFAULT_SIZES);
	int64		cell;

	(void) cells_files(build);
	while (spf_team_claim(build->team, build->common->cells, &cell))
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		train_cell(build, (int) cell);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		spf_team_advance(build->team, pg_atomic_read_u32(&build->common->cell_rows[cell]));
	}
	MemoryContextDelete(context);
}

/* ---- assigning: everyone ---- */

void
spf_build_assign_cells(SpfBuild *build)
{
	int			padded = build->index->padded;
	SpfCellRow *row = palloc(CELL_ROW_BYTES(padded));
	int64		cell;

	(void) cells_files(build);
	while (spf_team_claim(build->team, build->common->cells, &cell))
	{
		spf_pile_open(build->cells, (int) cell);
		while (spf_pile_next(build->cells, row))
			spf_build_assign_coded(build, &row->kept, row->code);
		spf_pile_drop(build->cells, (int) cell);
	}
	spf_piles_end(build->cells);
	build->cells = NULL;
	pfree(row);
}
