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
#include "access/heapam.h"
#include "access/nbtxlog.h"
#include "access/reloptions.h"
#include "access/tableam.h"
#include "access/toast_internals.h"
#include "access/xloginsert.h"
#include "common/relpath.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain.h"
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "postmaster/autovacuum.h"
#include "storage/buf_internals.h"
#include "storage/buffile.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#if PG_VERSION_NUM >= 170000
#include "storage/read_stream.h"
#endif
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
	/* a relation made by this transaction is local, but for the workers that build it */
	bool		needlock = !RELATION_IS_LOCAL(rel) || IsInParallelMode();

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

/* Have a shared buffer's descriptor fetched into the caches. */
static inline void
spf_prefetch_descriptor(Buffer buf)
{
	__builtin_prefetch(GetBufferDescriptor(buf - 1), 1);
}

/*
 * Let a table's fetch find its page pinned: the heap looks at the page it has before it asks the
 * shared buffer table.  Takes over the pin; false where the table is no heap.
 */
static inline bool
spf_lend_page(Relation table, IndexFetchTableData *fetch, Buffer buf)
{
	IndexFetchHeapData *heap = (IndexFetchHeapData *) fetch;

	if (table->rd_tableam != GetHeapamTableAmRoutine())
		return false;
	if (BufferIsValid(heap->xs_cbuf))
		ReleaseBuffer(heap->xs_cbuf);
	heap->xs_cbuf = buf;
	return true;
}

/* The page that a table's fetch has pinned, or InvalidBuffer. */
static inline Buffer
spf_fetched_page(Relation table, IndexFetchTableData *fetch)
{
	return table->rd_tableam == GetHeapamTableAmRoutine() ?
		((IndexFetchHeapData *) fetch)->xs_cbuf : InvalidBuffer;
}

/*
 * Is this block in this buffer?  Looked at without a lock: the answer may be out of date at once, and is good for
 * hints only.
 */
static inline bool
spf_buffer_holds(Relation rel, BlockNumber block, Buffer buf)
{
	const BufferTag *tag = &GetBufferDescriptor(buf - 1)->tag;

#if PG_VERSION_NUM >= 160000
	return tag->blockNum == block && tag->relNumber == rel->rd_locator.relNumber &&
		tag->forkNum == MAIN_FORKNUM;
#else
	return tag->blockNum == block && tag->rnode.relNode == rel->rd_node.relNode &&
		tag->forkNum == MAIN_FORKNUM;
#endif
}

/* Where a block is in shared buffers, or InvalidBuffer; not pinned. */
static inline Buffer
spf_find_buffer(Relation rel, BlockNumber block)
{
	BufferTag	tag;
	uint32		hash;
	int			id;

#if PG_VERSION_NUM >= 160000
	InitBufferTag(&tag, &rel->rd_locator, MAIN_FORKNUM, block);
#else
	INIT_BUFFERTAG(tag, rel->rd_node, MAIN_FORKNUM, block);
#endif
	hash = BufTableHashCode(&tag);
	LWLockAcquire(BufMappingPartitionLock(hash), LW_SHARED);
	id = BufTableLookup(&tag, hash);
	LWLockRelease(BufMappingPartitionLock(hash));
	return id < 0 ? InvalidBuffer : id + 1;
}

/* The path of a segment of a relation's file; a struct since 18. */
static inline void
spf_relation_path(Relation rel, BlockNumber segment, char *path)
{
#if PG_VERSION_NUM >= 180000
	RelPathStr	name = relpathperm(rel->rd_locator, MAIN_FORKNUM);
	const char *base = name.str;
#elif PG_VERSION_NUM >= 160000
	char	   *base = relpathperm(rel->rd_locator, MAIN_FORKNUM);
#else
	char	   *base = relpathperm(rel->rd_node, MAIN_FORKNUM);
#endif

	if (segment > 0)
		snprintf(path, MAXPGPATH, "%s.%u", base, segment);
	else
		strlcpy(path, base, MAXPGPATH);
#if PG_VERSION_NUM < 180000
	pfree(base);
#endif
}

/* Read streams are there since 17.  This one brings some blocks into shared buffers, all at once. */
#if PG_VERSION_NUM >= 170000
#define SPF_READ_STREAMS

