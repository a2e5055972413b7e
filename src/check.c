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
 * Memory: three bits a page, the sort of all rows' addresses within
 * maintenance_work_mem, and one bit a record, likewise: where that is too little,
 * steps 2 and 3 are repeated for one part of the index after the other.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <float.h>
#include <math.h>

#include "access/htup_details.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "insert.h"
#include "inspect.h"
#include "meta.h"
#include "posting.h"
#include "record.h"
#include "spill.h"

/* Shares of maintenance_work_mem */
#define SHARE_REACHED	0.25
#define SHARE_SORT		0.5

/* Rounding, relative to what was rounded: generous, for kernels differ in it. */
#define NUMBER_SLACK	1e-4
#define ROTATION_SLACK	5e-6

typedef uint8 *SpfBits;

typedef struct SpfCheck
{
	Relation	heap;
	SpfIndex   *index;
	SpfMeta		meta;
	BufferAccessStrategy strategy;
	BlockNumber nblocks;

	/* pages */
	SpfBits		claimed;		/* some posting's, or some record's */
	SpfBits		visited;		/* heads walked through */
	SpfBits		dependent;		/* nothing by themselves: of a posting or a record */

	/* records of the part of the index at hand that live entries lead to */
	SpfBits		reached;
	int			stride;			/* bits a page */
	BlockNumber part_begin;
	BlockNumber part_end;
	bool		first_part;

	/* rows; rows is NULL when they are not asked for */
	SpfSort    *rows;
	Snapshot	snapshot;
	BlockNumber heap_blocks;
	IndexFetchTableData *fetch;
	TupleTableSlot *slot;
	IndexInfo  *info;
	EState	   *estate;
	ExprState  *predicate;
	float	   *floats;			/* [SPF_MAX_DIM] */

	/* the merge of rows with the table */
	bool		at_end;
	ItemPointerData next_row;	/* not yet passed */
	BlockNumber row_block;		/* the block whose rows are in row_bits */
	uint8		row_bits[(MaxOffsetNumber + 8) / 8];

	/* what there was */
	int64		live_postings;
	int64		entries;
	int64		stale;
	int64		records;
	int64		index_rows;
	int64		rows_compared;
	int64		heap_rows;
	int64		free_pages;
	int64		retired;
	int64		unreachable_pages;
	int64		unreachable_records;
} SpfCheck;

/* A posting page's entries, copied so that no lock is held while they are looked at. */
typedef struct SpfPageEntries
{
	int			n;
	SpfPageRef	next;
	uint8_t    *blocks;
	SpfRecordRef *refs;
	int		   *order;			/* by record */
} SpfPageEntries;

/* A posting to be visited, with the record that leads to it. */
typedef struct SpfChild
{
	SpfRecordRef record;
	SpfPageRef	posting;
} SpfChild;

typedef struct SpfChildren
{
	int			n;
	int			space;
	SpfChild   *list;
} SpfChildren;

static _Noreturn void violated(const SpfCheck *check, BlockNumber block,
							   const char *format,...) __attribute__((format(printf, 3, 4)));

static void
violated(const SpfCheck *check, BlockNumber block, const char *format,...)
{
	char		text[1024];
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	spf_page_corrupted(check->index->rel, block, text);
}

/* |a - b|^2, where b may be NULL for zero: in doubles, for it is to judge floats */
static double
distance2(const float *a, const float *b, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
	{
		double		d = (double) a[i] - (b != NULL ? b[i] : 0);

		sum += d * d;
	}
	return sum;
}

/* ---- bits ---- */

static SpfBits
make_bits(uint64 n)
{
	return palloc_extended(n / 8 + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static inline bool
get_bit(SpfBits bits, uint64 i)
{
	return (bits[i / 8] & (1 << (i % 8))) != 0;
}

/* Set it; returns what it was. */
static inline bool
set_bit(SpfBits bits, uint64 i)
{
	bool		was = get_bit(bits, i);

	bits[i / 8] |= 1 << (i % 8);
	return was;
}

/* ---- 1. pages by themselves ---- */

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
					set_bit(check->dependent, block);
				return fault;
			}
		case SPF_PAGE_TIDS:
			{
				SpfTidsView view;

				spf_tids_view(check->index, buf, &view);
				if (view.unlinked)
					check->retired++;
				else
					set_bit(check->dependent, block);
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
				violated(check, block, "The meta page is empty.");
			check->free_pages++;
			continue;
		}
		fault = page_fault(check, buf);
		UnlockReleaseBuffer(buf);
		if (fault != NULL)
			violated(check, block, "%s", fault);
	}
}

