/*-------------------------------------------------------------------------
 *
 * vacuum.c
 *	  VACUUM: dead rows go, their entries are swept, pages are used again.
 *
 * One pass over all pages takes dead rows out of records and kills records
 * left without any; on its way it turns retired postings into free pages
 * and enters free pages into the free space map.  The killed are collected, within
 * maintenance_work_mem, and a pass over the postings takes their entries out.  Entries
 * that this misses are stale by version: never wrong, and gone with the next split.
 * Last, what is due of the postings is listed (work.h), and free pages at the end of the file
 * are given back.
 *
 * What a crash left behind (postings that no centroid leads to, pages that no posting leads to)
 * looks just like what a running split is about to use.  So such pages are just noted, and
 * looked at again in the end, under the exclusive heavyweight lock on the meta page's number,
 * which splits share: briefly, for while it is held nobody can split.
 *
 * Locks: as posting.h and record.h say; one page at a time otherwise.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/storage.h"
#include "storage/indexfsm.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#include "calibrate.h"
#include "meta.h"
#include "posting.h"
#include "rebalance.h"
#include "record.h"
#include "route.h"
#include "vacuum.h"
#include "work.h"

typedef struct SpfVacuum
{
	IndexVacuumInfo *info;
	IndexBulkDeleteResult *stats;
	SpfIndex   *index;
	IndexBulkDeleteCallback callback;
	void	   *callback_state;
	SpfRecordVacuum records;
	FullTransactionId announced;	/* what is reused, to standbys */

	/* killed records whose entries are to be swept */
	SpfRecordRef *killed;
	int64		nkilled;
	int64		max_killed;
	int64		swept;
	bool		unneeded;		/* of the posting at hand: what was superseded can go */

	/* pages that nothing seems to lead to */
	BlockNumber *suspects;
	int			nsuspects;

	/* heads met, one bit a block */
	uint8	   *heads;
	BlockNumber nblocks;
} SpfVacuum;

static bool
tid_is_dead(ItemPointer tid, void *state)
{
	SpfVacuum  *vacuum = state;

	return vacuum->callback(tid, vacuum->callback_state);
}

/* ---- sweeping ---- */

static bool
ref_is_killed(SpfRecordRef ref, bool superseded, void *state)
{
	SpfVacuum  *vacuum = state;

	return (superseded && vacuum->unneeded) ||
		bsearch(&ref, vacuum->killed, vacuum->nkilled, sizeof(SpfRecordRef),
				   spf_record_ref_cmp) != NULL;
}

/* Sweep one posting, unless it is being split: then only what lives is taken over anyway. */
static void
sweep_posting(SpfVacuum *vacuum, BlockNumber block)
{
	Relation	rel = vacuum->index->rel;
	SpfPageRef	head;
	SpfPageRef	page;
	BlockNumber pages = 0;
	SpfPostingView view;

	if (!spf_try_lock_block(rel, block, ExclusiveLock))
		return;
	if (spf_posting_look_at(vacuum->index, block, vacuum->info->strategy, &head, &view) &&
		spf_posting_is_live(&view))
	{
		vacuum->unneeded = spf_may_forget(rel, block, view.superseded_at);
		for (page = head; BlockNumberIsValid(page.block);)
		{
			SpfPageRef	next;

			spf_vacuum_delay_point();
			if (pages++ > RelationGetNumberOfBlocks(rel))
				spf_page_corrupted(rel, block, "A posting's pages have no end.");
			vacuum->swept += spf_posting_sweep_page(vacuum->index, head, page, ref_is_killed,
													vacuum, &next);
			page = next;
		}
		if (vacuum->unneeded)
			(void) spf_posting_edit(vacuum->index, head, &(SpfPostingEdit) {.swept = true});
	}
	spf_unlock_block(rel, block, ExclusiveLock);
}

static void
sweep(SpfVacuum *vacuum)
{
	if (vacuum->nkilled == 0)
		return;
	qsort(vacuum->killed, vacuum->nkilled, sizeof(SpfRecordRef), spf_record_ref_cmp);
	for (BlockNumber block = 0; block < vacuum->nblocks; block++)
	{
		if ((vacuum->heads[block / 8] & (1 << (block % 8))) == 0)
			continue;
		spf_vacuum_delay_point();
		sweep_posting(vacuum, block);
	}
	vacuum->nkilled = 0;
}

