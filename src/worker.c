/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  Background workers that rebalance indexes.
 *
 * A worker is started by whoever finds that an index has work and no worker: a dynamic one, so the
 * library need not be preloaded.  Where it is, a launcher also looks at all databases every
 * spfresh.naptime, so that what a crash left is done before the next insertion or vacuum.
 *
 * A worker has the presence lock of its index (there is one at most), and one of
 * spfresh.max_workers places in the server; both are heavyweight locks of its session, so they
 * go with it however it ends.  It works in transactions of some milliseconds, in which it holds
 * table and index in the mode of an insertion: DDL waits for no more than one of them.  Between
 * them it looks whether its database is being dropped or copied.  It is throttled like
 * autovacuum, and goes when there has been nothing to do for a while.
 *
 * An error ends a worker.  It is logged, kept in the index (spfresh_stats shows it), and the
 * item that it came from is dropped, to be found again by vacuum.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "commands/defrem.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "calibrate.h"
#include "fault.h"
#include "rebalance.h"
#include "worker.h"

int			spf_setting_max_workers = 2;
int			spf_setting_naptime = 60;

/* A transaction of a worker ends after so many milliseconds. */
#define SLICE_MS		20

/* It looks for new work so often, and goes when there was none for so long. */
#define POLL_MS			100
#define LINGER_MS		5000

/* After a request, a backend makes no other for the same index for so long. */
#define REQUEST_MS		200

/*
 * Advisory locks, which a session keeps through errors and loses with its end; users' own have 1 or 2
 * for the last number.
 */
#define LOCK_CLASS		0x53504652
#define LOCK_PRESENCE	4
#define LOCK_PLACE		5

PGDLLEXPORT void spf_worker_main(Datum arg);
PGDLLEXPORT void spf_launcher_main(Datum arg);

/* What a worker is about. */
typedef struct SpfWorkerTask
{
	Oid			database;
	Oid			index;			/* InvalidOid: all of the database, once */
} SpfWorkerTask;

/* ---- locks ---- */

static LOCKTAG
presence_tag(Oid database, Oid index)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, database, LOCK_CLASS, index, LOCK_PRESENCE);
	return tag;
}

