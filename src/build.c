/*-------------------------------------------------------------------------
 *
 * build.c
 *	  CREATE INDEX and REINDEX.
 *
 * 1. A few blocks of the table give dimension, origin (their mean) and the density of rows;
 *	  then a sample is taken, of whatever fits a share of maintenance_work_mem.
 * 2. Centroids are trained on the sample (train.c).
 * 3. Every row is assigned to its postings and spilled, sorted by its first posting.
 * 4. In that order records are written; equal vectors share one.
 * 5. For every posting a record belongs to, its vector is spilled again, sorted by
 *	  posting; in that order postings are written.  One that is too large
 *	  is clustered into several first: so neither the shape of the data nor a
 *	  lack of memory for centroids makes a difference but in quality.
 * 6. The postings' centroids are the vectors of the next level: 2, 3 and 5 again,
 *	  until few enough are left for a root.
 * 7. The index is calibrated, and its pages are logged, once each.
 *
 * Pages are written through shared buffers without WAL until 7; nobody else sees the
 * index before the command commits.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "access/xloginsert.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "pgstat.h"
#include "utils/backend_progress.h"
#include "utils/memutils.h"
#include "utils/sampling.h"

#include "assign.h"
#include "build.h"
#include "calibrate.h"
#include "insert.h"
#include "meta.h"
#include "posting.h"
#include "record.h"
#include "spill.h"
#include "split.h"

/* Blocks looked at for the dimension and the origin. */
#define FIRST_BLOCKS		300

/* Vectors wanted for each centroid, and at least in all. */
#define SAMPLE_PER_CENTROID	64
#define SAMPLE_MIN			10000

/* Rounds over all vectors of the sample: see train.c. */
#define POLISH_ROUNDS		2

/* Shares of maintenance_work_mem: what is alive at the same time adds up to less than 1. */
#define SHARE_SAMPLE		0.35
#define SHARE_CENTROIDS		0.25
#define SHARE_SORT			0.30
#define SHARE_GROUP			0.15

typedef struct SpfBuild
{
	Relation	heap;
	IndexInfo  *info;
	SpfIndex   *index;
	const SpfOptions *options;
	SpfMeta		meta;
	MemoryContext row_context;
	pg_prng_state prng;
	double		heap_tuples;
	double		index_tuples;

	/* looking at the first blocks */
	double	   *mean;
	int64		seen;

	/* the sample */
	int8_t	   *codes;
	float	   *scales;
	int64		nsample;
	int64		max_sample;
	double		sample_share;	/* of the rows met, to be taken */

	/* assigning a level */
	SpfCentroids *centroids;	/* NULL: all in one posting */
	SpfAssigner *assigner;
	SpfSort    *rows;			/* SpfRowItem by first posting and code */
	SpfSort    *members;		/* SpfMember by posting */
	SpfRecordWriter records;
	SpfList    *next_level;		/* SpfMember: the centroids of the postings written */
} SpfBuild;

/* A row on its way to its record. */
typedef struct SpfRowItem
{
	ItemPointerData tid;
	uint16		npostings;
	int32		postings[8];
	SpfRecordNumbers numbers;
	int8_t		code[FLEXIBLE_ARRAY_MEMBER];
} SpfRowItem;

/* A record on its way to its postings. */
typedef struct SpfMember
{
	SpfRecordRef ref;
	float		scale;
	int8_t		code[FLEXIBLE_ARRAY_MEMBER];
} SpfMember;

#define ROW_BYTES(padded)		(offsetof(SpfRowItem, code) + (padded))
#define MEMBER_BYTES(padded)	(offsetof(SpfMember, code) + (padded))

static Size
budget(double share)
{
	return (Size) (maintenance_work_mem * 1024.0 * share);
}

/* A phase begins, of `total` items; 0 where they are not counted. */
static void
phase(int number, double total)
{
	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, number);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, 0);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (int64) total);
}

/* ---- 1. looking at the table ---- */