/* All heads there are, for a sweep before the pass has met them all. */
static void
find_heads(SpfVacuum *vacuum)
{
	for (BlockNumber block = SPF_META_BLOCK + 1; block < vacuum->nblocks; block++)
	{
		Buffer		buf;

		spf_vacuum_delay_point();
		buf = spf_page_read_strategy(vacuum->index->rel, block, BUFFER_LOCK_SHARE,
									 vacuum->info->strategy);
		if (!BufferIsValid(buf))
			continue;
		if (SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_POSTING)
			vacuum->heads[block / 8] |= 1 << (block % 8);
		UnlockReleaseBuffer(buf);
	}
}

static void
note_killed(void *state, SpfRecordRef ref)
{
	SpfVacuum  *vacuum = state;

	if (vacuum->nkilled == vacuum->max_killed)
	{
		find_heads(vacuum);
		sweep(vacuum);
	}
	vacuum->killed[vacuum->nkilled++] = ref;
}

/* ---- pages ---- */

/* Pages that are noted at most: more are for the next vacuum. */
#define MAX_SUSPECTS	10000

/* Does anything lead to this posting?  It is a head, and not retired. */
static bool
is_orphan(SpfVacuum *vacuum, SpfPageRef head, const SpfPostingView *view)
{
	int			padded = vacuum->index->padded;
	SpfVector	vector;
	float	   *centroid;
	SpfPageRef	child;
	bool		orphan;

	if (!BlockNumberIsValid(view->centroid.block))
	{
		SpfMeta		meta;

		spf_meta_read(vacuum->index->rel, &meta);
		return !SpfPageRefEquals(meta.root, head);
	}
	vector.code = palloc(padded);
	centroid = palloc(padded * sizeof(float));
	orphan = !spf_record_fetch(vacuum->index, view->centroid, view->level + 1, &vector, &child) ||
		!SpfPageRefEquals(child, head);
	if (!orphan && view->unproven)
	{
		/* its split may have ended before the centroid was placed: no later vacuum has to look */
		spf_record_decode(vector.code, vector.numbers.scale, padded, centroid);
		orphan = !spf_route_leads_to(vacuum->index, view->level, centroid, head);
		if (!orphan)
			(void) spf_posting_edit(vacuum->index, head, &(SpfPostingEdit) {.proven = true});
	}
	pfree(vector.code);
	pfree(centroid);
	return orphan;
}

static void
retire_orphan(SpfVacuum *vacuum, SpfPageRef head)
{
	Relation	rel = vacuum->index->rel;
	Buffer		buf = spf_page_follow(rel, head, SPF_PAGE_POSTING, BUFFER_LOCK_EXCLUSIVE);
	SpfPostingView view;
	SpfRecordView centroid;
	SpfWrite	write;

	if (!BufferIsValid(buf))
		return;
	spf_posting_view(vacuum->index, buf, &view);
	if (spf_posting_is_live(&view))
	{
		spf_write_begin(&write, rel, false);
		spf_posting_retire(spf_write_page(&write, buf, false), NULL, 0);
		spf_write_finish(&write);
	}
	UnlockReleaseBuffer(buf);

	/* and the record of its centroid, if that was its own */
	if (!view.head || !BlockNumberIsValid(view.centroid.block))
		return;
	buf = spf_record_page(rel, view.centroid.block, BUFFER_LOCK_EXCLUSIVE);
	if (!BufferIsValid(buf))
		return;
	if (spf_record_view(vacuum->index, buf, view.centroid.offset, view.centroid.version,
						view.level + 1, &centroid) &&
		SpfPageRefEquals(centroid.child, head))
	{
		spf_write_begin(&write, rel, false);
		spf_record_retire(spf_write_page(&write, buf, false), view.centroid.offset);
		spf_write_finish(&write);
	}
	UnlockReleaseBuffer(buf);
}

/* Is a page behind a posting without that posting?  *unused is set when even scans are done with it. */
static bool
chain_is_orphan(SpfVacuum *vacuum, SpfPageRef owner, bool *unused)
{
	SpfPostingView view;

	*unused = false;
	if (!spf_posting_look(vacuum->index, owner, &view) || !view.head)
		return true;
	if (view.retired && spf_retired_long_ago(view.retired_at))
	{
		spf_announce_reuse(vacuum->index->rel, owner.block, view.retired_at, &vacuum->announced);
		*unused = true;
	}
	return *unused;
}

