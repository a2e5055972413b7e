/*-------------------------------------------------------------------------
 *
 * check.c
 *	  The verifier: spfresh_check.
 *
 * What must hold, and so is checked, in this order:
 *
 *	1. Every page is one of ours, and its counts fit it.
 *	2. From the root down: a live entry leads to a record of its posting's level; above level 0
 *	   the record leads to a posting one level below, whose centroid it is.  A posting
 *	   has as many entries as its head says, on pages of its own.  An entry's numbers are those
 *	   of its code, between its record and its centroid.  A superseded entry leads nowhere:
 *	   its vector must have others.
 *	3. A record's numbers fit its code.  A TIDS page has one record.
 *	4. The row that a record names has the record's vector, to within the record's error;
 *	   without that a lower bound of a distance would be none.  (Only with heapallindexed.)
 *	5. No row is in two records, and every row that should be indexed is in one that the
 *	   root leads to.  (Only with heapallindexed.)
 *
 * Not errors, but counted: entries of dead records; postings and records that nothing leads
 * to (a crash or an error left them; vacuum frees them), as long as no visible row
 * depends on them.
 *
 * Table and index are locked in ShareLock: nothing changes meanwhile.  On a standby
 * replay must be paused instead.
 *
 * Step 2 is in check_walk.c, steps 3 to 5 are in check_rows.c; here is the rest, and the order.
 *
 * Memory: three bits a page, the sort of all rows' addresses within
 * maintenance_work_mem, and one bit a record, likewise: where that is too little,
 * steps 2 and 3 are repeated for one part of the index after the other.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "utils/memutils.h"

#include "check_parts.h"
#include "inspect.h"
#include "posting.h"
#include "record.h"

/* Of maintenance_work_mem, for the bits of records */
#define SHARE_REACHED	0.25

void
spf_violated(const SpfCheck *check, BlockNumber block, const char *format,...)
{
	char		text[1024];
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	spf_page_corrupted(check->index->rel, block, text);
}

double
spf_check_distance2(const float *a, const float *b, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
	{
		double		d = (double) a[i] - (b != NULL ? b[i] : 0);

		sum += d * d;
	}
	return sum;
}

/* ---- pages by themselves ---- */

static const char *
page_fault(SpfCheck *check, Buffer buf)
{
	Page		page = BufferGetPage(buf);
	BlockNumber block = BufferGetBlockNumber(buf);

	if ((SpfPageOpaque(page)->kind == SPF_PAGE_META) != (block == SPF_META_BLOCK))
		return "The meta page is out of place.";
	if ((uint16) SpfPageOpaque(page)->generation == 0)
		return "The page's generation is out of range.";
	switch (SpfPageOpaque(page)->kind)
	{
		case SPF_PAGE_RECORD:
			return spf_record_page_fault(check->index, buf);
		case SPF_PAGE_POSTING:
			{
				const char *fault = spf_posting_page_fault(check->index, buf);
				SpfPostingView view;

				spf_posting_view(check->index, buf, &view);
				if (view.retired)
					check->retired++;
				else
					spf_set_bit(check->dependent, block);
				return fault;
			}
		case SPF_PAGE_TIDS:
			{
				SpfTidsView view;

				spf_tids_view(check->index, buf, &view);
				if (view.unlinked)
					check->retired++;
				else
					spf_set_bit(check->dependent, block);
				return spf_tids_page_fault(buf);
			}
		case SPF_PAGE_FREE:
			check->free_pages++;
			break;
	}
	return NULL;
}

static void
check_pages(SpfCheck *check)
{
	for (BlockNumber block = 0; block < check->nblocks; block++)
	{
		Buffer		buf = spf_page_read_strategy(check->index->rel, block, BUFFER_LOCK_SHARE,
												 check->strategy);
		const char *fault;

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf))
		{
			if (block == SPF_META_BLOCK)
				spf_violated(check, block, "The meta page is empty.");
			check->free_pages++;
			continue;
		}
		fault = page_fault(check, buf);
		UnlockReleaseBuffer(buf);
		if (fault != NULL)
			spf_violated(check, block, "%s", fault);
	}
}

/* ---- postings and records ---- */

/* Is this the head of a posting that was retired? */
static bool
is_retired(SpfCheck *check, SpfPageRef head)
{
	SpfPostingView view;

	return spf_posting_look(check->index, head, &view) && view.retired;
}

