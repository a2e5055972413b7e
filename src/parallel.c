/*-------------------------------------------------------------------------
 *
 * parallel.c
 *	  The processes that build an index together.
 *
 * PostgreSQL's parallel context gives the workers: their transaction, snapshot,
 * settings and user are the leader's, an error of one of them becomes the leader's, and
 * when the leader fails they are ended.  While a step runs, `open` is set: who
 * joins counts himself in `active`, and the leader waits until nobody is.
 *
 * What is shared and large (the sample, the centroids) lies in segments of their own,
 * as its size is not known when the workers start.
 *
 * Locks: the spinlock of SpfTeamShared, for some assignments at a time, nothing within.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "optimizer/clauses.h"
#include "optimizer/paths.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/dsm.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/backend_progress.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

#include "parallel.h"

/* Keys in the table of contents of the shared memory */
#define KEY_SHARED		UINT64CONST(0x5350464200000001)
#define KEY_SCAN		UINT64CONST(0x5350464200000002)
#define KEY_QUERY		UINT64CONST(0x5350464200000003)
#define KEY_WAL			UINT64CONST(0x5350464200000004)
#define KEY_BUFFERS		UINT64CONST(0x5350464200000005)

/* Kilobytes of maintenance_work_mem that each process is to have: PostgreSQL's own measure. */
#define LEAST_SHARE		32768

/* While it waits, the leader reports progress so often. */
#define REPORT_MS		200

typedef struct SpfTeamShared
{
	Oid			heap;
	Oid			rel;
	bool		concurrent;
	int			members;

	slock_t		mutex;
	uint32		number;			/* of the step */
	int			step;
	bool		open;			/* it can be joined */
	bool		over;			/* no more steps */
	bool		broken_chain;
	int			active;			/* workers at it */
	dsm_handle	pieces[SPF_TEAM_PIECES];
	ConditionVariable changed;	/* number, over */
	ConditionVariable finished; /* active */

	pg_atomic_uint64 next;		/* item */
	pg_atomic_uint64 done;		/* progress */
	SharedFileSet files;
} SpfTeamShared;

#define COMMON_OFFSET	MAXALIGN(sizeof(SpfTeamShared))

struct SpfTeam
{
	SpfTeamShared *shared;
	ParallelContext *context;	/* the leader's; NULL: alone */
	int			me;
	SpfTeamStep step;
	void	   *state;
	ParallelTableScanDesc scan;
	Snapshot	snapshot;		/* registered, or SnapshotAny */
	WalUsage   *wal_usage;
	BufferUsage *buffer_usage;
	int64		reported;

	struct
	{
		dsm_segment *segment;
		dsm_handle	handle;
		void	   *memory;		/* where there are no workers: allocated */
		void	   *chunk;
	}			pieces[SPF_TEAM_PIECES];
};

/* ---- what all do ---- */

void *
spf_team_common(SpfTeam *team)
{
	return (char *) team->shared + COMMON_OFFSET;
}

int
spf_team_me(const SpfTeam *team)
{
	return team->me;
}

int
spf_team_members(const SpfTeam *team)
{
	return team->shared->members;
}

SharedFileSet *
spf_team_files(SpfTeam *team)
{
	return team->shared->members > 1 ? &team->shared->files : NULL;
}

bool
spf_team_claim(SpfTeam *team, int64 nitems, int64 *item)
{
	*item = (int64) pg_atomic_fetch_add_u64(&team->shared->next, 1);
	return *item < nitems;
}

/* Tell what all have done so far: it never goes back. */
static void
report(SpfTeam *team)
{
	int64		done = (int64) pg_atomic_read_u64(&team->shared->done);

	if (done > team->reported)
	{
		team->reported = done;
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, done);
	}
}

void
spf_team_advance(SpfTeam *team, int64 done)
{
	pg_atomic_fetch_add_u64(&team->shared->done, done);
	if (team->me == 0)
		report(team);
}

void
spf_team_phase(SpfTeam *team, int phase, double total)
{
	Assert(team->me == 0);
	pg_atomic_write_u64(&team->shared->done, 0);
	team->reported = 0;
	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, phase);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, 0);
	spf_team_total(team, total);
}

void
spf_team_total(SpfTeam *team, double total)
{
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (int64) total);
}

void *
spf_team_piece(SpfTeam *team, int piece)
{
	return team->pieces[piece].memory;
}

TableScanDesc
spf_team_scan(SpfTeam *team, Relation heap)
{
	return team->scan ? table_beginscan_parallel(heap, team->scan) : NULL;
}

void
spf_team_rescan(SpfTeam *team, Relation heap)
{
	if (team->scan)
		table_parallelscan_reinitialize(heap, team->scan);
}