/* Free what nobody can need any more, for use at once. */
static void
free_page(SpfVacuum *vacuum, SpfPageRef self)
{
	Relation	rel = vacuum->index->rel;
	Buffer		buf = spf_page_follow(rel, self, SPF_PAGE_POSTING, BUFFER_LOCK_EXCLUSIVE);

	if (!BufferIsValid(buf))
		return;
	spf_page_free(rel, buf, true);
	UnlockReleaseBuffer(buf);
	RecordFreeIndexPage(rel, self.block);
	vacuum->stats->pages_newly_deleted++;
	vacuum->stats->pages_deleted++;
	vacuum->stats->pages_free++;
}

static void
free_retired(SpfVacuum *vacuum, SpfPageRef head, SpfPageRef next)
{
	int			freed = spf_posting_free(vacuum->index, head, next);

	vacuum->stats->pages_newly_deleted += freed;
	vacuum->stats->pages_deleted += freed;
	vacuum->stats->pages_free += freed;
}

static void
suspect(SpfVacuum *vacuum, BlockNumber block)
{
	if (vacuum->suspects == NULL)
		vacuum->suspects = palloc(MAX_SUSPECTS * sizeof(BlockNumber));
	if (vacuum->nsuspects < MAX_SUSPECTS)
		vacuum->suspects[vacuum->nsuspects++] = block;
}

/* With `alone`, no split is going on, nor can one begin: what is suspect is guilty. */
static void
visit_posting(SpfVacuum *vacuum, BlockNumber block, bool alone)
{
	SpfPageRef	self;
	SpfPostingView view;
	bool		unused = false;

	if (!spf_posting_look_at(vacuum->index, block, vacuum->info->strategy, &self, &view))
		return;
	if (view.retired)
	{
		if (!spf_retired_long_ago(view.retired_at))
			return;
		spf_announce_reuse(vacuum->index->rel, block, view.retired_at, &vacuum->announced);
		free_retired(vacuum, self, view.next);
	}
	else if (view.head)
	{
		vacuum->heads[block / 8] |= 1 << (block % 8);
		if (!is_orphan(vacuum, self, &view))
			return;
		if (alone)
			retire_orphan(vacuum, self);
		else
			suspect(vacuum, block);
	}
	else if (chain_is_orphan(vacuum, view.owner, &unused))
	{
		if (alone || unused)
			free_page(vacuum, self);
		else
			suspect(vacuum, block);
	}
}

static void
visit_tids(SpfVacuum *vacuum, BlockNumber block)
{
	Relation	rel = vacuum->index->rel;
	Buffer		buf = spf_page_read_strategy(rel, block, BUFFER_LOCK_EXCLUSIVE,
											 vacuum->info->strategy);
	FullTransactionId unlinked;
	bool		freed = false;

	if (!BufferIsValid(buf))
		return;
	if (SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_TIDS && vacuum->callback == NULL)
		vacuum->records.kept += spf_tids_count(BufferGetPage(buf));
	if (SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_TIDS &&
		spf_tids_unlinked(BufferGetPage(buf), &unlinked) && spf_retired_long_ago(unlinked))
	{
		spf_announce_reuse(rel, block, unlinked, &vacuum->announced);
		spf_page_free(rel, buf, true);
		freed = true;
	}
	UnlockReleaseBuffer(buf);
	if (freed)
	{
		RecordFreeIndexPage(rel, block);
		vacuum->stats->pages_newly_deleted++;
		vacuum->stats->pages_deleted++;
		vacuum->stats->pages_free++;
	}
}

