/*-------------------------------------------------------------------------
 *
 * build_parts.h
 *	  What the parts of a build have in common: build.c, build_table.c, build_cells.c,
 *	  build_write.c, given.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_BUILD_PARTS_H
#define SPF_BUILD_PARTS_H

#include "postgres.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "port/atomics.h"

#include "code.h"
#include "index.h"
#include "kmeans.h"
#include "meta.h"
#include "parallel.h"
#include "piles.h"
#include "record.h"
#include "row_value.h"
#include "spill.h"

/*
 * Shares of maintenance_work_mem: what is alive at the same time adds up to less than 1.  Sample and
 * centroids are there once, all else is divided among the processes.
 */
#define SHARE_SAMPLE		0.35
#define SHARE_CENTROIDS		0.25
#define SHARE_SORT			0.30
#define SHARE_GROUP			0.15

/* Vectors wanted for each centroid. */
#define SPF_SAMPLE_PER_CENTROID	64

/* Rounds over all vectors of the sample: see train.c. */
#define SPF_POLISH_ROUNDS	2

/* However little memory there is, so many rows of a cell are looked at. */
#define SPF_MIN_CELL_ROWS	1000

/* The steps that all processes do. */
enum
{
	BUILD_SAMPLE,
	BUILD_SPILL,
	BUILD_CELLS,
	BUILD_ASSIGN,
	BUILD_RECORDS,
	BUILD_POSTINGS,
	BUILD_CALIBRATE,
	BUILD_LOG,
	BUILD_TRAIN					/* and behind it, training's own */
};

/* What all processes know and count; written by the leader between steps, but for the counters. */
typedef struct SpfBuildCommon
{
	int			dim;			/* 0: not known yet */
	float		origin[SPF_MAX_DIM];	/* padded */

	/* sampling */
	BlockNumber table_blocks;
	BlockNumber sample_blocks;	/* of the table's, to be looked at */
	uint32		sample_seed;
	double		sample_share;	/* of the rows met, to be taken */
	int64		max_sample;
	bool		keep;			/* the sample is the whole table: assign from it, do not scan again */
	pg_atomic_uint64 nsample;

	/* training cell by cell; 0: as a whole */
	int			cells;
	double		cell_row_bytes;
	int32		cell_slot[SPF_MOST_PILES + 1];	/* where its centroids go */
	int32		cell_got[SPF_MOST_PILES];	/* and how many came */
	pg_atomic_uint32 cell_rows[SPF_MOST_PILES];

	/* sorting */
	bool		centroids;		/* else all goes to one posting */
	int			buckets;
	int64		majors;

	pg_atomic_uint64 heap_tuples;
	pg_atomic_uint64 index_tuples;
	pg_atomic_uint64 postings;	/* of level 0 */
} SpfBuildCommon;

typedef struct SpfBuild
{
	Relation	heap;
	IndexInfo  *info;
	SpfIndex   *index;
	const SpfOptions *options;
	SpfTeam    *team;
	SpfBuildCommon *common;
	MemoryContext context;
	MemoryContext row_context;
	SpfValueReader *values;		/* of the table's rows */
	pg_prng_state prng;
	SpfMeta		meta;			/* the leader's */
	double		samples;		/* of the calibration; the leader's */

	/* looking at the first blocks */
	double	   *mean;
	int64		seen;			/* rows, of */
	int64		met_first;		/* so many that have a value; */
	int64		met;			/* and such that came later */

	/* assigning a level */
	SpfTrain   *train;
	SpfCentroids centroids;
	SpfPiles   *cells;			/* rows by cell */
	struct SpfAssigner *assigner;
	int64		counted;		/* done, but not told yet */
	SpfSpread  *rows;			/* SpfRowItem by first posting and code */
	SpfSpread  *members;		/* SpfMember by posting */
	SpfSpread  *next;			/* SpfMember: the centroids of the postings written */
	SpfRecordWriter records;
} SpfBuild;

/* What is kept of a row beside its code and scale, where the sample is the whole table. */
typedef struct SpfKept
{
	SpfRecordNumbers numbers;
	ItemPointerData tid;
} SpfKept;

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

#define SPF_ROW_BYTES(padded)		(offsetof(SpfRowItem, code) + (padded))
#define SPF_MEMBER_BYTES(padded)	(offsetof(SpfMember, code) + (padded))

static inline Size
spf_build_budget(double share)
{
	return (Size) (maintenance_work_mem * 1024.0 * share);
}

/* One process's part of it, in kilobytes. */
static inline int
spf_build_kilobytes(const SpfBuild *build, double share)
{
	return (int) (maintenance_work_mem * share / spf_team_members(build->team));
}

/* Count one more item of a phase, and look for interrupts now and then. */
static inline void
spf_build_count(SpfBuild *build)
{
	if (++build->counted == 128)
	{
		CHECK_FOR_INTERRUPTS();
		spf_team_advance(build->team, build->counted);
		build->counted = 0;
	}
}

static inline void
spf_build_counted(SpfBuild *build)
{
	spf_team_advance(build->team, build->counted);
	build->counted = 0;
}

/* build.c: what was spread at level 0, or at a higher one, which the leader builds alone. */
extern SpfSpread *spf_build_spread(const SpfBuild *build, const char *name, Size item_size,
								   int level);

/* Centroids that there is memory for */
extern double spf_build_most_centroids(const SpfBuild *build);

/* Centroids lie in SPF_TEAM_CENTROIDS from now on, or no longer. */
extern void spf_build_take_centroids(SpfBuild *build);
extern void spf_build_forget_centroids(SpfBuild *build);

/*
 * build_cells.c: into how many cells to part the rows, and training from the coarse centroids on
 * that are the cells; everyone's parts of it.
 */
extern int	spf_build_plan_cells(SpfBuild *build, double rows, int centroids);
extern void spf_build_train_cells(SpfBuild *build, int centroids);
extern void spf_build_spill(SpfBuild *build);
extern void spf_build_cells(SpfBuild *build);
extern void spf_build_assign_cells(SpfBuild *build);

/* build_table.c: the leader's first look, sampling, assigning. */
extern bool spf_build_look(SpfBuild *build, double *rows);
extern void spf_build_sample(SpfBuild *build);
extern void spf_build_assign(SpfBuild *build);

/* Everyone's part of scanning the whole table, the one time that counts. */
extern void spf_build_scan(SpfBuild *build, IndexBuildCallback callback);

/* Assign a row that is coded already. */
extern void spf_build_assign_coded(SpfBuild *build, const SpfKept *kept, const int8_t *code);

/* The sample in shared memory: make room, and look at it. */
extern void spf_build_sample_room(SpfBuild *build, double vectors, double met, bool keep);
extern SpfPoints spf_build_points(const SpfBuild *build);

/* A value's vector, rotated in, or false if it is not indexed. */
extern bool spf_build_floats(SpfBuild *build, Datum value, float **floats);

/* build_write.c: records, postings; a level's postings, true if they became the root. */
extern void spf_build_records(SpfBuild *build);
extern void spf_build_postings(SpfBuild *build);
extern bool spf_build_level(SpfBuild *build, int level);
extern void spf_build_put_member(void *state, void *member, const int32 *postings,
								 int npostings);

/* given.c: how many centroids the storage parameter "centroids" gives; they go to `to`, rotated. */
extern int	spf_given_count(SpfBuild *build);
extern void spf_given_load(SpfBuild *build, float *to, int count);

#endif							/* SPF_BUILD_PARTS_H */