/* A row's vector, rotated, or false if it is not indexed.  Sets the dimension at the first one. */
static bool
row_floats(SpfBuild *build, Datum value, float **floats)
{
	SpfIndex   *index = build->index;
	void	   *datum = PG_DETOAST_DATUM(value);
	int			dim = index->type->dim(datum);

	spf_check_dim(index, dim, index->dim > 0 ? index->dim : spf_typmod_dim(index->rel));
	if (index->dim == 0)
	{
		index->dim = dim;
		index->padded = spf_padded(dim);
		build->mean = MemoryContextAllocZero(GetMemoryChunkContext(build->index),
											 index->padded * sizeof(double));
	}
	*floats = palloc(index->padded * sizeof(float));
	return spf_index_floats(index, datum, dim, *floats);
}

static void
first_look(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	SpfBuild   *build = state;
	MemoryContext old = MemoryContextSwitchTo(build->row_context);
	float	   *floats;

	if (!isnull[0] && row_floats(build, values[0], &floats))
	{
		for (int i = 0; i < build->index->dim; i++)
			build->mean[i] += floats[i];
		build->seen++;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
}

static void
sample_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	SpfBuild   *build = state;
	SpfIndex   *index = build->index;
	MemoryContext old;
	float	   *x;

	if (isnull[0] || build->nsample >= build->max_sample ||
		pg_prng_double(&build->prng) > build->sample_share)
		return;
	old = MemoryContextSwitchTo(build->row_context);
	if (row_floats(build, values[0], &x))
	{
		SpfRecordNumbers numbers;

		spf_index_rotate(index, x, x);
		spf_record_encode(x, index->padded, build->codes + build->nsample * index->padded,
						  &numbers);
		build->scales[build->nsample++] = numbers.scale;
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, build->nsample);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
}

/* Run a callback over the rows of about `blocks` randomly chosen blocks of the table. */
static void
scan_blocks(SpfBuild *build, BlockNumber blocks, IndexBuildCallback callback)
{
	BlockNumber total = RelationGetNumberOfBlocks(build->heap);
	BlockSamplerData sampler;

	if (blocks >= total)
	{
		table_index_build_scan(build->heap, build->index->rel, build->info, false, false,
							   callback, build, NULL);
		return;
	}
	BlockSampler_Init(&sampler, total, blocks, (uint32) pg_prng_uint32(&build->prng));
	while (BlockSampler_HasMore(&sampler))
	{
		CHECK_FOR_INTERRUPTS();
		table_index_build_range_scan(build->heap, build->index->rel, build->info,
									 false, !build->info->ii_Concurrent, false,
									 BlockSampler_Next(&sampler), 1,
									 callback, build, NULL);
	}
}

/* Dimension, origin, and about how many rows there are; false if there are none. */
static bool
look_at_table(SpfBuild *build, double *rows)
{
	SpfIndex   *index = build->index;
	BlockNumber blocks = RelationGetNumberOfBlocks(build->heap);
	BlockNumber looked_at = Min(blocks, FIRST_BLOCKS);
	float	   *origin;
	int			bits;

	scan_blocks(build, looked_at, first_look);
	if (build->seen == 0 && looked_at < blocks)
	{
		looked_at = blocks;
		scan_blocks(build, looked_at, first_look);
	}
	if (build->seen == 0)
		return false;

	*rows = (double) build->seen * blocks / looked_at;
	origin = palloc0(index->padded * sizeof(float));
	for (int i = 0; i < index->dim; i++)
		origin[i] = (float) (build->mean[i] / build->seen);
	bits = spf_choose_bits(build->options, index->dim);
	spf_index_derive(index, index->dim, bits, SPF_SEED);
	spf_choose_limits(index, build->options);
	spf_init_origin(index, origin, &build->meta);
	return true;
}