void
spf_team_note_broken_chain(SpfTeam *team, IndexInfo *info)
{
	SpinLockAcquire(&team->shared->mutex);
	team->shared->broken_chain |= info->ii_BrokenHotChain;
	info->ii_BrokenHotChain = team->shared->broken_chain;
	SpinLockRelease(&team->shared->mutex);
}

/* ---- the leader ---- */

void *
spf_team_alloc(SpfTeam *team, int piece, Size size)
{
	Assert(team->me == 0 && team->pieces[piece].memory == NULL);
	if (team->context != NULL)
	{
		team->pieces[piece].segment = dsm_create(size, 0);
		team->pieces[piece].memory = dsm_segment_address(team->pieces[piece].segment);
		team->shared->pieces[piece] = dsm_segment_handle(team->pieces[piece].segment);
	}
	else
	{
		team->pieces[piece].chunk = MemoryContextAllocHuge(CurrentMemoryContext,
														   size + PG_CACHE_LINE_SIZE);
		team->pieces[piece].memory = (void *) CACHELINEALIGN(team->pieces[piece].chunk);
	}
	return team->pieces[piece].memory;
}

void
spf_team_free(SpfTeam *team, int piece)
{
	if (team->pieces[piece].memory == NULL)
		return;
	if (team->context != NULL)
	{
		team->shared->pieces[piece] = DSM_HANDLE_INVALID;
		dsm_detach(team->pieces[piece].segment);
	}
	else
		pfree(team->pieces[piece].chunk);
	memset(&team->pieces[piece], 0, sizeof(team->pieces[piece]));
}

void
spf_team_run(SpfTeam *team, int step)
{
	SpfTeamShared *shared = team->shared;
	int			active;

	pg_atomic_write_u64(&shared->next, 0);
	if (team->context == NULL)
	{
		team->step(team->state, step);
		return;
	}
	SpinLockAcquire(&shared->mutex);
	shared->number++;
	shared->step = step;
	shared->open = true;
	SpinLockRelease(&shared->mutex);
	ConditionVariableBroadcast(&shared->changed);

	team->step(team->state, step);

	ConditionVariablePrepareToSleep(&shared->finished);
	for (;;)
	{
		SpinLockAcquire(&shared->mutex);
		shared->open = false;
		active = shared->active;
		SpinLockRelease(&shared->mutex);
		if (active == 0)
			break;
		(void) ConditionVariableTimedSleep(&shared->finished, REPORT_MS,
										   WAIT_EVENT_PARALLEL_CREATE_INDEX_SCAN);
		report(team);
	}
	ConditionVariableCancelSleep();
	report(team);
}

static void
init_shared(SpfTeamShared *shared, Relation heap, Relation rel, IndexInfo *info, Size common_size)
{
	memset(shared, 0, COMMON_OFFSET + common_size);
	shared->heap = RelationGetRelid(heap);
	shared->rel = RelationGetRelid(rel);
	shared->concurrent = info->ii_Concurrent;
	shared->members = 1;
	SpinLockInit(&shared->mutex);
	ConditionVariableInit(&shared->changed);
	ConditionVariableInit(&shared->finished);
	pg_atomic_init_u64(&shared->next, 0);
	pg_atomic_init_u64(&shared->done, 0);
	for (int i = 0; i < SPF_TEAM_PIECES; i++)
		shared->pieces[i] = DSM_HANDLE_INVALID;
}

/* Leave parallel mode. */
static void
end_context(SpfTeam *team)
{
	if (IsMVCCSnapshot(team->snapshot))
		UnregisterSnapshot(team->snapshot);
	DestroyParallelContext(team->context);
	ExitParallelMode();
	team->context = NULL;
}

