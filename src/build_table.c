/*-------------------------------------------------------------------------
 *
 * build_table.c
 *	  Building: what reads the table.
 *
 * The first look is the leader's; the blocks of the sample are claimed one by one, or
 * in runs where all are wanted; assigning is a parallel scan.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/index.h"
#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/sampling.h"

#include "assign.h"
#include "build_parts.h"
#include "insert.h"

/* Blocks looked at for the dimension and the origin, and rows that are enough for these. */
#define FIRST_BLOCKS		300
#define FIRST_ROWS			3000

/* Blocks that make an item of sampling where all are looked at. */
#define RUN_BLOCKS			64

bool
spf_build_floats(SpfBuild *build, Datum value, float **floats)
{
	SpfIndex   *index = build->index;
	void	   *datum = PG_DETOAST_DATUM(spf_value_read(build->values, value));
	int			dim = index->type->dim(datum);

	spf_check_dim(index, dim, index->dim > 0 ? index->dim : spf_typmod_dim(index->rel));
	if (index->dim == 0)
	{
		index->dim = dim;
		index->padded = spf_padded(dim);
		build->mean = MemoryContextAllocZero(build->context, index->padded * sizeof(double));
	}
	*floats = palloc(index->padded * sizeof(float));
	return spf_index_floats(index, datum, dim, *floats);
}

static void
scan_range(SpfBuild *build, BlockNumber first, BlockNumber count, IndexBuildCallback callback)
{
	CHECK_FOR_INTERRUPTS();
	table_index_build_range_scan(build->heap, build->index->rel, build->info,
								 false, !build->info->ii_Concurrent, false,
								 first, count, callback, build, NULL);
	spf_value_reader_close(build->values);
}

/* ---- the first look ---- */

static void
first_look(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	SpfBuild   *build = state;
	MemoryContext old;
	float	   *floats;

	if (build->seen >= FIRST_ROWS)
	{
		/* enough for a mean; as many of the others will do as did of these */
		build->met += !isnull[0];
		return;
	}
	old = MemoryContextSwitchTo(build->row_context);
	if (!isnull[0] && spf_build_floats(build, values[0], &floats))
	{
		for (int i = 0; i < build->index->dim; i++)
			build->mean[i] += floats[i];
		build->seen++;
	}
	build->met_first += !isnull[0];
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
}

/* Dimension, origin, and about how many rows there are; false if there are none. */
bool
spf_build_look(SpfBuild *build, double *rows)
{
	SpfIndex   *index = build->index;
	BlockNumber blocks = RelationGetNumberOfBlocks(build->heap);
	BlockNumber looked_at = Min(blocks, FIRST_BLOCKS);
	BlockSamplerData sampler;
	float	   *origin;

	build->common->table_blocks = blocks;
	BlockSampler_Init(&sampler, blocks, looked_at, (uint32) pg_prng_uint32(&build->prng));
	while (BlockSampler_HasMore(&sampler))
		scan_range(build, BlockSampler_Next(&sampler), 1, first_look);
	if (build->seen == 0 && looked_at < blocks)
	{
		looked_at = blocks;
		for (BlockNumber at = 0; at < blocks; at += RUN_BLOCKS)
			scan_range(build, at, Min(RUN_BLOCKS, blocks - at), first_look);
	}
	if (build->seen == 0)
		return false;

	*rows = (build->seen + (double) build->met * build->seen / build->met_first) *
		blocks / looked_at;
	origin = palloc0(index->padded * sizeof(float));
	for (int i = 0; i < index->dim; i++)
		origin[i] = (float) (build->mean[i] / build->seen);
	spf_index_derive(index, index->dim, spf_choose_bits(build->options, index->dim), SPF_SEED);
	spf_choose_limits(index, build->options);
	spf_init_origin(index, origin, &build->meta);

	memcpy(build->common->origin, index->origin, index->padded * sizeof(float));
	build->common->dim = index->dim;
	return true;
}

/* ---- sampling ---- */

static Size
sample_codes_bytes(const SpfBuild *build)
{
	return CACHELINEALIGN((Size) build->common->max_sample * build->index->padded);
}

static Size
sample_scales_bytes(const SpfBuild *build)
{
	return CACHELINEALIGN((Size) build->common->max_sample * sizeof(float));
}

void
spf_build_sample_room(SpfBuild *build, double vectors, double met, bool keep)
{
	SpfBuildCommon *common = build->common;

	common->keep = keep;
	common->max_sample = (int64) Min(vectors * 1.2 + 1000, INT_MAX / 2);
	common->sample_share = Min(1, vectors / Max(met, 1));
	pg_atomic_write_u64(&common->nsample, 0);
	spf_team_alloc(build->team, SPF_TEAM_SAMPLE,
				   sample_codes_bytes(build) + sample_scales_bytes(build) +
				   (keep ? common->max_sample * sizeof(SpfKept) : 0));
}

/* Behind codes and scales */
static SpfKept *
kept_rows(const SpfBuild *build)
{
	char	   *memory = spf_team_piece(build->team, SPF_TEAM_SAMPLE);

	return (SpfKept *) (memory + sample_codes_bytes(build) + sample_scales_bytes(build));
}

SpfPoints
spf_build_points(const SpfBuild *build)
{
	char	   *memory = spf_team_piece(build->team, SPF_TEAM_SAMPLE);
	int64		n = (int64) pg_atomic_read_u64(&build->common->nsample);

	return (SpfPoints) {
		.n = (int) Min(n, build->common->max_sample),.padded = build->index->padded,
			.codes = (int8_t *) memory,.scales = (float *) (memory + sample_codes_bytes(build))
	};
}