/* Centroids that a level of so many vectors is to have; at least 1. */
static int
plan_centroids(const SpfBuild *build, double vectors, int initial)
{
	const SpfIndex *index = build->index;
	double		want = vectors * index->replicas / (index->split_limit * SPF_PLANNED_SHARE);
	double		most = (double) budget(SHARE_CENTROIDS) / (index->padded * sizeof(float));

	if (initial > 0)
		want = initial;
	return (int) Max(1, Min(want, most));
}

/* Make room for a sample of about `vectors`, of which `met` will be looked at. */
static void
begin_sample(SpfBuild *build, double vectors, double met)
{
	build->max_sample = (int64) Min(vectors * 1.2 + 1000, INT_MAX / 2);
	build->sample_share = Min(1, vectors / Max(met, 1));
	build->nsample = 0;
	build->codes = MemoryContextAllocHuge(CurrentMemoryContext,
										  build->max_sample * build->index->padded);
	build->scales = MemoryContextAllocHuge(CurrentMemoryContext,
										   build->max_sample * sizeof(float));
}

/* Vectors to train so many centroids on: as many as are good for them, and fit. */
static double
plan_sample(const SpfBuild *build, int centroids)
{
	double		each = build->index->padded + sizeof(float) + 16;

	return Min(Max(SAMPLE_MIN, (double) centroids * SAMPLE_PER_CENTROID),
			   budget(SHARE_SAMPLE) / each / 1.2);
}

/* Take a sample of the table's rows. */
static void
sample_table(SpfBuild *build, double rows, int centroids)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(build->heap);
	double		density = rows / nblocks;
	double		want = Min(plan_sample(build, centroids), rows);
	BlockNumber blocks = (BlockNumber) Min(want / density * 1.1 + 1, (double) nblocks);

	begin_sample(build, want, blocks * density);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (int64) want);
	scan_blocks(build, blocks, sample_row);
}

/* ---- 2. training ---- */

static void
report_training(double done)
{
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) (done * 1000));
}

static void
train(SpfBuild *build, int centroids)
{
	SpfPoints	points = {.n = (int) build->nsample,.padded = build->index->padded,
		.codes = build->codes,.scales = build->scales};
	SpfKmeansHost host = spf_host;

	phase(SPF_PHASE_TRAIN, 1000);
	host.progress = report_training;
	build->centroids = NULL;
	if (centroids > 1 && build->nsample > 0)
		build->centroids = spf_train(&points, centroids, POLISH_ROUNDS, SPF_SEED, &host);
	pfree(build->codes);
	pfree(build->scales);
}

static void
forget_centroids(SpfBuild *build)
{
	if (build->centroids == NULL)
		return;
	spf_centroids_free(build->centroids, &spf_host);
	build->centroids = NULL;
}

/* ---- 3. assigning ---- */

/* A row knows its postings: on to its record. */
static void
row_assigned(void *state, void *item, const int32 *postings, int npostings)
{
	SpfBuild   *build = state;
	SpfRowItem *row = item;
	int			padded = build->index->padded;

	row->npostings = npostings;
	memset(row->postings, 0, sizeof(row->postings));
	memcpy(row->postings, postings, npostings * sizeof(int32));
	spf_sort_put(build->rows, postings[0],
				 (int32) hash_bytes((unsigned char *) row->code, padded), row, ROW_BYTES(padded));
}

static void
assign_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	SpfBuild   *build = state;
	SpfIndex   *index = build->index;
	MemoryContext old;
	float	   *floats;
	float	   *x;

	if (isnull[0])
		return;
	old = MemoryContextSwitchTo(build->row_context);
	if (row_floats(build, values[0], &floats))
	{
		SpfRowItem *item = spf_assigner_slot(build->assigner, &x);

		spf_index_rotate(index, floats, x);
		spf_record_encode(x, index->padded, item->code, &item->numbers);
		spf_record_decode(item->code, item->numbers.scale, index->padded, x);
		item->tid = *tid;
		spf_assigner_put(build->assigner);
		build->index_tuples++;
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE,
									 (int64) build->index_tuples);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
}