/* ---- 2. from the root down ---- */

/* Note that a record is led to by a live entry. */
static void
mark_reached(SpfCheck *check, SpfRecordRef ref)
{
	if (ref.block >= check->part_begin && ref.block < check->part_end)
		set_bit(check->reached,
				(uint64) (ref.block - check->part_begin) * check->stride + ref.offset - 1);
}

static bool
was_reached(SpfCheck *check, BlockNumber block, uint16 offset)
{
	return get_bit(check->reached,
				   (uint64) (block - check->part_begin) * check->stride + offset - 1);
}

static bool
nearly(double a, double b, double size)
{
	if (isinf(a) || isinf(b))
		return a == b;
	return fabs(a - b) <= NUMBER_SLACK * size + FLT_MIN;
}

/* The numbers of entry i: what they must be between x and the centroid. */
static void
check_entry(SpfCheck *check, BlockNumber block, const SpfPageEntries *page, int i,
			const float *x, const float *centroid)
{
	const SpfIndex *index = check->index;
	const SpfShape *shape = &index->shape;
	uint8_t    *code = palloc(index->padded);
	SpfEntryNumbers stored;
	SpfEntryNumbers wanted;
	double		r2;

	spf_block_get(shape, page->blocks + (Size) (i / shape->lanes) * index->block_bytes,
				  i % shape->lanes, code, &stored);
	spf_entry_numbers(shape, x, centroid, code, &wanted);
	r2 = distance2(x, centroid, index->padded);

	/* perp was rounded up to 8 bits of mantissa */
	if (!nearly(stored.add, wanted.add, fabs(wanted.add) + r2) ||
		!nearly(stored.mul, wanted.mul, fabs(wanted.mul)) ||
		!(stored.perp >= wanted.perp * (1 - NUMBER_SLACK) - NUMBER_SLACK * sqrt(r2)) ||
		(!isinf(wanted.perp) &&
		 !(stored.perp <= wanted.perp * (1 + 1.0 / 64) + NUMBER_SLACK * sqrt(r2) + FLT_MIN)))
		violated(check, block,
				 "Entry %d, of the record at (%u,%u), has other numbers than its code gives.",
				 i + 1, page->refs[i].block, page->refs[i].offset);
	pfree(code);
}

static void
add_child(SpfChildren *children, SpfRecordRef record, SpfPageRef posting)
{
	if (children->n == children->space)
	{
		children->space *= 2;
		children->list = repalloc_huge(children->list, children->space * sizeof(SpfChild));
	}
	children->list[children->n].record = record;
	children->list[children->n++].posting = posting;
}

static int
compare_entries(const void *a, const void *b, void *page)
{
	const SpfRecordRef *refs = ((SpfPageEntries *) page)->refs;

	return spf_record_ref_cmp(&refs[*(const int *) a], &refs[*(const int *) b]);
}

static bool
is_superseded(const SpfIndex *index, const SpfPageEntries *page, int i)
{
	int			lanes = index->shape.lanes;

	return spf_posting_superseded(index, page->blocks + (Size) (i / lanes) * index->block_bytes,
								  i % lanes);
}

/* The entries of one page of a posting: look up their records. */
static void
check_entries(SpfCheck *check, BlockNumber block, int level, SpfPageEntries *page,
			  const float *centroid, SpfChildren *children)
{
	const SpfIndex *index = check->index;
	float	   *x = palloc(index->padded * sizeof(float));

	for (int i = 0; i < page->n; i++)
		page->order[i] = i;
	qsort_arg(page->order, page->n, sizeof(int), compare_entries, page);
	for (int i = 0; i < page->n;)
	{
		BlockNumber at = page->refs[page->order[i]].block;
		Buffer		buf = spf_record_page(index->rel, at, BUFFER_LOCK_SHARE);

		for (; i < page->n && page->refs[page->order[i]].block == at; i++)
		{
			SpfRecordRef ref = page->refs[page->order[i]];
			SpfRecordView view;

			if (!BufferIsValid(buf) ||
				!spf_record_view(index, buf, ref.offset, ref.version, -1, &view))
			{
				check->stale += check->first_part;
				continue;
			}
			if (view.level != level)
				violated(check, block,
						 "A posting of level %d has an entry of the record at (%u,%u), of level %d.",
						 level, ref.block, ref.offset, view.level);
			if (is_superseded(index, page, page->order[i]))
				check->stale += check->first_part;
			else
			{
				mark_reached(check, ref);
				if (level > 0)
					add_child(children, ref, view.child);
			}
			if (check->first_part)
			{
				spf_record_decode(view.code, view.numbers.scale, index->padded, x);
				check_entry(check, block, page, page->order[i], x, centroid);
			}
		}
		if (BufferIsValid(buf))
			UnlockReleaseBuffer(buf);
	}
	pfree(x);
}

