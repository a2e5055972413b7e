/*-------------------------------------------------------------------------
 *
 * check_walk.c
 *	  The verifier, step 2: postings, from the root down.
 *
 * See check.c for what must hold.  One page at a time is locked, in share mode, and copied, so
 * that its entries' records are looked up without.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <float.h>
#include <math.h>

#include "miscadmin.h"

#include "check_parts.h"
#include "posting.h"

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

/* Note that a record is led to by a live entry. */
static void
mark_reached(SpfCheck *check, SpfRecordRef ref)
{
	if (ref.block >= check->part_begin && ref.block < check->part_end)
		spf_set_bit(check->reached, spf_check_bit_of(check, ref.block, ref.offset));
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
	r2 = spf_check_distance2(x, centroid, index->padded);

	/* perp was rounded up to 8 bits of mantissa */
	if (!nearly(stored.add, wanted.add, fabs(wanted.add) + r2) ||
		!nearly(stored.mul, wanted.mul, fabs(wanted.mul)) ||
		!(stored.perp >= wanted.perp * (1 - NUMBER_SLACK) - NUMBER_SLACK * sqrt(r2)) ||
		(!isinf(wanted.perp) &&
		 !(stored.perp <= wanted.perp * (1 + 1.0 / 64) + NUMBER_SLACK * sqrt(r2) + FLT_MIN)))
		spf_violated(check, block,
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
				spf_violated(check, block,
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
		spf_violated(check, head.block,
					 "The record at (%u,%u) leads to a page behind a posting's head.",
					 record.block, record.offset);
	if (view->retired)
		spf_violated(check, head.block, "The record at (%u,%u) leads to a retired posting.",
					 record.block, record.offset);
	if (view->level != level)
		spf_violated(check, head.block, "A posting of level %d is where one of level %d should be.",
					 view->level, level);
	if (memcmp(&view->centroid, &record, sizeof(SpfRecordRef)) != 0 &&
		(BlockNumberIsValid(record.block) || BlockNumberIsValid(view->centroid.block)))
		spf_violated(check, head.block,
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
		spf_violated(check, from, "It leads to a posting at block %u, which is not there.",
					 at.block);
	if (!BufferIsValid(buf))
		spf_violated(check, from, "The posting goes on at block %u, which is no such page.",
					 at.block);
	spf_posting_view(check->index, buf, &view);
	if (is_head)
		check_head(check, head, level, record, &view);
	else if (view.head || view.level != level || !SpfPageRefEquals(view.owner, head))
		spf_violated(check, at.block,
					 "The posting at block %u goes on at a page of another posting.",
					 head.block);
	copy_entries(check, &view, page);
	total = is_head ? view.total : 0;
	UnlockReleaseBuffer(buf);

	if (check->first_part && spf_set_bit(check->claimed, at.block))
		spf_violated(check, at.block, "The page belongs to two postings.");
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
		spf_violated(check, from, "It leads to a posting at block %u, which is not there.",
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
		spf_violated(check, from, "It leads to a posting at block %u, which is not there.",
					 head.block);
	if (spf_set_bit(check->visited, head.block))
	{
		check_again(check, head, from, level, record);
		return;
	}
	if (BlockNumberIsValid(record.block))
	{
		SpfVector	vector = {.code = palloc(index->padded)};

		centroid = palloc(index->padded * sizeof(float));
		if (!spf_record_fetch(index, record, level + 1, &vector, NULL))
			spf_violated(check, record.block, "The record at (%u,%u) vanished.",
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
		spf_violated(check, head.block, "The posting counts %u entries, but has " INT64_FORMAT ".",
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

void
spf_check_walk(SpfCheck *check)
{
	walk(check, check->meta.root, SPF_META_BLOCK, check->meta.root_level, SPF_NO_RECORD);
}