static void
assign_rows(SpfBuild *build, double rows)
{
	phase(SPF_PHASE_ASSIGN, rows);
	build->rows = spf_sort_begin((int) (maintenance_work_mem * SHARE_SORT));
	build->assigner = spf_assigner_begin(build->index, build->centroids,
										 ROW_BYTES(build->index->padded), row_assigned, build);
	build->heap_tuples = table_index_build_scan(build->heap, build->index->rel, build->info,
												true, true, assign_row, build, NULL);
	spf_assigner_end(build->assigner);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (int64) build->index_tuples);
	spf_sort_perform(build->rows);
}

/* ---- 4. records ---- */

static void
put_member(void *state, void *member, const int32 *postings, int npostings)
{
	SpfBuild   *build = state;

	for (int i = 0; i < npostings; i++)
		spf_sort_put(build->members, postings[i], 0, member,
					 MEMBER_BYTES(build->index->padded));
}

/* Rows with one and the same code, about to become a record. */
typedef struct SpfEqualRows
{
	SpfRowItem *first;
	int			ntids;
	ItemPointerData tids[SPF_WRITER_TIDS];
	SpfRecordRef ref;			/* once written */
} SpfEqualRows;

static void
write_record(SpfBuild *build, SpfEqualRows *equal, SpfMember *member)
{
	SpfVector	vector = {.numbers = equal->first->numbers,.code = equal->first->code};

	equal->ref = spf_record_writer_add(&build->records, 0, &vector, equal->tids, equal->ntids,
									   SPF_NO_PAGE);
	member->ref = equal->ref;
	member->scale = vector.numbers.scale;
	memcpy(member->code, vector.code, build->index->padded);
	put_member(build, member, equal->first->postings, equal->first->npostings);
}

static bool
same_code(const SpfBuild *build, const SpfRowItem *a, const SpfRowItem *b)
{
	return memcmp(&a->numbers, &b->numbers, sizeof(SpfRecordNumbers)) == 0 &&
		memcmp(a->code, b->code, build->index->padded) == 0;
}

/* Add a row to those collected, or straight to their record if that had to be written. */
static void
join_row(SpfBuild *build, SpfEqualRows *equal, const SpfRowItem *item, SpfMember *member)
{
	if (equal->ntids < SPF_WRITER_TIDS)
	{
		equal->tids[equal->ntids++] = item->tid;
		return;
	}
	if (!BlockNumberIsValid(equal->ref.block))
		write_record(build, equal, member);
	if (!spf_record_add_tid(build->index, equal->ref, &item->tid))
		elog(ERROR, "could not add a row to its record");
}

static void
write_records(SpfBuild *build)
{
	int			padded = build->index->padded;
	SpfMember  *member = palloc0(MEMBER_BYTES(padded));
	SpfEqualRows equal = {.first = palloc(ROW_BYTES(padded))};
	const SpfRowItem *item;
	int32		major;
	int32		minor;
	int32		last_minor = 0;
	Size		length;
	int64		done = 0;

	phase(SPF_PHASE_RECORDS, build->index_tuples);
	build->members = spf_sort_begin((int) (maintenance_work_mem * SHARE_SORT));
	spf_record_writer_begin(&build->records, build->index, build->options->fillfactor);
	while ((item = spf_sort_next(build->rows, &major, &minor, &length)) != NULL)
	{
		if (equal.ntids > 0 && minor == last_minor && same_code(build, equal.first, item))
			join_row(build, &equal, item, member);
		else
		{
			if (equal.ntids > 0 && !BlockNumberIsValid(equal.ref.block))
				write_record(build, &equal, member);
			memcpy(equal.first, item, ROW_BYTES(padded));
			equal.tids[0] = item->tid;
			equal.ntids = 1;
			equal.ref = SPF_NO_RECORD;
			last_minor = minor;
		}
		if ((++done & 127) == 0)
		{
			CHECK_FOR_INTERRUPTS();
			pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, done);
		}
	}
	if (equal.ntids > 0 && !BlockNumberIsValid(equal.ref.block))
		write_record(build, &equal, member);
	spf_record_writer_end(&build->records);
	spf_sort_end(build->rows);
	spf_sort_perform(build->members);
	pfree(member);
	pfree(equal.first);
}