static void
visit_block(SpfVacuum *vacuum, BlockNumber block)
{
	Relation	rel = vacuum->index->rel;
	Buffer		buf = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL,
										 vacuum->info->strategy);
	uint16		kind = SPF_PAGE_FREE;
	bool		reusable;

	LockBuffer(buf, BUFFER_LOCK_SHARE);
	if (spf_page_check(rel, buf))
		kind = SpfPageOpaque(BufferGetPage(buf))->kind;
	reusable = spf_page_reusable(BufferGetPage(buf));
	UnlockReleaseBuffer(buf);

	if (kind == SPF_PAGE_POSTING)
		visit_posting(vacuum, block, false);
	else if (kind == SPF_PAGE_RECORD)
		spf_record_vacuum_page(&vacuum->records, block);
	else if (kind == SPF_PAGE_TIDS)
		visit_tids(vacuum, block);
	else if (kind == SPF_PAGE_FREE)
	{
		vacuum->stats->pages_deleted++;
		if (reusable)
		{
			RecordFreeIndexPage(rel, block);
			vacuum->stats->pages_free++;
		}
	}
}

/*
 * Where a split ended after it had stored a centroid and before the posting learnt of it, nothing
 * leads to that record: to find it takes a look at all of them.
 */
static void
retire_lost_centroids(SpfVacuum *vacuum)
{
	SpfPageRef *orphans = palloc(vacuum->nsuspects * sizeof(SpfPageRef));
	int			n = 0;

	for (int i = 0; i < vacuum->nsuspects; i++)
	{
		SpfPostingView view;

		if (spf_posting_look_at(vacuum->index, vacuum->suspects[i], vacuum->info->strategy,
								&orphans[n], &view) &&
			spf_posting_is_live(&view) && !BlockNumberIsValid(view.centroid.block) &&
			is_orphan(vacuum, orphans[n], &view))
			n++;
	}
	for (BlockNumber block = SPF_META_BLOCK + 1; n > 0 && block < vacuum->nblocks; block++)
	{
		spf_vacuum_delay_point();
		spf_record_retire_lost(vacuum->index, block, orphans, n);
	}
	pfree(orphans);
}

/* Look again at the suspects, if no split is going on; else they are left for the next vacuum. */
static void
visit_suspects(SpfVacuum *vacuum)
{
	Relation	rel = vacuum->index->rel;

	if (vacuum->nsuspects == 0 ||
		!spf_try_lock_block(rel, SPF_META_BLOCK, ExclusiveLock))
		return;
	retire_lost_centroids(vacuum);
	for (int i = 0; i < vacuum->nsuspects; i++)
	{
		CHECK_FOR_INTERRUPTS();
		visit_posting(vacuum, vacuum->suspects[i], true);
	}
	spf_unlock_block(rel, SPF_META_BLOCK, ExclusiveLock);
}

/* ---- the end of the file ---- */

/* Is it worth an exclusive lock to give so many of its pages back? */
#define MIN_TRUNCATED		64
#define MIN_TRUNCATED_SHARE	16

/* Where the pages begin that are free, up to the end. */
static BlockNumber
find_end(SpfVacuum *vacuum)
{
	Relation	rel = vacuum->index->rel;
	BlockNumber end = RelationGetNumberOfBlocks(rel);

	for (; end > SPF_META_BLOCK + 1; end--)
	{
		Buffer		buf = ReadBufferExtended(rel, MAIN_FORKNUM, end - 1, RBM_NORMAL,
											 vacuum->info->strategy);
		bool		reusable;

		spf_vacuum_delay_point();
		LockBuffer(buf, BUFFER_LOCK_SHARE);
		(void) spf_page_check(rel, buf);
		reusable = spf_page_reusable(BufferGetPage(buf));
		UnlockReleaseBuffer(buf);
		if (!reusable)
			break;
	}
	return end;
}

/*
 * Give free pages at the end back to the file system, if nobody uses the index at the moment: as
 * for tables, under an exclusive lock, which standbys hear of.  Whoever still has a pointer to them finds them
 * gone.
 */
static void
truncate_index(SpfVacuum *vacuum)
{
	Relation	rel = vacuum->index->rel;
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	BlockNumber end = find_end(vacuum);

	if (nblocks - end < MIN_TRUNCATED || (nblocks - end) < nblocks / MIN_TRUNCATED_SHARE ||
		!ConditionalLockRelation(rel, AccessExclusiveLock))
		return;
	end = find_end(vacuum);
	if (end < RelationGetNumberOfBlocks(rel))
		RelationTruncate(rel, end);
	UnlockRelation(rel, AccessExclusiveLock);
	vacuum->stats->num_pages = end;
}

/* ---- what is left to do ---- */