/* Copy a locked page's entries. */
static void
copy_entries(SpfCheck *check, const SpfPostingView *view, SpfPageEntries *page)
{
	const SpfIndex *index = check->index;
	int			lanes = index->shape.lanes;

	page->n = view->used;
	page->next = view->next;
	memcpy(page->blocks, view->blocks,
		   (Size) spf_posting_nblocks(index, view) * index->block_bytes);
	for (int i = 0; i < view->used; i++)
	{
		const uint8_t *block = page->blocks + (Size) (i / lanes) * index->block_bytes;

		page->refs[i] = spf_posting_ref(index, block, i % lanes);
	}
}

/* What a head must be, given the record that led to it (none for the root). */
static void
check_head(SpfCheck *check, SpfPageRef head, int level, SpfRecordRef record,
		   const SpfPostingView *view)
{
	if (!view->head)
		violated(check, head.block,
				 "The record at (%u,%u) leads to a page behind a posting's head.",
				 record.block, record.offset);
	if (view->retired)
		violated(check, head.block, "The record at (%u,%u) leads to a retired posting.",
				 record.block, record.offset);
	if (view->level != level)
		violated(check, head.block, "A posting of level %d is where one of level %d should be.",
				 view->level, level);
	if (memcmp(&view->centroid, &record, sizeof(SpfRecordRef)) != 0 &&
		(BlockNumberIsValid(record.block) || BlockNumberIsValid(view->centroid.block)))
		violated(check, head.block,
				 "The record at (%u,%u) leads to a posting whose centroid is at (%u,%u).",
				 record.block, record.offset, view->centroid.block, view->centroid.offset);
}

/* Read and check one page of a posting; returns what the head's total says (0 for others). */
static uint32
read_posting_page(SpfCheck *check, SpfPageRef head, SpfPageRef at, BlockNumber from, int level,
				  SpfRecordRef record, SpfPageEntries *page)
{
	bool		is_head = SpfPageRefEquals(head, at);
	Buffer		buf = spf_page_follow(check->index->rel, at, SPF_PAGE_POSTING, BUFFER_LOCK_SHARE);
	SpfPostingView view;
	uint32		total;

	if (!BufferIsValid(buf) && is_head)
		violated(check, from, "It leads to a posting at block %u, which is not there.", at.block);
	if (!BufferIsValid(buf))
		violated(check, from, "The posting goes on at block %u, which is no such page.", at.block);
	spf_posting_view(check->index, buf, &view);
	if (is_head)
		check_head(check, head, level, record, &view);
	else if (view.head || view.level != level || !SpfPageRefEquals(view.owner, head))
		violated(check, at.block, "The posting at block %u goes on at a page of another posting.",
				 head.block);
	copy_entries(check, &view, page);
	total = is_head ? view.total : 0;
	UnlockReleaseBuffer(buf);

	if (check->first_part && set_bit(check->claimed, at.block))
		violated(check, at.block, "The page belongs to two postings.");
	return total;
}

static SpfPageEntries
make_page_entries(const SpfIndex *index)
{
	SpfPageEntries page = {0};
	int			most = spf_posting_page_entries(index);

	page.blocks = palloc((Size) index->page_blocks * index->block_bytes);
	page.refs = palloc(most * sizeof(SpfRecordRef));
	page.order = palloc(most * sizeof(int));
	return page;
}

/* Is this head as the record says?  It was walked through already, by way of another entry. */
static void
check_again(SpfCheck *check, SpfPageRef head, BlockNumber from, int level, SpfRecordRef record)
{
	SpfPostingView view;

	if (!spf_posting_look(check->index, head, &view))
		violated(check, from, "It leads to a posting at block %u, which is not there.",
				 head.block);
	check_head(check, head, level, record, &view);
}