static bool
take_presence(Oid index)
{
	LOCKTAG		tag = presence_tag(MyDatabaseId, index);

	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

static void
leave_presence(Oid index)
{
	LOCKTAG		tag = presence_tag(MyDatabaseId, index);

	LockRelease(&tag, ExclusiveLock, true);
}

/* Is there a free place for a worker?  With `keep` it is taken, to the end of the session. */
static bool
find_place(bool keep)
{
	for (int i = 0; i < spf_setting_max_workers; i++)
	{
		LOCKTAG		tag;

		SET_LOCKTAG_ADVISORY(tag, InvalidOid, LOCK_CLASS, i, LOCK_PLACE);
		if (LockAcquire(&tag, ExclusiveLock, keep, true) == LOCKACQUIRE_NOT_AVAIL)
			continue;
		if (!keep)
			LockRelease(&tag, ExclusiveLock, false);
		return true;
	}
	return false;
}

/* Does somebody want the database for himself? */
static bool
database_wanted(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

/* ---- asking for one ---- */

static bool
start_worker(const SpfWorkerTask *task, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;

	/* who waits for its end is told of it */
	worker.bgw_notify_pid = handle != NULL ? MyProcPid : 0;
	strlcpy(worker.bgw_library_name, "spfresh", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "spf_worker_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_type, "spfresh worker", sizeof(worker.bgw_type));
	if (OidIsValid(task->index))
		snprintf(worker.bgw_name, sizeof(worker.bgw_name), "spfresh worker for index %u",
				 task->index);
	else
		snprintf(worker.bgw_name, sizeof(worker.bgw_name), "spfresh worker for database %u",
				 task->database);
	memcpy(worker.bgw_extra, task, sizeof(SpfWorkerTask));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

bool
spf_worker_request(SpfIndex *index)
{
	static Oid	last_index = InvalidOid;
	static TimestampTz last_time = 0;
	static bool last_result = false;
	Oid			relid = RelationGetRelid(index->rel);
	TimestampTz now = GetCurrentTimestamp();
	SpfWorkerTask task = {MyDatabaseId, relid};
	LOCKTAG		tag = presence_tag(MyDatabaseId, relid);

	if (relid == last_index && !TimestampDifferenceExceeds(last_time, now, REQUEST_MS))
		return last_result;
	last_index = relid;
	last_time = now;
	last_result = true;
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, ExclusiveLock, false);
	if (!find_place(false))
		return last_result = false;
	return last_result = start_worker(&task, NULL);
}

/* ---- working ---- */

/* An index and its table, while a transaction works on them. */
typedef struct SpfTarget
{
	Relation	heap;
	Relation	rel;
} SpfTarget;

static bool
is_fit(Relation rel)
{
	return rel->rd_rel->relkind == RELKIND_INDEX && rel->rd_index->indisready &&
		rel->rd_index->indisvalid && !RELATION_IS_OTHER_TEMP(rel);
}

/*
 * Begin a transaction, and open an index and its table as an insertion does; false if it is not
 * there, or not fit to be changed.  end_with in either case.
 */
static bool
begin_with(Oid relid, SpfTarget *target)
{
	Oid			heapid;

	target->heap = target->rel = NULL;
	StartTransactionCommand();
	heapid = IndexGetRelation(relid, true);
	if (OidIsValid(heapid))
		target->heap = try_relation_open(heapid, RowExclusiveLock);
	if (target->heap != NULL)
		target->rel = try_relation_open(relid, RowExclusiveLock);
	return target->rel != NULL && is_fit(target->rel);
}

static void
end_with(const SpfTarget *target)
{
	if (target->rel != NULL)
		relation_close(target->rel, RowExclusiveLock);
	if (target->heap != NULL)
		relation_close(target->heap, RowExclusiveLock);
	CommitTransactionCommand();
}

/* What a slice found. */
typedef enum SpfSlice
{
	SLICE_GONE,					/* no such index */
	SLICE_IDLE,
	SLICE_BUSY
} SpfSlice;

static SpfSlice
work_on(SpfRebalance *rebalance, Relation rel)
{
	TimestampTz start = GetCurrentTimestamp();
	int64		ndone = rebalance->ndone;
	bool		calibrated = false;
	SpfIndex   *index = rebalance->index = spf_index_open(rel);

	rebalance->worker = true;
	if (index->dim == 0 || !spf_rebalance_lock(index, false))
		return SLICE_IDLE;

	/*
	 * What waits for running scans waits for the transaction id of its time to pass; where nobody else
	 * takes one, it would for ever.
	 */
	if (rebalance->nlater > 0 || rebalance->ndone > rebalance->npassed)
		(void) GetTopTransactionId();
	rebalance->npassed = rebalance->ndone;
	rebalance->nlater = 0;
	do
	{
		if (!spf_rebalance_step(rebalance))
		{
			calibrated = spf_calibrate_if_due(index);
			break;
		}
		spf_fault_point("worker step");
		spf_vacuum_delay_point();
	} while (!TimestampDifferenceExceeds(start, GetCurrentTimestamp(), SLICE_MS));
	spf_rebalance_unlock(index);
	return calibrated || rebalance->ndone > ndone ? SLICE_BUSY : SLICE_IDLE;
}

/* One transaction's worth of work. */
static SpfSlice
work_slice(SpfRebalance *rebalance, Oid relid)
{
	SpfSlice	slice = SLICE_GONE;
	SpfTarget	target;

	SetCurrentStatementStartTimestamp();
	if (begin_with(relid, &target))
	{
		/* so that horizons are known as they are now */
		PushActiveSnapshot(GetTransactionSnapshot());
		PopActiveSnapshot();
		slice = work_on(rebalance, target.rel);
	}
	end_with(&target);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return slice;
}

/* After an error: keep what it was, and do not run into it again at once. */
static void
note_failure(SpfRebalance *rebalance, Oid relid, const char *message)
{
	SpfTarget	target;

	if (begin_with(relid, &target))
	{
		SpfIndex   *index = spf_index_open(target.rel);

		if (rebalance->item.kind != SPF_WORK_NONE)
			spf_work_done(index, &rebalance->item, 1, NULL);
		spf_work_failed(index, message);
	}
	end_with(&target);
}

/* A slice; false after an error. */
static bool
try_slice(SpfRebalance *rebalance, Oid relid, SpfSlice *slice)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *volatile message = NULL;

	PG_TRY();
	{
		*slice = work_slice(rebalance, relid);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		message = pstrdup(error->message);
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (message != NULL)
		note_failure(rebalance, relid, message);
	return message == NULL;
}

static void
nap(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 spf_wait_event());
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		spf_throttle_as_autovacuum();
	}
}

/*
 * Now and then, and before leaving: have all postings looked at if there was no room on the list for things that
 * could wait.  Returns whether that is so.
 */
static bool
look_again(SpfRebalance *rebalance, Oid relid)
{
	bool		again = false;
	SpfTarget	target;

	if (begin_with(relid, &target))
	{
		SpfWorkList list;
		SpfIndex   *index = spf_index_open(target.rel);

		spf_work_read(index, &list);
		again = list.dropped != 0;
		if (again)
			spf_work_need_survey(index);
	}
	end_with(&target);
	return again;
}

/* Work on an index until there is nothing to do (for `linger` milliseconds). */
static void
work_off(Oid relid, long linger)
{
	SpfRebalance *rebalance = MemoryContextAllocZero(TopMemoryContext, sizeof(SpfRebalance));
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "spfresh worker",
												  ALLOCSET_DEFAULT_SIZES);
	TimestampTz busy = GetCurrentTimestamp();
	TimestampTz looked = busy;

	while (!database_wanted())
	{
		SpfSlice	slice;
		TimestampTz now;

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		if (!try_slice(rebalance, relid, &slice) || slice == SLICE_GONE)
			break;
		CHECK_FOR_INTERRUPTS();
		now = GetCurrentTimestamp();
		if (slice == SLICE_BUSY)
			busy = now;
		if (linger == 0 ? slice == SLICE_IDLE : TimestampDifferenceExceeds(looked, now, linger))
		{
			looked = now;
			if (look_again(rebalance, relid))
				busy = now;
			else if (linger == 0 || TimestampDifferenceExceeds(busy, now, linger))
				break;
		}
		if (slice != SLICE_BUSY && busy != now)
			nap(POLL_MS);
	}
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(context);
	pfree(rebalance);
}