/* ---- 5. postings ---- */

/* The members of one posting, or of as many as fit the memory. */
typedef struct SpfGroup
{
	int			n;
	int			space;
	int			most;			/* members that fit the budget */
	SpfRecordRef *refs;
	float	   *points;
} SpfGroup;

static void
group_add(SpfBuild *build, SpfGroup *group, const SpfMember *member)
{
	int			padded = build->index->padded;

	if (group->n == group->space)
	{
		group->space = Min(group->most, group->space * 2);
		group->refs = repalloc_huge(group->refs, group->space * sizeof(SpfRecordRef));
		group->points = repalloc_huge(group->points,
									  (Size) group->space * padded * sizeof(float));
	}
	group->refs[group->n] = member->ref;
	spf_record_decode(member->code, member->scale, padded,
					  group->points + (Size) group->n * padded);
	group->n++;
}

/* Write a posting under its centroid, and note the centroid for the next level. */
static void
write_posting(SpfBuild *build, int level, const SpfGroup *group, const int *members, int m,
			  const float *mean)
{
	SpfIndex   *index = build->index;
	int			padded = index->padded;
	float	   *centroid = palloc(padded * sizeof(float));
	SpfMember  *noted = palloc0(MEMBER_BYTES(padded));
	SpfVector	vector = {.code = noted->code};
	SpfEntry   *entries;
	SpfPageRef	head;
	Buffer		buf;

	spf_record_encode(mean, padded, vector.code, &vector.numbers);
	spf_record_decode(vector.code, vector.numbers.scale, padded, centroid);
	entries = spf_form_entries(index, group->points, group->refs, members, m, centroid);
	head = spf_posting_create(index, level, SPF_NO_RECORD, entries, m);
	noted->ref = spf_record_writer_add(&build->records, level + 1, &vector, NULL, 0, head);
	noted->scale = vector.numbers.scale;
	spf_list_put(build->next_level, noted);

	buf = spf_page_follow(index->rel, head, SPF_PAGE_POSTING, BUFFER_LOCK_EXCLUSIVE);
	spf_posting_set_centroid(BufferGetPage(buf), noted->ref);
	MarkBufferDirty(buf);
	UnlockReleaseBuffer(buf);
	build->meta.counters.postings[level]++;
}

static void
mean_of(const SpfGroup *group, int padded, float *mean)
{
	double	   *sum = palloc0(padded * sizeof(double));

	for (int i = 0; i < group->n; i++)
	{
		for (int d = 0; d < padded; d++)
			sum[d] += group->points[(Size) i * padded + d];
	}
	for (int d = 0; d < padded; d++)
		mean[d] = (float) (sum[d] / group->n);
	pfree(sum);
}