static void walk(SpfCheck *check, SpfPageRef head, BlockNumber from, int level,
				 SpfRecordRef record);

static void
walk_children(SpfCheck *check, const SpfChildren *children, int level)
{
	for (int i = 0; i < children->n; i++)
		walk(check, children->list[i].posting, children->list[i].record.block, level,
			 children->list[i].record);
}

/* A posting and everything below it.  `from` is where the way to it was found. */
static void
walk(SpfCheck *check, SpfPageRef head, BlockNumber from, int level, SpfRecordRef record)
{
	SpfIndex   *index = check->index;
	SpfPageEntries page;
	SpfChildren children = {.space = 64};
	SpfPageRef	at;
	float	   *centroid = NULL;
	uint32		total = 0;
	int64		entries = 0;

	CHECK_FOR_INTERRUPTS();
	check_stack_depth();
	if (head.block >= check->nblocks)
		violated(check, from, "It leads to a posting at block %u, which is not there.",
				 head.block);
	if (set_bit(check->visited, head.block))
	{
		check_again(check, head, from, level, record);
		return;
	}
	if (BlockNumberIsValid(record.block))
	{
		SpfVector	vector = {.code = palloc(index->padded)};

		centroid = palloc(index->padded * sizeof(float));
		if (!spf_record_fetch(index, record, level + 1, &vector, NULL))
			violated(check, record.block, "The record at (%u,%u) vanished.",
					 record.block, record.offset);
		spf_record_decode(vector.code, vector.numbers.scale, index->padded, centroid);
		pfree(vector.code);
	}
	page = make_page_entries(index);
	children.list = palloc(children.space * sizeof(SpfChild));
	for (at = head; BlockNumberIsValid(at.block); from = at.block, at = page.next)
	{
		CHECK_FOR_INTERRUPTS();
		total += read_posting_page(check, head, at, from, level, record, &page);
		check_entries(check, at.block, level, &page, centroid, &children);
		entries += page.n;
	}
	if (entries != total)
		violated(check, head.block, "The posting counts %u entries, but has " INT64_FORMAT ".",
				 total, entries);
	check->live_postings += check->first_part;
	check->entries += check->first_part ? entries : 0;
	pfree(page.blocks);
	pfree(page.refs);
	pfree(page.order);
	if (centroid != NULL)
		pfree(centroid);
	walk_children(check, &children, level - 1);
	pfree(children.list);
}

/* ---- 3. records ---- */

/* A copy of a record, made under the page's lock. */
typedef struct SpfRecordCopy
{
	SpfRecordRef ref;
	int			level;
	SpfVector	vector;			/* code: [padded] */
	BlockNumber more;
	int			ntids;
	ItemPointerData tids[SPF_PAGE_SPACE / sizeof(ItemPointerData)];
} SpfRecordCopy;

/* False if there is none, or one that was retired. */
static bool
copy_record(SpfCheck *check, BlockNumber block, uint16 offset, int *offsets, SpfRecordCopy *copy)
{
	Buffer		buf = spf_page_read_strategy(check->index->rel, block, BUFFER_LOCK_SHARE,
											 check->strategy);
	SpfRecordView view;
	uint16		version = 0;
	bool		found;

	*offsets = 0;
	if (!BufferIsValid(buf))
		return false;
	if (SpfPageOpaque(BufferGetPage(buf))->kind == SPF_PAGE_RECORD)
	{
		*offsets = spf_record_offsets(buf);
		version = spf_record_version_at(check->index, buf, offset);
	}
	found = version != 0 && spf_record_view(check->index, buf, offset, version, -1, &view);
	if (found)
	{
		copy->ref = (SpfRecordRef) {block, offset, version};
		copy->level = view.level;
		copy->vector.numbers = view.numbers;
		memcpy(copy->vector.code, view.code, check->index->padded);
		copy->more = view.more;
		copy->ntids = view.ntids;
		memcpy(copy->tids, view.tids, view.ntids * sizeof(ItemPointerData));
	}
	UnlockReleaseBuffer(buf);
	return found;
}

