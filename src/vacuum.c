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
 *
 * What a crash left behind (postings that no centroid leads to, pages that no posting leads to) looks
 * just like what a running split is about to use.  So it is freed only under
 * the exclusive heavyweight lock on the meta page's number, which splits share.
 *
 * Locks: as posting.h and record.h say; one page at a time otherwise.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "storage/indexfsm.h"
#include "utils/memutils.h"

#include "calibrate.h"
#include "meta.h"
#include "posting.h"
#include "record.h"
#include "vacuum.h"

typedef struct SpfVacuum
{
	IndexVacuumInfo *info;
	IndexBulkDeleteResult *stats;
	SpfIndex   *index;
	SpfPageRef	root;
	bool		alone;			/* no split is going on, nor can one begin */
	IndexBulkDeleteCallback callback;	/* NULL: only reclaim pages */
	void	   *callback_state;
	SpfRecordVacuum records;

	/* killed records whose entries are to be swept */
	SpfRecordRef *killed;
	int64		nkilled;
	int64		max_killed;
	int64		swept;

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

static int
compare_refs(const void *a, const void *b)
{
	const SpfRecordRef *x = a;
	const SpfRecordRef *y = b;

	if (x->block != y->block)
		return x->block < y->block ? -1 : 1;
	if (x->offset != y->offset)
		return (int) x->offset - (int) y->offset;
	return (int) x->version - (int) y->version;
}

static bool
ref_is_killed(SpfRecordRef ref, void *state)
{
	SpfVacuum  *vacuum = state;

	return bsearch(&ref, vacuum->killed, vacuum->nkilled, sizeof(SpfRecordRef),
				   compare_refs) != NULL;
}

/* Sweep one posting, unless it is being split: then only what lives is taken over anyway. */
static void
sweep_posting(SpfVacuum *vacuum, BlockNumber block)
{
	Relation	rel = vacuum->index->rel;
	Buffer		buf;
	SpfPageRef	head = {block, 0};
	SpfPageRef	page;
	SpfPostingView view;

	if (!ConditionalLockPage(rel, block, ExclusiveLock))
		return;
	buf = spf_page_read_strategy(rel, block, BUFFER_LOCK_SHARE, vacuum->info->strategy);
	if (BufferIsValid(buf))
	{
		bool		sweep = false;

		if (SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_POSTING)
		{
			spf_posting_view(vacuum->index, buf, &view);
			head.generation = SpfPageOpaque(BufferGetPage(buf))->generation;
			sweep = view.head && !view.retired;
		}
		UnlockReleaseBuffer(buf);
		for (page = head; sweep && BlockNumberIsValid(page.block);)
		{
			SpfPageRef	next;

			spf_vacuum_delay_point();
			vacuum->swept += spf_posting_sweep_page(vacuum->index, head, page, ref_is_killed,
													vacuum, vacuum->info->strategy, &next);
			page = next;
		}
	}
	UnlockPage(rel, block, ExclusiveLock);
}

static void
sweep(SpfVacuum *vacuum)
{
	if (vacuum->nkilled == 0)
		return;
	qsort(vacuum->killed, vacuum->nkilled, sizeof(SpfRecordRef), compare_refs);
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

/* Does anything lead to this posting?  It is a head, not the root, and no split is going on. */
static bool
is_orphan(SpfVacuum *vacuum, SpfPageRef head, const SpfPostingView *view)
{
	SpfVector	vector;
	SpfPageRef	child;
	bool		found;

	if (!BlockNumberIsValid(view->centroid.block))
		return true;
	vector.code = palloc(vacuum->index->padded);
	found = spf_record_fetch(vacuum->index, view->centroid, view->level + 1, &vector, &child);
	pfree(vector.code);
	return !found || !SpfPageRefEquals(child, head);
}

static void
retire_orphan(SpfVacuum *vacuum, SpfPageRef head)
{
	Buffer		buf = spf_page_follow(vacuum->index->rel, head, SPF_PAGE_POSTING,
									  BUFFER_LOCK_EXCLUSIVE);
	SpfPostingView view;
	SpfWrite	write;

	if (!BufferIsValid(buf))
		return;
	spf_posting_view(vacuum->index, buf, &view);
	spf_write_begin(&write, vacuum->index->rel, false);
	spf_posting_retire(spf_write_page(&write, buf, false), NULL, 0);
	spf_write_finish(&write);
	UnlockReleaseBuffer(buf);
	spf_posting_free_chain(vacuum->index, head, view.next);
}

/* Is a page behind a posting without that posting? */
static bool
chain_is_orphan(SpfVacuum *vacuum, SpfPageRef owner)
{
	Buffer		buf = spf_page_follow(vacuum->index->rel, owner, SPF_PAGE_POSTING,
									  BUFFER_LOCK_SHARE);
	SpfPostingView view;

	if (!BufferIsValid(buf))
		return true;
	spf_posting_view(vacuum->index, buf, &view);
	UnlockReleaseBuffer(buf);
	return !view.head || view.retired;
}

/* Free what nobody can need any more.  The page is locked exclusively. */
static void
free_page(SpfVacuum *vacuum, Buffer buf)
{
	spf_page_free(vacuum->index->rel, buf);
	vacuum->stats->pages_newly_deleted++;
}

static void
visit_posting(SpfVacuum *vacuum, BlockNumber block)
{
	Buffer		buf = spf_page_read_strategy(vacuum->index->rel, block, BUFFER_LOCK_EXCLUSIVE,
											 vacuum->info->strategy);
	SpfPageRef	self = {block, 0};
	SpfPostingView view;
	bool		suspect;

	if (!BufferIsValid(buf))
		return;
	if (SpfPageOpaque(BufferGetPage(buf))->kind != SPF_PAGE_POSTING)
	{
		UnlockReleaseBuffer(buf);
		return;
	}
	self.generation = SpfPageOpaque(BufferGetPage(buf))->generation;
	spf_posting_view(vacuum->index, buf, &view);
	if (view.retired && spf_posting_retired_long_ago(BufferGetPage(buf)))
		free_page(vacuum, buf);
	suspect = vacuum->alone && !view.retired && !SpfPageRefEquals(self, vacuum->root);
	UnlockReleaseBuffer(buf);

	if (view.head && !view.retired)
		vacuum->heads[block / 8] |= 1 << (block % 8);
	if (suspect && view.head && is_orphan(vacuum, self, &view))
		retire_orphan(vacuum, self);
	if (suspect && !view.head && chain_is_orphan(vacuum, view.owner))
	{
		buf = spf_page_follow(vacuum->index->rel, self, SPF_PAGE_POSTING, BUFFER_LOCK_EXCLUSIVE);
		if (BufferIsValid(buf))
		{
			free_page(vacuum, buf);
			UnlockReleaseBuffer(buf);
		}
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
		visit_posting(vacuum, block);
	else if (kind == SPF_PAGE_RECORD && vacuum->callback != NULL)
		spf_record_vacuum_page(&vacuum->records, block);
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

/* ---- the passes ---- */

static void
begin(SpfVacuum *vacuum, IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	int			memory = spf_in_autovacuum() && autovacuum_work_mem != -1 ?
		autovacuum_work_mem : maintenance_work_mem;
	SpfMeta		meta;

	memset(vacuum, 0, sizeof(SpfVacuum));
	vacuum->info = info;
	vacuum->stats = stats;
	vacuum->index = spf_index_open(info->index);
	spf_meta_read(info->index, &meta);
	vacuum->root = meta.root;
	vacuum->nblocks = RelationGetNumberOfBlocks(info->index);
	vacuum->heads = palloc_extended(vacuum->nblocks / 8 + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	vacuum->max_killed = Max(1000, (int64) memory * 1024 / (2 * sizeof(SpfRecordRef)));

	/* the first growth of a palloc'd array to its full size would be felt: let the OS map it lazily */
	vacuum->killed = palloc_extended(vacuum->max_killed * sizeof(SpfRecordRef), MCXT_ALLOC_HUGE);
	vacuum->records.index = vacuum->index;
	vacuum->records.is_dead = tid_is_dead;
	vacuum->records.state = vacuum;
	vacuum->records.strategy = info->strategy;
	vacuum->records.killed = note_killed;
}

static void
pass(SpfVacuum *vacuum)
{
	Relation	rel = vacuum->index->rel;

	vacuum->stats->pages_deleted = 0;
	vacuum->stats->pages_free = 0;
	vacuum->alone = ConditionalLockPage(rel, SPF_META_BLOCK, ExclusiveLock);
	for (BlockNumber block = SPF_META_BLOCK + 1; block < vacuum->nblocks; block++)
	{
		spf_vacuum_delay_point();
		visit_block(vacuum, block);
	}
	if (vacuum->alone)
		UnlockPage(rel, SPF_META_BLOCK, ExclusiveLock);
	IndexFreeSpaceMapVacuum(rel);
	vacuum->stats->num_pages = RelationGetNumberOfBlocks(rel);
}

static void
end(SpfVacuum *vacuum)
{
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
		vacuum.callback = callback;
		vacuum.callback_state = state;
		pass(&vacuum);
		sweep(&vacuum);
		if (vacuum.swept > 0)
			spf_meta_count(vacuum.index, 0, 0, 0, (int) Min(vacuum.swept, INT_MAX));
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
	SpfMeta		meta;

	/* ANALYZE wants nothing of us */
	if (info->analyze_only)
		return stats;

	begin(&vacuum, info, stats);
	if (vacuum.index->dim > 0)
	{
		if (stats == NULL)
		{
			stats = palloc0(sizeof(IndexBulkDeleteResult));
			stats->estimated_count = true;
			stats->num_index_tuples = Max(info->num_heap_tuples, 0);
			vacuum.stats = stats;
			pass(&vacuum);
		}
		spf_meta_read(info->index, &meta);
		if (spf_calibration_due(&meta))
			spf_calibrate(vacuum.index);
	}
	end(&vacuum);
	return stats;
}