/* Write a group as one posting, or as several if it is too large for one. */
static void
write_group(SpfBuild *build, int level, SpfGroup *group)
{
	SpfIndex   *index = build->index;
	SpfKmeansOptions options = {.rounds = 12,.min_share = 0.66,.max_share = 1.34,.seed = SPF_SEED};
	int			padded = index->padded;
	int			k = 1;
	MemoryContext old = MemoryContextSwitchTo(build->row_context);
	int32	   *assign;
	int		   *members;
	float	   *centroids;

	if (group->n > index->split_limit)
		k = Max(2, (int) ceil(group->n / (index->split_limit * SPF_PLANNED_SHARE)));
	assign = palloc0(group->n * sizeof(int32));
	members = palloc_extended(group->n * sizeof(int), MCXT_ALLOC_HUGE);
	centroids = palloc_extended((Size) k * padded * sizeof(float), MCXT_ALLOC_HUGE);
	if (k > 1)
		k = spf_kmeans(group->points, group->n, padded, k, &options, &spf_host,
					   centroids, assign);
	if (k == 1)
	{
		memset(assign, 0, group->n * sizeof(int32));
		mean_of(group, padded, centroids);
	}
	for (int j = 0; j < k; j++)
	{
		int			m = 0;

		for (int i = 0; i < group->n; i++)
		{
			if (assign[i] == j)
				members[m++] = i;
		}
		CHECK_FOR_INTERRUPTS();
		if (m > 0)
			write_posting(build, level, group, members, m, centroids + (Size) j * padded);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
	group->n = 0;
}

static void
write_root(SpfBuild *build, int level, const SpfGroup *group)
{
	int		   *members = palloc(Max(group->n, 1) * sizeof(int));
	SpfEntry   *entries;

	for (int i = 0; i < group->n; i++)
		members[i] = i;
	entries = spf_form_entries(build->index, group->points, group->refs, members, group->n,
							   NULL);
	build->meta.root = spf_posting_create(build->index, level, SPF_NO_RECORD, entries, group->n);
	build->meta.root_level = level;
	build->meta.counters.postings[level] = 1;
}

static void
group_begin(const SpfBuild *build, SpfGroup *group)
{
	const SpfIndex *index = build->index;
	Size		each = index->padded * sizeof(float) + sizeof(SpfRecordRef);

	group->n = 0;
	group->most = (int) Min(budget(SHARE_GROUP) / each, INT_MAX / 4);
	group->most = Max(group->most, index->split_limit * SPF_ROOT_SHARE + 1);
	group->space = Min(group->most, 2 * index->split_limit);
	group->refs = palloc(group->space * sizeof(SpfRecordRef));
	group->points = palloc_extended((Size) group->space * index->padded * sizeof(float),
									MCXT_ALLOC_HUGE);
}

/*
 * Write the postings of a level from its sorted members.  Returns true if all of them became the
 * root.
 */
static bool
write_postings(SpfBuild *build, int level)
{
	SpfIndex   *index = build->index;
	SpfGroup	group;
	const SpfMember *member;
	int32		major;
	int32		minor;
	int32		last = -1;
	Size		length;
	int64		done = 0;
	bool		whole = build->centroids == NULL;

	if (level == 0)
		phase(SPF_PHASE_POSTINGS, build->index_tuples);
	else
		phase(SPF_PHASE_LEVELS, 0);
	group_begin(build, &group);
	spf_record_writer_begin(&build->records, index, build->options->fillfactor);
	build->next_level = spf_list_begin(MEMBER_BYTES(index->padded));
	while ((member = spf_sort_next(build->members, &major, &minor, &length)) != NULL)
	{
		if (group.n > 0 && (major != last || group.n == group.most))
		{
			whole = false;
			write_group(build, level, &group);
		}
		last = major;
		group_add(build, &group, member);
		if ((++done & 127) == 0)
		{
			CHECK_FOR_INTERRUPTS();
			pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE,
										 done / index->replicas);
		}
	}
	whole = whole && group.n <= index->split_limit * SPF_ROOT_SHARE;
	if (whole)
		write_root(build, level, &group);
	else if (group.n > 0)
		write_group(build, level, &group);
	spf_record_writer_end(&build->records);
	spf_sort_end(build->members);
	pfree(group.refs);
	pfree(group.points);
	return whole;
}

/* ---- 6. upper levels ---- */