/* Shared memory for `workers`, in a parallel context. */
static void
make_context(SpfTeam *team, int workers, Relation heap, Relation rel, IndexInfo *info,
			 Size common_size)
{
	ParallelContext *context;
	Size		scan_size;
	Size		query_size = debug_query_string ? strlen(debug_query_string) + 1 : 0;

	EnterParallelMode();
	context = team->context = CreateParallelContext("spfresh", "spf_team_worker", workers);
	team->snapshot = info->ii_Concurrent ? RegisterSnapshot(GetTransactionSnapshot()) : SnapshotAny;
	scan_size = table_parallelscan_estimate(heap, team->snapshot);
	shm_toc_estimate_chunk(&context->estimator, COMMON_OFFSET + common_size);
	shm_toc_estimate_chunk(&context->estimator, scan_size);
	shm_toc_estimate_chunk(&context->estimator, query_size + 1);
	shm_toc_estimate_chunk(&context->estimator, mul_size(sizeof(WalUsage), workers));
	shm_toc_estimate_chunk(&context->estimator, mul_size(sizeof(BufferUsage), workers));
	shm_toc_estimate_keys(&context->estimator, 5);
	InitializeParallelDSM(context);
	if (context->seg == NULL)
	{
		/* no shared memory to be had: alone, then */
		end_context(team);
		return;
	}

	team->shared = shm_toc_allocate(context->toc, COMMON_OFFSET + common_size);
	init_shared(team->shared, heap, rel, info, common_size);
	SharedFileSetInit(&team->shared->files, context->seg);
	team->scan = shm_toc_allocate(context->toc, scan_size);
	table_parallelscan_initialize(heap, team->scan, team->snapshot);
	team->wal_usage = shm_toc_allocate(context->toc, mul_size(sizeof(WalUsage), workers));
	team->buffer_usage = shm_toc_allocate(context->toc, mul_size(sizeof(BufferUsage), workers));
	shm_toc_insert(context->toc, KEY_SHARED, team->shared);
	shm_toc_insert(context->toc, KEY_SCAN, team->scan);
	shm_toc_insert(context->toc, KEY_WAL, team->wal_usage);
	shm_toc_insert(context->toc, KEY_BUFFERS, team->buffer_usage);
	if (query_size > 0)
	{
		char	   *query = shm_toc_allocate(context->toc, query_size);

		memcpy(query, debug_query_string, query_size);
		shm_toc_insert(context->toc, KEY_QUERY, query);
	}
}

/*
 * Pages that a scan of the table reads: those of its TOAST table as well, where the indexed values
 * may lie there.
 */
static double
pages_to_read(Relation heap, Relation rel)
{
	double		pages = RelationGetNumberOfBlocks(heap);
	Oid			toast = heap->rd_rel->reltoastrelid;
	AttrNumber	column = rel->rd_index->indkey.values[0];
	bool		plain = column > 0 &&
		TupleDescAttr(RelationGetDescr(heap), column - 1)->attstorage == TYPSTORAGE_PLAIN;

	if (pages > 0 && OidIsValid(toast) && !plain)
	{
		Relation	values = table_open(toast, AccessShareLock);

		pages += RelationGetNumberOfBlocks(values);
		table_close(values, AccessShareLock);
	}
	return Min(pages, MaxBlockNumber);
}