/* Norm, code and error belong together: what is decoded is x's projection on the code. */
static void
check_numbers(SpfCheck *check, const SpfRecordCopy *record, const float *decoded)
{
	const SpfRecordNumbers *numbers = &record->vector.numbers;
	double		norm2 = numbers->norm2;
	double		err = numbers->err;
	double		decoded2 = distance2(decoded, NULL, check->index->padded);

	if (norm2 < FLT_MAX && fabs(norm2 - decoded2 - err * err) > NUMBER_SLACK * norm2 + FLT_MIN)
		violated(check, record->ref.block,
				 "The numbers of the record at (%u,%u) do not fit its code.",
				 record->ref.block, record->ref.offset);
}

static void
row_fault(SpfCheck *check, const SpfRecordCopy *record, const ItemPointerData *tid,
		  const char *what)
{
	violated(check, record->ref.block, "The record at (%u,%u) names row (%u,%u), %s.",
			 record->ref.block, record->ref.offset, ItemPointerGetBlockNumberNoCheck(tid),
			 ItemPointerGetOffsetNumberNoCheck(tid), what);
}

/* ---- 4. a record's rows ---- */

/*
 * The indexed value of the row in the slot as floats, not rotated.  False when such
 * a row is not indexed.
 */
static bool
row_vector(SpfCheck *check, Datum value, bool isnull)
{
	SpfIndex   *index = check->index;
	void	   *datum;
	int			dim;

	if (isnull)
		return false;
	datum = PG_DETOAST_DATUM(value);
	dim = index->type->dim(datum);
	if (dim > SPF_MAX_DIM || (index->dim > 0 && dim != index->dim))
		return false;
	return spf_index_floats(index, datum, dim, check->floats);
}

/* Compare a record with a row, unless nobody sees it.  Returns whether it is seen. */
static bool
check_row(SpfCheck *check, const SpfRecordCopy *record, const ItemPointerData *tid,
		  const float *decoded)
{
	ItemPointerData target = *tid;
	bool		call_again = false;
	bool		all_dead = false;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	const SpfRecordNumbers *numbers = &record->vector.numbers;
	MemoryContext old;
	double		lost;

	if (!ItemPointerIsValid(&target) ||
		ItemPointerGetOffsetNumber(&target) > MaxOffsetNumber)
		row_fault(check, record, tid, "which is not an address");
	if (ItemPointerGetBlockNumber(&target) >= check->heap_blocks)
		row_fault(check, record, tid, "which is beyond the table's end");
	if (!table_index_fetch_tuple(check->fetch, &target, check->snapshot, check->slot,
								 &call_again, &all_dead))
		return false;

	ResetPerTupleExprContext(check->estate);
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(check->estate));
	if (check->predicate != NULL && !ExecQual(check->predicate,
											  GetPerTupleExprContext(check->estate)))
		row_fault(check, record, tid, "which the index's predicate excludes");
	FormIndexDatum(check->info, check->slot, check->estate, values, nulls);
	if (!row_vector(check, values[0], nulls[0]))
		row_fault(check, record, tid, "which has no vector to be indexed");
	spf_index_rotate(check->index, check->floats, check->floats);
	lost = sqrt(distance2(check->floats, decoded, check->index->padded));
	if (numbers->norm2 < FLT_MAX &&
		!(lost <= numbers->err + ROTATION_SLACK * (sqrt(numbers->norm2) + numbers->err) + FLT_MIN))
		row_fault(check, record, tid, "whose vector is not the record's");
	MemoryContextSwitchTo(old);
	check->rows_compared++;
	return true;
}

/* Addresses sort as unsigned blocks. */
#define ROW_MAJOR(block)	((int32) ((block) ^ 0x80000000u))
#define ROW_BLOCK(major)	((BlockNumber) (major) ^ 0x80000000u)

static void
check_rows(SpfCheck *check, const SpfRecordCopy *record, const ItemPointerData *tids, int ntids,
		   const float *decoded)
{
	bool		reached = was_reached(check, record->ref.block, record->ref.offset);

	for (int i = 0; i < ntids; i++)
	{
		CHECK_FOR_INTERRUPTS();
		check->index_rows++;
		if (check->rows == NULL)
			continue;
		if (check_row(check, record, &tids[i], decoded) && !reached)
			row_fault(check, record, &tids[i], "but no way leads there from the root");
		if (reached)
			spf_sort_put(check->rows, ROW_MAJOR(ItemPointerGetBlockNumber(&tids[i])),
						 ItemPointerGetOffsetNumber(&tids[i]), &record->ref);
	}
}