/* Sample, train and assign the centroids of the level below. */
static void
assign_centroids(SpfBuild *build, SpfList *list)
{
	SpfIndex   *index = build->index;
	int			padded = index->padded;
	SpfMember  *member = palloc(MEMBER_BYTES(padded));
	double		count = (double) spf_list_count(list);
	int			want = 1;
	float	   *x;

	if (count > index->split_limit * SPF_ROOT_SHARE)
		want = Max(2, plan_centroids(build, count, 0));
	begin_sample(build, Min(plan_sample(build, want), count), count);
	spf_list_rewind(list);
	while (build->nsample < build->max_sample && spf_list_next(list, member))
	{
		if (pg_prng_double(&build->prng) > build->sample_share)
			continue;
		memcpy(build->codes + build->nsample * padded, member->code, padded);
		build->scales[build->nsample++] = member->scale;
	}
	train(build, want);
	phase(SPF_PHASE_LEVELS, count);

	build->members = spf_sort_begin((int) (maintenance_work_mem * SHARE_SORT));
	build->assigner = spf_assigner_begin(index, build->centroids, MEMBER_BYTES(padded),
										 put_member, build);
	spf_list_rewind(list);
	for (;;)
	{
		member = spf_assigner_slot(build->assigner, &x);
		if (!spf_list_next(list, member))
			break;
		spf_record_decode(member->code, member->scale, padded, x);
		spf_assigner_put(build->assigner);
	}
	spf_assigner_end(build->assigner);
	spf_sort_perform(build->members);
	spf_list_end(list);
}

static void
build_levels(SpfBuild *build)
{
	int			level = 0;

	while (!write_postings(build, level))
	{
		SpfList    *list = build->next_level;

		forget_centroids(build);
		if (++level >= SPF_MAX_LEVELS)
			elog(ERROR, "index \"%s\" would have too many levels",
				 RelationGetRelationName(build->index->rel));
		assign_centroids(build, list);
	}
	spf_list_end(build->next_level);
	forget_centroids(build);
}

/* ---- the whole ---- */

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

static void
build_index(SpfBuild *build)
{
	double		rows;
	int			centroids;

	phase(SPF_PHASE_SAMPLE, 0);
	if (!look_at_table(build, &rows))
		return;

	centroids = plan_centroids(build, rows, build->options->initial_postings);
	if (rows <= build->index->split_limit && build->options->initial_postings == 0)
		centroids = 1;
	if (centroids > 1)
	{
		sample_table(build, rows, centroids);
		train(build, centroids);
	}
	assign_rows(build, rows);
	write_records(build);
	build_levels(build);
	write_meta(build);
	if (build->meta.root_level > 0)
	{
		phase(SPF_PHASE_CALIBRATE, 0);
		spf_calibrate(build->index);
	}
}

IndexBuildResult *
spf_build(Relation heap, Relation rel, IndexInfo *info)
{
	SpfBuild   *build = palloc0(sizeof(SpfBuild));
	IndexBuildResult *result = palloc(sizeof(IndexBuildResult));
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "spfresh build",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	if (RelationGetNumberOfBlocks(rel) != 0)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(rel));

	build->heap = heap;
	build->info = info;
	build->options = spf_options(rel);
	build->index = palloc0(sizeof(SpfIndex));
	build->index->rel = rel;
	build->index->type = spf_type_metric(rel);
	build->index->building = true;
	build->row_context = AllocSetContextCreate(context, "spfresh build row",
											   ALLOCSET_DEFAULT_SIZES);
	spf_check_dim(build->index, spf_typmod_dim(rel), 0);
	pg_prng_seed(&build->prng, SPF_SEED);
	spf_meta_init(&build->meta, build->index);
	spf_meta_create(rel, MAIN_FORKNUM, &build->meta);

	old = MemoryContextSwitchTo(context);
	build_index(build);
	MemoryContextSwitchTo(old);
	if (RelationNeedsWAL(rel))
	{
		phase(SPF_PHASE_LOG, 0);
		log_newpage_range(rel, MAIN_FORKNUM, 0, RelationGetNumberOfBlocks(rel), true);
	}

	result->heap_tuples = build->heap_tuples;
	result->index_tuples = build->index_tuples;
	MemoryContextDelete(context);
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