/* A page that neither a posting nor a record claimed. */
static void
check_unclaimed(SpfCheck *check, BlockNumber block)
{
	Buffer		buf = spf_page_read(check->index->rel, block, BUFFER_LOCK_SHARE);
	SpfPostingView view;

	if (!BufferIsValid(buf))
		return;
	if (SpfPageOpaque(BufferGetPage(buf))->kind != SPF_PAGE_POSTING)
		spf_violated(check, block, "The TIDS page belongs to no record.");
	spf_posting_view(check->index, buf, &view);
	UnlockReleaseBuffer(buf);

	/* what is behind a retired head goes with it; the rest a crash left behind */
	if (!view.head && is_retired(check, view.owner))
		check->retired++;
	else
		check->unreachable_pages++;
}

/* Steps 2 and 3, in as many parts as memory asks for. */
static void
check_structure(SpfCheck *check)
{
	uint64		bits = (uint64) (maintenance_work_mem * SHARE_REACHED) * 1024 * 8;
	BlockNumber part;

	check->stride = spf_record_page_most(check->index);
	part = (BlockNumber) Min((uint64) check->nblocks, Max(bits / check->stride, 1000));
	check->reached = spf_make_bits((uint64) part * check->stride);
	check->visited = spf_make_bits(check->nblocks);
	check->first_part = true;
	for (check->part_begin = 0; check->part_begin < check->nblocks;
		 check->part_begin = check->part_end)
	{
		check->part_end = (BlockNumber) Min((uint64) check->nblocks,
											(uint64) check->part_begin + part);
		memset(check->reached, 0, (uint64) part * check->stride / 8 + 1);
		memset(check->visited, 0, check->nblocks / 8 + 1);
		spf_check_walk(check);
		spf_check_records(check);
		check->first_part = false;
	}
	pfree(check->reached);
	pfree(check->visited);

	for (BlockNumber block = 0; block < check->nblocks; block++)
	{
		if (spf_get_bit(check->dependent, block) && !spf_get_bit(check->claimed, block))
			check_unclaimed(check, block);
	}
}

/* ---- the function ---- */

static void
check_index(SpfCheck *check, Relation rel, bool heapallindexed)
{
	check->index = spf_index_open(rel);
	spf_meta_read(rel, &check->meta);
	check->strategy = GetAccessStrategy(BAS_BULKREAD);
	check->nblocks = RelationGetNumberOfBlocks(rel);
	if (heapallindexed)
		spf_check_rows_begin(check);

	/* without a row there is but a meta page, and what failed first rows left */
	if (check->index->dim > 0)
	{
		check->claimed = spf_make_bits(check->nblocks);
		check->dependent = spf_make_bits(check->nblocks);
		check_pages(check);
		check_structure(check);
	}
	if (heapallindexed)
		spf_check_rows_end(check);
}

static LOCKMODE
choose_lock(void)
{
	if (!RecoveryInProgress())
		return ShareLock;
	if (GetRecoveryPauseState() != RECOVERY_PAUSED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("an index cannot be checked while it changes by recovery"),
				 errhint("Call pg_wal_replay_pause() before, or check it on the primary.")));
	return AccessShareLock;
}

#define CHECK_COLUMNS	12

PG_FUNCTION_INFO_V1(spfresh_check);
Datum
spfresh_check(PG_FUNCTION_ARGS)
{
	LOCKMODE	lockmode = choose_lock();
	SpfCheck   *check = palloc0(sizeof(SpfCheck));
	Relation	rel = spf_inspect_open(PG_GETARG_OID(0), SPF_RIGHT_MAINTAIN, lockmode,
									   &check->heap);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "spfresh check",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	SpfOwnerContext owner;
	Datum		values[CHECK_COLUMNS];
	bool		nulls[CHECK_COLUMNS] = {0};
	int			n = 0;

	spf_become_owner(check->heap, &owner);
	old = MemoryContextSwitchTo(context);
	check_index(check, rel, PG_GETARG_BOOL(1));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	spf_become_self(&owner);

	values[n++] = Int64GetDatum(check->nblocks);
	values[n++] = Int64GetDatum(check->live_postings);
	values[n++] = Int64GetDatum(check->entries);
	values[n++] = Int64GetDatum(check->stale);
	values[n++] = Int64GetDatum(check->records);
	values[n++] = Int64GetDatum(check->index_rows);
	values[n++] = Int64GetDatum(check->rows_compared);
	values[n++] = Int64GetDatum(check->heap_rows);
	values[n++] = Int64GetDatum(check->free_pages);
	values[n++] = Int64GetDatum(check->retired);
	values[n++] = Int64GetDatum(check->unreachable_pages);
	values[n++] = Int64GetDatum(check->unreachable_records);
	spf_inspect_close(rel, check->heap, lockmode);
	return spf_inspect_row(fcinfo, values, nulls, lengthof(values));
}
