/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Every difference between PostgreSQL 15, 16, 17 and 18, and nowhere else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_COMPAT_H
#define SPF_COMPAT_H

#include "postgres.h"

#include "access/amapi.h"
#include "access/genam.h"
#include "access/nbtxlog.h"
#include "access/reloptions.h"
#include "access/tableam.h"
#include "access/xloginsert.h"
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/autovacuum.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#if PG_VERSION_NUM < 150000
#error "spfresh needs PostgreSQL 15 or later"
#endif

/* vacuum_delay_point() got a parameter in 18 */
#if PG_VERSION_NUM >= 180000
#define spf_vacuum_delay_point()	vacuum_delay_point(false)
#else
#define spf_vacuum_delay_point()	vacuum_delay_point()
#endif

#if PG_VERSION_NUM >= 170000
#define spf_in_autovacuum()		AmAutoVacuumWorkerProcess()
#else
#define spf_in_autovacuum()		IsAutoVacuumWorkerProcess()
#endif

/* ExecutorRun lost execute_once in 18 */
#if PG_VERSION_NUM >= 180000
#define SPF_EXECUTOR_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define SPF_EXECUTOR_RUN_PASS	queryDesc, direction, count
#else
#define SPF_EXECUTOR_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define SPF_EXECUTOR_RUN_PASS	queryDesc, direction, count, execute_once
#endif

/*
 * Extend a relation by one page; returns it pinned and exclusively locked.
 * 16 does the locking of the extension itself.
 */
static inline Buffer
spf_extend_buffer(Relation rel)
{
#if PG_VERSION_NUM >= 160000
	return ExtendBufferedRel(BMR_REL(rel), MAIN_FORKNUM, NULL, EB_LOCK_FIRST);
#else
	Buffer		buf;
	bool		needlock = !RELATION_IS_LOCAL(rel);

	for (;;)
	{
		if (needlock)
			LockRelationForExtension(rel, ExclusiveLock);
		buf = ReadBuffer(rel, P_NEW);
		LockBuffer(buf, BUFFER_LOCK_EXCLUSIVE);
		if (needlock)
			UnlockRelationForExtension(rel, ExclusiveLock);

		/* before it was locked, vacuum can have found it, and somebody used it */
		if (PageIsNew(BufferGetPage(buf)))
			return buf;
		UnlockReleaseBuffer(buf);
	}
#endif
}

/*
 * Tell standbys that a page is about to be used again which nobody with a snapshot from after `xid` can be
 * on the way to.  There is no such record of ours, but btree's says just this.
 */
static inline void
spf_log_reuse(Relation rel, BlockNumber block, FullTransactionId xid)
{
	xl_btree_reuse_page record;

	memset(&record, 0, sizeof(record));
	record.block = block;
#if PG_VERSION_NUM >= 160000
	record.locator = rel->rd_locator;
	record.snapshotConflictHorizon = xid;
	record.isCatalogRel = false;
#else
	record.node = rel->rd_node;
	record.latestRemovedFullXid = xid;
#endif
	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfBtreeReusePage);
	XLogInsert(RM_BTREE_ID, XLOG_BTREE_REUSE_PAGE);
}

/* Ownership of a relation: one function for all kinds of objects since 16 */
#if PG_VERSION_NUM >= 160000
#define spf_owns_relation(relid, role)	object_ownercheck(RelationRelationId, relid, role)
#else
#define spf_owns_relation(relid, role)	pg_class_ownercheck(relid, role)
#endif

/* For maintenance as the table's owner; before 17 the caller's search_path stays */
#if PG_VERSION_NUM >= 170000
#define spf_restrict_search_path()	RestrictSearchPath()
#else
#define spf_restrict_search_path()	((void) 0)
#endif

/* ConditionalLockTuple() can log its failures since 18 */
#if PG_VERSION_NUM >= 180000
#define spf_conditional_lock_tuple(rel, tid, mode)	ConditionalLockTuple(rel, tid, mode, false)
#else
#define spf_conditional_lock_tuple(rel, tid, mode)	ConditionalLockTuple(rel, tid, mode)
#endif

/* What a relation's storage is known by was renamed in 16. */
#if PG_VERSION_NUM >= 160000
#define spf_storage_number(rel)	((rel)->rd_locator.relNumber)
#define spf_read_recent(rel, block, buf) \
	ReadRecentBuffer((rel)->rd_locator, MAIN_FORKNUM, block, buf)
#else
#define spf_storage_number(rel)	((rel)->rd_node.relNode)
#define spf_read_recent(rel, block, buf) \
	ReadRecentBuffer((rel)->rd_node, MAIN_FORKNUM, block, buf)
#endif

/* A path that must not be chosen: told so since 18, priced out before. */
#if PG_VERSION_NUM >= 180000
#define spf_disable_path(path)	((path)->disabled_nodes = 2)
#else
#define spf_disable_path(path)	((void) (path))
#endif

/* The instrumentation counter of index searches is there since 18. */
static inline void
spf_count_search(IndexScanDesc scan)
{
	pgstat_count_index_scan(scan->indexRelation);
#if PG_VERSION_NUM >= 180000
	if (scan->instrument)
		scan->instrument->nsearches++;
#endif
}

#endif							/* SPF_COMPAT_H */