/* All indexes of ours in the database, in `context`. */
static List *
find_indexes(MemoryContext context)
{
	List	   *indexes = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	Oid			am;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	am = get_index_am_oid("spfresh", true);
	rel = table_open(RelationRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (OidIsValid(am) && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
		MemoryContext old;

		if (form->relkind != RELKIND_INDEX || form->relam != am ||
			form->relpersistence == RELPERSISTENCE_TEMP)
			continue;
		old = MemoryContextSwitchTo(context);
		indexes = lappend_oid(indexes, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return indexes;
}

void
spf_worker_main(Datum arg)
{
	SpfWorkerTask task;
	ListCell   *cell;

	memcpy(&task, MyBgworkerEntry->bgw_extra, sizeof(task));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(task.database, InvalidOid, 0);
	spf_throttle_as_autovacuum();
	if (!find_place(true))
		return;
	if (OidIsValid(task.index))
	{
		if (take_presence(task.index))
			work_off(task.index, LINGER_MS);
		return;
	}
	foreach(cell, find_indexes(TopMemoryContext))
	{
		if (!take_presence(lfirst_oid(cell)))
			continue;
		work_off(lfirst_oid(cell), 0);
		leave_presence(lfirst_oid(cell));
	}
}

/* ---- the launcher ---- */

static List *
find_databases(MemoryContext context)
{
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!form->datallowconn || form->datistemplate)
			continue;
		old = MemoryContextSwitchTo(context);
		databases = lappend_oid(databases, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

void
spf_launcher_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	context = AllocSetContextCreate(TopMemoryContext, "spfresh launcher", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		ListCell   *cell;

		MemoryContextReset(context);
		foreach(cell, find_databases(context))
		{
			SpfWorkerTask task = {lfirst_oid(cell), InvalidOid};
			BackgroundWorkerHandle *handle;

			MemoryContextSwitchTo(context);
			if (start_worker(&task, &handle) &&
				WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
				proc_exit(1);
			CHECK_FOR_INTERRUPTS();
		}
		pgstat_report_activity(STATE_IDLE, NULL);
		nap(spf_setting_naptime * 1000L);
	}
}

void
spf_worker_init(void)
{
	BackgroundWorker launcher = {0};

	if (!process_shared_preload_libraries_in_progress)
		return;
	launcher.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
	launcher.bgw_restart_time = 60;
	strlcpy(launcher.bgw_library_name, "spfresh", sizeof(launcher.bgw_library_name));
	strlcpy(launcher.bgw_function_name, "spf_launcher_main", sizeof(launcher.bgw_function_name));
	strlcpy(launcher.bgw_name, "spfresh launcher", sizeof(launcher.bgw_name));
	strlcpy(launcher.bgw_type, "spfresh launcher", sizeof(launcher.bgw_type));
	RegisterBackgroundWorker(&launcher);
}