/* The record's TIDS pages. */
static void
check_chain(SpfCheck *check, const SpfRecordCopy *record, const float *decoded)
{
	BlockNumber from = record->ref.block;
	BlockNumber block = record->more;
	PGAlignedBlock space;

	while (BlockNumberIsValid(block))
	{
		Buffer		buf = spf_page_read(check->index->rel, block, BUFFER_LOCK_SHARE);
		SpfTidsView view;

		CHECK_FOR_INTERRUPTS();
		if (!BufferIsValid(buf) || SpfPageOpaque(BufferGetPage(buf))->kind != SPF_PAGE_TIDS)
			violated(check, from,
					 "The rows of the record at (%u,%u) go on at block %u, which is no TIDS page.",
					 record->ref.block, record->ref.offset, block);
		spf_tids_view(check->index, buf, &view);
		if (memcmp(&view.owner, &record->ref, sizeof(SpfRecordRef)) != 0)
			violated(check, block,
					 "The TIDS page is of the record at (%u,%u), but that at (%u,%u) leads to it.",
					 view.owner.block, view.owner.offset, record->ref.block, record->ref.offset);
		if (view.unlinked)
			violated(check, block, "The record at (%u,%u) leads to a TIDS page that was unlinked.",
					 record->ref.block, record->ref.offset);
		if (set_bit(check->claimed, block))
			violated(check, block, "The TIDS page is led to twice.");
		memcpy(space.data, view.tids, view.ntids * sizeof(ItemPointerData));
		from = block;
		block = view.next;
		UnlockReleaseBuffer(buf);
		check_rows(check, record, (ItemPointerData *) space.data, view.ntids, decoded);
	}
}

static void
check_record(SpfCheck *check, const SpfRecordCopy *record, float *decoded)
{
	SpfRecordRef origin = check->meta.origin;

	spf_record_decode(record->vector.code, record->vector.numbers.scale, check->index->padded,
					  decoded);
	check_numbers(check, record, decoded);
	if (memcmp(&record->ref, &origin, sizeof(SpfRecordRef)) == 0)
	{
		if (record->level != SPF_ORIGIN_LEVEL)
			violated(check, origin.block, "The record of the origin is of level %d.",
					 record->level);
		return;
	}
	if (!was_reached(check, record->ref.block, record->ref.offset))
		check->unreachable_records++;
	else if (record->level == 0)
		check->records++;
	if (record->level == 0)
	{
		check_rows(check, record, record->tids, record->ntids, decoded);
		check_chain(check, record, decoded);
	}
}

static void
check_records(SpfCheck *check)
{
	float	   *decoded = palloc(check->index->padded * sizeof(float));
	SpfRecordCopy *copy = palloc(sizeof(SpfRecordCopy));

	copy->vector.code = palloc(check->index->padded);
	for (BlockNumber block = check->part_begin; block < check->part_end; block++)
	{
		int			offsets = 1;

		CHECK_FOR_INTERRUPTS();
		for (int off = FirstOffsetNumber; off <= offsets; off++)
		{
			if (copy_record(check, block, off, &offsets, copy))
				check_record(check, copy, decoded);
		}
	}
	pfree(decoded);
	pfree(copy->vector.code);
	pfree(copy);
}

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
		violated(check, block, "The TIDS page belongs to no record.");
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
	check->reached = make_bits((uint64) part * check->stride);
	check->visited = make_bits(check->nblocks);
	check->first_part = true;
	for (check->part_begin = 0; check->part_begin < check->nblocks;
		 check->part_begin = check->part_end)
	{
		check->part_end = (BlockNumber) Min((uint64) check->nblocks,
											(uint64) check->part_begin + part);
		memset(check->reached, 0, (uint64) part * check->stride / 8 + 1);
		memset(check->visited, 0, check->nblocks / 8 + 1);
		walk(check, check->meta.root, SPF_META_BLOCK, check->meta.root_level, SPF_NO_RECORD);
		check_records(check);
		check->first_part = false;
	}
	pfree(check->reached);
	pfree(check->visited);

	for (BlockNumber block = 0; block < check->nblocks; block++)
	{
		if (get_bit(check->dependent, block) && !get_bit(check->claimed, block))
			check_unclaimed(check, block);
	}
}