typedef struct SpfBlockList
{
	const BlockNumber *blocks;
	int			left;
} SpfBlockList;

static inline BlockNumber
spf_next_in_list(ReadStream *stream, void *list, void *unused)
{
	SpfBlockList *blocks = list;

	return blocks->left-- > 0 ? *blocks->blocks++ : InvalidBlockNumber;
}

static inline void
spf_read_by_stream(Relation rel, const BlockNumber *blocks, int nblocks)
{
	SpfBlockList list = {blocks, nblocks};
	ReadStream *stream;
	Buffer		buf;

	stream = read_stream_begin_relation(READ_STREAM_FULL, NULL, rel, MAIN_FORKNUM,
										spf_next_in_list, &list, 0);
	while (BufferIsValid(buf = read_stream_next_buffer(stream, NULL)))
		ReleaseBuffer(buf);
	read_stream_end(stream);
}
#else
static inline void
spf_read_by_stream(Relation rel, const BlockNumber *blocks, int nblocks)
{
}
#endif

/* EXPLAIN lets extensions speak since 18. */
#if PG_VERSION_NUM >= 180000
#define SPF_EXPLAIN_HOOK
#endif

/* Was the relation given its storage by the running transaction? */
#if PG_VERSION_NUM >= 160000
#define spf_new_storage(rel)	((rel)->rd_firstRelfilelocatorSubid != InvalidSubTransactionId)
#else
#define spf_new_storage(rel)	((rel)->rd_firstRelfilenodeSubid != InvalidSubTransactionId)
#endif

/* What pg_stat_activity says a background worker waits for: has a name of its own since 17 */
#if PG_VERSION_NUM >= 170000
static inline uint32
spf_wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew("SpfreshWorkerMain");
	return event;
}
#else
#define spf_wait_event()	PG_WAIT_EXTENSION
#endif

/* Let vacuum_delay_point() of a background worker go by autovacuum's settings, where these are set. */
static inline void
spf_throttle_as_autovacuum(void)
{
	double		delay = autovacuum_vac_cost_delay >= 0 ? autovacuum_vac_cost_delay : VacuumCostDelay;
	int			limit = autovacuum_vac_cost_limit > 0 ? autovacuum_vac_cost_limit : VacuumCostLimit;

#if PG_VERSION_NUM >= 160000
	vacuum_cost_delay = delay;
	vacuum_cost_limit = limit;
#else
	VacuumCostDelay = delay;
	VacuumCostLimit = limit;
#endif
	VacuumCostActive = delay > 0;
	VacuumCostBalance = 0;
}

/* A path that must not be chosen: told so since 18, priced out before. */
#if PG_VERSION_NUM >= 180000
#define spf_disable_path(path)	((path)->disabled_nodes = 2)
#else
#define spf_disable_path(path)	((void) (path))
#endif

/* The server can be told that builds use workers since 17.  How many is our own plan (parallel.c). */
static inline void
spf_can_build_parallel(IndexAmRoutine *am)
{
#if PG_VERSION_NUM >= 170000
	am->amcanbuildparallel = true;
#endif
}

/* Read all of `size` bytes; false at the end of the file. */
static inline bool
spf_read_item(BufFile *file, void *item, size_t size)
{
	size_t		read;

#if PG_VERSION_NUM >= 160000
	read = BufFileReadMaybeEOF(file, item, size, true);
#else
	read = BufFileRead(file, item, size);
#endif
	if (read != 0 && read != size)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read temporary file of an index build: read only %zu of %zu bytes",
						read, size)));
	return read != 0;
}

/* The snapshot that sees the pieces of every value of a row that is visible; `space` outlives its use. */
static inline Snapshot
spf_toast_snapshot(SnapshotData *space)
{
#if PG_VERSION_NUM >= 180000
	return get_toast_snapshot();
#else
	init_toast_snapshot(space);
	return space;
#endif
}

/* index_beginscan got a parameter in 18 */
static inline IndexScanDesc
spf_index_beginscan(Relation table, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(table, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(table, index, snapshot, nkeys, 0);
#endif
}

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