/* List what is due of the postings met. */
static void
find_work(SpfVacuum *vacuum)
{
	SpfWorkItem items[SPF_WORK_ITEMS];
	int			n = 0;

	for (BlockNumber block = 0; block < vacuum->nblocks && n < SPF_WORK_ITEMS; block++)
	{
		if ((vacuum->heads[block / 8] & (1 << (block % 8))) == 0)
			continue;
		spf_vacuum_delay_point();
		n += spf_work_look(vacuum->index, block, vacuum->info->strategy, &items[n]);
	}
	if (n > 0)
		spf_work_note(vacuum->index, NULL, items, n);
	if (n == SPF_WORK_ITEMS)
		spf_work_need_survey(vacuum->index);
	spf_work_noted = false;
}

/* ---- the passes ---- */

static void
begin(SpfVacuum *vacuum, IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	int			memory = spf_in_autovacuum() && autovacuum_work_mem != -1 ?
		autovacuum_work_mem : maintenance_work_mem;

	memset(vacuum, 0, sizeof(SpfVacuum));
	vacuum->info = info;
	vacuum->stats = stats;
	vacuum->index = spf_index_open(info->index);
	vacuum->nblocks = RelationGetNumberOfBlocks(info->index);
	vacuum->heads = palloc_extended(vacuum->nblocks / 8 + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	vacuum->max_killed = Max(1000, (int64) memory * 1024 / (2 * sizeof(SpfRecordRef)));

	/* the first growth of a palloc'd array to its full size would be felt: let the OS map it lazily */
	vacuum->killed = palloc_extended(vacuum->max_killed * sizeof(SpfRecordRef), MCXT_ALLOC_HUGE);
	vacuum->records.index = vacuum->index;
	vacuum->records.state = vacuum;
	vacuum->records.strategy = info->strategy;
	vacuum->records.announced = &vacuum->announced;
	vacuum->records.killed = note_killed;
}

static void
pass(SpfVacuum *vacuum)
{
	Relation	rel = vacuum->index->rel;

	vacuum->stats->pages_deleted = 0;
	vacuum->stats->pages_free = 0;
	for (BlockNumber block = SPF_META_BLOCK + 1; block < vacuum->nblocks; block++)
	{
		spf_vacuum_delay_point();
		visit_block(vacuum, block);
	}
	visit_suspects(vacuum);
	IndexFreeSpaceMapVacuum(rel);
	vacuum->stats->num_pages = RelationGetNumberOfBlocks(rel);
}

static void
end(SpfVacuum *vacuum)
{
	if (vacuum->suspects != NULL)
		pfree(vacuum->suspects);
	pfree(vacuum->killed);
	pfree(vacuum->heads);
	pfree(vacuum->index);
}

IndexBulkDeleteResult *
spf_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
				IndexBulkDeleteCallback callback, void *state)
{
	SpfVacuum	vacuum;

	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));
	begin(&vacuum, info, stats);
	if (vacuum.index->dim > 0)
	{
		vacuum.records.is_dead = tid_is_dead;
		vacuum.callback = callback;
		vacuum.callback_state = state;
		pass(&vacuum);
		sweep(&vacuum);
		if (vacuum.swept > 0)
		{
			SpfCounters delta = {.swept = vacuum.swept};

			spf_work_note(vacuum.index, &delta, NULL, 0);
		}
		find_work(&vacuum);
		stats->num_index_tuples = vacuum.records.kept;
		stats->tuples_removed += vacuum.records.removed;
		stats->estimated_count = false;
	}
	end(&vacuum);
	return stats;
}

IndexBulkDeleteResult *
spf_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	SpfVacuum	vacuum;

	/* ANALYZE wants nothing of us */
	if (info->analyze_only)
		return stats;

	begin(&vacuum, info, stats);
	if (vacuum.index->dim > 0)
	{
		if (stats == NULL)
		{
			stats = palloc0(sizeof(IndexBulkDeleteResult));
			vacuum.stats = stats;
			pass(&vacuum);
			find_work(&vacuum);
			stats->num_index_tuples = vacuum.records.kept;
		}
		truncate_index(&vacuum);
		spf_rebalance_after_vacuum(vacuum.index);
		(void) spf_calibrate_if_due(vacuum.index);
	}
	end(&vacuum);
	return stats;
}