/* May workers look at this table, and compute what the index needs of its rows? */
static bool
workers_may_help(Relation heap, Relation rel)
{
	PlannerInfo *root = makeNode(PlannerInfo);

	if (!IsUnderPostmaster || heap->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		return false;
	root->glob = makeNode(PlannerGlobal);
	return is_parallel_safe(root, (Node *) RelationGetIndexExpressions(rel)) &&
		is_parallel_safe(root, (Node *) RelationGetIndexPredicate(rel));
}

/*
 * How many workers to ask for.  PostgreSQL's plan_create_index_workers, but that it looks at the
 * table's own pages only: vectors of some hundred dimensions and more are in TOAST.
 */
static int
plan_workers(Relation heap, Relation rel)
{
	int			most = max_parallel_maintenance_workers;
	int			workers = RelationGetParallelWorkers(heap, -1);
	RelOptInfo *table;

	if (most == 0 || !workers_may_help(heap, rel))
		return 0;
	if (workers != -1)
		return Min(workers, most);
	table = makeNode(RelOptInfo);
	table->reloptkind = RELOPT_BASEREL;
	table->rel_parallel_workers = -1;
	workers = compute_parallel_worker(table, pages_to_read(heap, rel), -1, most);
	while (workers > 0 && maintenance_work_mem / (workers + 1) < LEAST_SHARE)
		workers--;
	return workers;
}

SpfTeam *
spf_team_begin(Relation heap, Relation rel, IndexInfo *info, Size common_size,
			   SpfTeamStep step, void *state)
{
	SpfTeam    *team = palloc0(sizeof(SpfTeam));
	int			workers = plan_workers(heap, rel);

	team->step = step;
	team->state = state;
	if (workers > 0)
		make_context(team, workers, heap, rel, info, common_size);
	if (team->context != NULL)
	{
		/* before they start: it is what their shares of the memory go by */
		team->shared->members = workers + 1;
		LaunchParallelWorkers(team->context);
		ereport(DEBUG1,
				(errmsg_internal("%d workers help to build index \"%s\"",
								 team->context->nworkers_launched,
								 RelationGetRelationName(rel))));
		if (team->context->nworkers_launched > 0)
			return team;
		end_context(team);
	}
	team->scan = NULL;
	team->shared = palloc(COMMON_OFFSET + common_size);
	init_shared(team->shared, heap, rel, info, common_size);
	return team;
}

void
spf_team_end(SpfTeam *team)
{
	SpfTeamShared *shared = team->shared;

	for (int i = 0; i < SPF_TEAM_PIECES; i++)
		spf_team_free(team, i);
	if (team->context == NULL)
		return;
	SpinLockAcquire(&shared->mutex);
	shared->over = true;
	SpinLockRelease(&shared->mutex);
	ConditionVariableBroadcast(&shared->changed);
	WaitForParallelWorkersToFinish(team->context);
	for (int i = 0; i < team->context->nworkers_launched; i++)
		InstrAccumParallelQuery(&team->buffer_usage[i], &team->wal_usage[i]);
	end_context(team);
}

/* ---- a worker ---- */

static void
drop_piece(SpfTeam *team, int piece)
{
	if (team->pieces[piece].segment != NULL)
		dsm_detach(team->pieces[piece].segment);
	team->pieces[piece].segment = NULL;
	team->pieces[piece].memory = NULL;
}

/* Look at the pieces of shared memory that are there now. */
static void
follow_pieces(SpfTeam *team)
{
	for (int i = 0; i < SPF_TEAM_PIECES; i++)
	{
		dsm_handle	handle = team->shared->pieces[i];

		if (handle == team->pieces[i].handle)
			continue;
		drop_piece(team, i);
		team->pieces[i].handle = handle;
		if (handle == DSM_HANDLE_INVALID)
			continue;
		team->pieces[i].segment = dsm_attach(handle);
		if (team->pieces[i].segment == NULL)
			elog(ERROR, "could not attach to the shared memory of an index build");
		team->pieces[i].memory = dsm_segment_address(team->pieces[i].segment);
	}
}

/* Wait for a step after `number`, and join it; false when there are no more. */
static bool
join_step(SpfTeamShared *shared, uint32 *number, int *step)
{
	bool		joined = false;
	bool		over = false;

	ConditionVariablePrepareToSleep(&shared->changed);
	for (;;)
	{
		SpinLockAcquire(&shared->mutex);
		over = shared->over;
		if (shared->number != *number && shared->open)
		{
			*number = shared->number;
			*step = shared->step;
			shared->active++;
			joined = true;
		}
		SpinLockRelease(&shared->mutex);
		if (joined || over)
			break;
		ConditionVariableSleep(&shared->changed, WAIT_EVENT_PARALLEL_CREATE_INDEX_SCAN);
	}
	ConditionVariableCancelSleep();
	return joined;
}

void
spf_team_serve(SpfTeam *team, SpfTeamStep step, void *state)
{
	SpfTeamShared *shared = team->shared;
	uint32		number = 0;
	int			what;

	while (join_step(shared, &number, &what))
	{
		follow_pieces(team);
		step(state, what);
		SpinLockAcquire(&shared->mutex);
		shared->active--;
		SpinLockRelease(&shared->mutex);
		ConditionVariableSignal(&shared->finished);
	}
	for (int i = 0; i < SPF_TEAM_PIECES; i++)
		drop_piece(team, i);
}

PGDLLEXPORT void spf_team_worker(dsm_segment *segment, shm_toc *toc);

void
spf_team_worker(dsm_segment *segment, shm_toc *toc)
{
	SpfTeam		team = {.me = ParallelWorkerNumber + 1};
	SpfTeamShared *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	WalUsage   *wal_usage = shm_toc_lookup(toc, KEY_WAL, false);
	BufferUsage *buffer_usage = shm_toc_lookup(toc, KEY_BUFFERS, false);
	LOCKMODE	heap_lock = shared->concurrent ? ShareUpdateExclusiveLock : ShareLock;
	LOCKMODE	index_lock = shared->concurrent ? RowExclusiveLock : AccessExclusiveLock;
	Relation	heap;
	Relation	rel;
	IndexInfo  *info;

	debug_query_string = shm_toc_lookup(toc, KEY_QUERY, true);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	heap = table_open(shared->heap, heap_lock);
	rel = index_open(shared->rel, index_lock);
	info = BuildIndexInfo(rel);
	info->ii_Concurrent = shared->concurrent;

	team.shared = shared;
	team.scan = shm_toc_lookup(toc, KEY_SCAN, false);
	for (int i = 0; i < SPF_TEAM_PIECES; i++)
		team.pieces[i].handle = DSM_HANDLE_INVALID;
	SharedFileSetAttach(&shared->files, segment);
	InstrStartParallelQuery();
	spf_build_serve(&team, heap, rel, info);
	InstrEndParallelQuery(&buffer_usage[ParallelWorkerNumber], &wal_usage[ParallelWorkerNumber]);

	index_close(rel, index_lock);
	table_close(heap, heap_lock);
}