/* ---- 5. every row of the table ---- */

/* Take the next address off the sorted list. */
static void
next_row(SpfCheck *check)
{
	ItemPointerData last = check->next_row;
	int32		major;
	int32		minor;
	const SpfRecordRef *ref = spf_sort_next(check->rows, &major, &minor);

	check->at_end = ref == NULL;
	if (ref == NULL)
		return;
	ItemPointerSet(&check->next_row, ROW_BLOCK(major), minor);
	if (ItemPointerIsValid(&last) && ItemPointerEquals(&last, &check->next_row))
		violated(check, ref->block, "Row (%u,%u) is in two records, one of them at (%u,%u).",
				 ItemPointerGetBlockNumber(&last), ItemPointerGetOffsetNumber(&last),
				 ref->block, ref->offset);
}

/* Is the row in the index?  Called with ascending blocks, within a block in any order. */
static bool
row_is_indexed(SpfCheck *check, ItemPointer tid)
{
	BlockNumber block = ItemPointerGetBlockNumber(tid);
	OffsetNumber offset = ItemPointerGetOffsetNumber(tid);

	if (check->row_block != block)
	{
		memset(check->row_bits, 0, sizeof(check->row_bits));
		check->row_block = block;
		while (!check->at_end && ItemPointerGetBlockNumber(&check->next_row) < block)
			next_row(check);
		while (!check->at_end && ItemPointerGetBlockNumber(&check->next_row) == block)
		{
			set_bit(check->row_bits, ItemPointerGetOffsetNumber(&check->next_row));
			next_row(check);
		}
	}
	return get_bit(check->row_bits, offset);
}

static void
check_heap_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	SpfCheck   *check = state;

	CHECK_FOR_INTERRUPTS();
	check->heap_rows++;
	if (!row_is_indexed(check, tid) && row_vector(check, values[0], isnull[0]))
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("row (%u,%u) of table \"%s\" is missing from index \"%s\"",
						ItemPointerGetBlockNumber(tid), ItemPointerGetOffsetNumber(tid),
						RelationGetRelationName(check->heap), RelationGetRelationName(rel)),
				 errhint("Please REINDEX it.")));
}

static void
check_heap(SpfCheck *check)
{
	TableScanDesc scan;
	IndexInfo  *info;

	spf_sort_perform(check->rows);
	next_row(check);
	check->row_block = InvalidBlockNumber;

	/* from the start of the table: the addresses are in order */
	info = BuildIndexInfo(check->index->rel);
	info->ii_Concurrent = true;
	scan = table_beginscan_strat(check->heap, check->snapshot, 0, NULL, true, false);
	table_index_build_scan(check->heap, check->index->rel, info, true, false,
						   check_heap_row, check, scan);

	/* what is left may still have been entered twice */
	while (!check->at_end)
		next_row(check);
}

static void
open_heap(SpfCheck *check)
{
	check->snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(check->snapshot);
	check->heap_blocks = RelationGetNumberOfBlocks(check->heap);
	check->rows = spf_sort_begin(sizeof(SpfRecordRef), (int) (maintenance_work_mem * SHARE_SORT));
	check->fetch = table_index_fetch_begin(check->heap);
	check->slot = table_slot_create(check->heap, NULL);
	check->info = BuildIndexInfo(check->index->rel);
	check->estate = CreateExecutorState();
	GetPerTupleExprContext(check->estate)->ecxt_scantuple = check->slot;
	check->predicate = ExecPrepareQual(check->info->ii_Predicate, check->estate);
	check->floats = palloc(SPF_MAX_DIM * sizeof(float));
}

static void
close_heap(SpfCheck *check)
{
	table_index_fetch_end(check->fetch);
	ExecDropSingleTupleTableSlot(check->slot);
	FreeExecutorState(check->estate);
	spf_sort_end(check->rows);
	PopActiveSnapshot();
	UnregisterSnapshot(check->snapshot);
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
		open_heap(check);

	/* without a row there is but a meta page, and what failed first rows left */
	if (check->index->dim > 0)
	{
		check->claimed = make_bits(check->nblocks);
		check->dependent = make_bits(check->nblocks);
		check_pages(check);
		check_structure(check);
	}
	if (heapallindexed)
	{
		check_heap(check);
		close_heap(check);
	}
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