static void
sample_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	SpfBuild   *build = state;
	SpfIndex   *index = build->index;
	SpfBuildCommon *common = build->common;
	MemoryContext old;
	float	   *x;

	if (isnull[0] ||
		(common->sample_share < 1 && pg_prng_double(&build->prng) > common->sample_share))
		return;
	old = MemoryContextSwitchTo(build->row_context);
	if (spf_build_floats(build, values[0], &x))
	{
		int64		at = (int64) pg_atomic_fetch_add_u64(&common->nsample, 1);

		if (at < common->max_sample)
		{
			SpfPoints	points = spf_build_points(build);
			SpfRecordNumbers numbers;

			spf_index_rotate(index, x, x);
			spf_record_encode(x, index->padded,
							  unconstify(int8_t *, points.codes) + at * index->padded, &numbers);
			unconstify(float *, points.scales)[at] = numbers.scale;
			if (common->keep)
				kept_rows(build)[at] = (SpfKept) {numbers, *tid};
		}
		spf_build_count(build);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
}

void
spf_build_scan(SpfBuild *build, IndexBuildCallback callback)
{
	double		tuples = table_index_build_scan(build->heap, build->index->rel, build->info,
												true, spf_team_me(build->team) == 0, callback, build,
												spf_team_scan(build->team, build->heap));

	spf_value_reader_close(build->values);
	pg_atomic_fetch_add_u64(&build->common->heap_tuples, (int64) tuples);
	spf_team_note_broken_chain(build->team, build->info);
}

/* Everyone's part of sampling the table. */
void
spf_build_sample(SpfBuild *build)
{
	SpfBuildCommon *common = build->common;
	BlockNumber total = common->table_blocks;
	BlockSamplerData sampler;
	BlockNumber block = 0;
	int64		item;
	int64		at = -1;

	if (common->keep)
		spf_build_scan(build, sample_row);
	else if (common->sample_blocks >= total)
	{
		while (spf_team_claim(build->team, (total + RUN_BLOCKS - 1) / RUN_BLOCKS, &item))
		{
			block = (BlockNumber) (item * RUN_BLOCKS);
			scan_range(build, block, Min(RUN_BLOCKS, total - block), sample_row);
		}
	}
	else
	{
		/* all draw the same blocks, and each looks at those it claims */
		BlockSampler_Init(&sampler, total, common->sample_blocks, common->sample_seed);
		while (spf_team_claim(build->team, common->sample_blocks, &item))
		{
			for (; at < item; at++)
				block = BlockSampler_Next(&sampler);
			scan_range(build, block, 1, sample_row);
		}
	}
	spf_build_counted(build);
}

/* ---- assigning ---- */

/* A row knows its postings: on to its record. */
static void
row_assigned(void *state, void *item, const int32 *postings, int npostings)
{
	SpfBuild   *build = state;
	SpfRowItem *row = item;

	row->npostings = npostings;
	memset(row->postings, 0, sizeof(row->postings));
	memcpy(row->postings, postings, npostings * sizeof(int32));
	spf_spread_put(build->rows, postings[0],
				   (int32) hash_bytes((unsigned char *) row->code, build->index->padded), row);
}

static void
assign_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
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
		SpfRowItem *item = spf_assigner_slot(build->assigner);

		spf_index_rotate(index, x, x);
		spf_record_encode(x, index->padded, item->code, &item->numbers);
		item->tid = *tid;
		spf_assigner_put(build->assigner, item->code, item->numbers.scale);
		pg_atomic_fetch_add_u64(&build->common->index_tuples, 1);
		spf_build_count(build);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
}

void
spf_build_assign_coded(SpfBuild *build, const SpfKept *kept, const int8_t *code)
{
	SpfRowItem *item = spf_assigner_slot(build->assigner);

	item->tid = kept->tid;
	item->numbers = kept->numbers;
	memcpy(item->code, code, build->index->padded);
	spf_assigner_put(build->assigner, item->code, item->numbers.scale);
	pg_atomic_fetch_add_u64(&build->common->index_tuples, 1);
	spf_build_count(build);
}

/* The rows that were kept, by so many. */
#define KEPT_ROWS	256

static void
assign_kept(SpfBuild *build)
{
	SpfPoints	points = spf_build_points(build);
	const SpfKept *kept = kept_rows(build);
	int			padded = build->index->padded;
	int64		part;

	while (spf_team_claim(build->team, (points.n + KEPT_ROWS - 1) / KEPT_ROWS, &part))
	{
		int			first = (int) part * KEPT_ROWS;
		int			last = first + Min(KEPT_ROWS, points.n - first);

		for (int i = first; i < last; i++)
			spf_build_assign_coded(build, &kept[i], points.codes + (Size) i * padded);
	}
}

/* Everyone's part of assigning the table's rows. */
void
spf_build_assign(SpfBuild *build)
{
	build->rows = spf_build_spread(build, "rows", SPF_ROW_BYTES(build->index->padded), 0);
	build->assigner = spf_assigner_begin(build->index,
										 build->common->centroids ? &build->centroids : NULL,
										 build->index->replicas,
										 SPF_ROW_BYTES(build->index->padded), row_assigned, build);
	if (build->common->keep)
		assign_kept(build);
	else if (build->common->cells > 0)
		spf_build_assign_cells(build);
	else
		spf_build_scan(build, assign_row);
	spf_assigner_end(build->assigner);
	spf_build_counted(build);
	spf_spread_close(build->rows);
}
