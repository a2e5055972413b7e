/*-------------------------------------------------------------------------
 *
 * split.c
 *	  Splitting a posting, at any level, the root included.
 *
 * SPFresh (SOSP 2023), section 4.2, as a sequence of changes each of which leaves a valid
 * index (invariant 2):
 *
 *	1. the members' records are read; entries that are stale are forgotten
 *	   here.  If few are left, one new posting under the same centroid will do.
 *	2. the new postings are written, reachable by nobody.
 *	3. each one's centroid gets a record, the posting learns of it, and then
 *	   the centroid is placed one level up: from now on both the
 *	   old and the new postings are found.  The root's parts go into a new root instead.
 *	4. entries that came to the old posting meanwhile are added to the new.
 *	5. in one change the old head is retired, leading to the new ones, and its centroid's
 *	   record with it (for the root: the meta page leads to the new root).  What is retired
 *	   stays readable until nobody can be on the way to it: vacuum frees it then.
 *
 * A crash after 2, or amid 3, leaves postings that nobody leads to: vacuum frees them, as it
 * proves every new posting reachable once.  After 3 both are there, which is only redundant.
 *
 * Locks: the heavyweight page lock on the head excludes other splits and sweeps
 * of it, those on the parts splits of these before they have all entries; a share lock on the meta page's number tells vacuum that postings without a way
 * to them may be under construction.  Both are taken without waiting.  Buffers: in
 * step 5 record page, then head, then meta page.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "utils/memutils.h"

#include "meta.h"
#include "place.h"
#include "posting.h"
#include "queue.h"
#include "record.h"
#include "split.h"

typedef struct SpfSplit
{
	SpfIndex   *index;
	SpfPageRef	head;
	int			level;
	bool		is_root;
	SpfPostingEntries old;
	struct spf_seen_hash *known;	/* references taken over */

	/* live members */
	int			n;
	SpfRecordRef *refs;
	float	   *points;			/* [n x padded] */

	/* parts */
	int			k;
	int32	   *assign;			/* [n] */
	float	   *centroids;		/* [k x padded], decoded from vectors */
	SpfVector  *vectors;		/* [k] */
	SpfPageRef *parts;			/* [k] */
	int			nlocked;		/* of the parts */
} SpfSplit;

/* Decode the records of refs[] that are alive, page by page; refs[] keeps only these. */
static int
load_points(const SpfIndex *index, int level, SpfRecordRef *refs, int n, float *points)
{
	int			live = 0;

	qsort(refs, n, sizeof(SpfRecordRef), spf_record_ref_cmp);
	for (int i = 0; i < n;)
	{
		BlockNumber block = refs[i].block;
		Buffer		buf = spf_record_page(index->rel, block, BUFFER_LOCK_SHARE);

		CHECK_FOR_INTERRUPTS();
		for (; i < n && refs[i].block == block; i++)
		{
			SpfRecordView view;

			if (!BufferIsValid(buf) ||
				!spf_record_view(index, buf, refs[i].offset, refs[i].version, level, &view))
				continue;
			spf_record_decode(view.code, view.numbers.scale, index->padded,
							  points + (Size) live * index->padded);
			refs[live++] = refs[i];
		}
		if (BufferIsValid(buf))
			UnlockReleaseBuffer(buf);
	}
	return live;
}

typedef struct SpfByDistance
{
	int			member;
	float		dist2;
} SpfByDistance;

static int
compare_distances(const void *a, const void *b)
{
	float		x = ((const SpfByDistance *) a)->dist2;
	float		y = ((const SpfByDistance *) b)->dist2;

	return x < y ? -1 : x > y;
}

SpfEntry *
spf_form_entries(const SpfIndex *index, const float *points, const SpfRecordRef *refs,
				 const int *members, int m, const float *centroid)
{
	SpfEntry   *entries = palloc_extended(Max(m, 1) * sizeof(SpfEntry), MCXT_ALLOC_HUGE);
	uint8_t    *codes = palloc_extended(Max((Size) m * index->padded, 1), MCXT_ALLOC_HUGE);
	SpfByDistance *order = palloc_extended(Max(m, 1) * sizeof(SpfByDistance), MCXT_ALLOC_HUGE);
	float	   *zero = centroid ? NULL : palloc0(index->padded * sizeof(float));

	for (int i = 0; i < m; i++)
	{
		order[i].member = members[i];
		order[i].dist2 = spf_kernels->l2sq(points + (Size) members[i] * index->padded,
										   centroid ? centroid : zero, index->padded);
	}
	qsort(order, m, sizeof(SpfByDistance), compare_distances);
	for (int i = 0; i < m; i++)
	{
		uint8_t    *code = codes + (Size) i * index->padded;

		entries[i].ref = refs[order[i].member];
		entries[i].code = code;
		spf_entry_encode(&index->shape, points + (Size) order[i].member * index->padded,
						 centroid, code, &entries[i].numbers);
	}
	pfree(order);
	return entries;
}

/* Step 1: what is there, and into how many parts it goes.  False if there is nothing to split. */
static bool
read_members(SpfSplit *split)
{
	SpfIndex   *index = split->index;
	SpfMeta		meta;

	if (!spf_posting_read(index, split->head, &split->old))
		return false;
	split->level = split->old.level;
	spf_meta_read(index->rel, &meta);
	split->is_root = SpfPageRefEquals(meta.root, split->head);

	split->refs = split->old.refs;
	split->known = spf_seen_make(CurrentMemoryContext, split->old.n * 2);
	split->n = 0;
	for (int i = 0; i < split->old.n; i++)
	{
		if (spf_seen_add(split->known, split->refs[i]))
			split->refs[split->n++] = split->refs[i];
	}
	split->points = palloc_extended(Max((Size) split->n, 1) * index->padded * sizeof(float),
									MCXT_ALLOC_HUGE);
	split->n = load_points(index, split->level, split->refs, split->n, split->points);
	split->assign = palloc0(Max(split->n, 1) * sizeof(int32));
	return true;
}

/*
 * Choose the parts: fills k, assign, centroids, vectors.  Returns false if the members
 * cannot be told apart.
 */
static bool
choose_parts(SpfSplit *split)
{
	SpfIndex   *index = split->index;
	SpfKmeansOptions options = {.rounds = 12,.min_share = 0.66,.max_share = 1.34};
	int			limit = index->split_limit;
	int			padded = index->padded;

	split->k = 1;
	if (split->is_root)
		limit *= SPF_ROOT_SHARE;
	if (split->n > limit * SPF_REWRITE_SHARE)
		split->k = Max(2, (int) (split->n / (index->split_limit * SPF_PLANNED_SHARE)));
	split->k = Min(split->k, Min(split->n, SPF_MAX_FORWARDS));
	split->k = Max(split->k, 1);

	split->centroids = palloc((Size) split->k * padded * sizeof(float));
	split->vectors = palloc(split->k * sizeof(SpfVector));
	split->parts = palloc(split->k * sizeof(SpfPageRef));
	for (int j = 0; j < split->k; j++)
		split->vectors[j].code = palloc(padded);

	if (split->k == 1)
	{
		if (BlockNumberIsValid(split->old.centroid.block) &&
			!spf_record_fetch(index, split->old.centroid, split->level + 1,
							  &split->vectors[0], NULL))
			return false;
	}
	else
	{
		options.seed = split->head.block;
		if (spf_kmeans(split->points, split->n, padded, split->k, &options, &spf_host,
					   split->centroids, split->assign) < split->k)
			return false;
		for (int j = 0; j < split->k; j++)
			spf_record_encode(split->centroids + (Size) j * padded, padded,
							  split->vectors[j].code, &split->vectors[j].numbers);
	}

	/* a centroid is what its record decodes to */
	for (int j = 0; j < split->k; j++)
	{
		if (split->k > 1 || BlockNumberIsValid(split->old.centroid.block))
			spf_record_decode(split->vectors[j].code, split->vectors[j].numbers.scale, padded,
							  split->centroids + (Size) j * padded);
		else
			memset(split->centroids, 0, padded * sizeof(float));
	}
	return true;
}

/*
 * Step 2.  Returns false if a part could not be locked, by a vacuum that happens to look for
 * what its block was before.
 */
static bool
write_parts(SpfSplit *split)
{
	int		   *members = palloc(Max(split->n, 1) * sizeof(int));

	for (int j = 0; j < split->k; j++)
	{
		SpfEntry   *entries;
		int			m = 0;

		for (int i = 0; i < split->n; i++)
		{
			if (split->assign[i] == j)
				members[m++] = i;
		}
		entries = spf_form_entries(split->index, split->points, split->refs, members, m,
								   split->centroids + (Size) j * split->index->padded);
		split->parts[j] = spf_posting_create(split->index, split->level,
											 split->k == 1 ? split->old.centroid : SPF_NO_RECORD,
											 entries, m);
		if (!spf_try_lock_block(split->index->rel, split->parts[j].block, ExclusiveLock))
			return false;
		split->nlocked++;
	}
	return true;
}

static void
tell_centroid(SpfSplit *split, SpfPageRef part, SpfRecordRef centroid)
{
	Buffer		buf = spf_page_follow(split->index->rel, part, SPF_PAGE_POSTING,
									  BUFFER_LOCK_EXCLUSIVE);
	SpfWrite	write;

	if (!BufferIsValid(buf))
		elog(ERROR, "a new posting of index \"%s\" is missing",
			 RelationGetRelationName(split->index->rel));
	spf_write_begin(&write, split->index->rel, split->index->building);
	spf_posting_set_centroid(spf_write_page(&write, buf, false), centroid);
	spf_write_finish(&write);
	UnlockReleaseBuffer(buf);
}

/* Step 3.  Returns the new root where the root was split. */
static SpfPageRef
link_parts(SpfSplit *split)
{
	SpfIndex   *index = split->index;
	SpfRecordRef *refs = palloc(split->k * sizeof(SpfRecordRef));
	int		   *members = palloc(split->k * sizeof(int));
	SpfEntry   *entries;

	for (int j = 0; j < split->k; j++)
	{
		/* as soon as it is placed it gets entries: by then it must know where it belongs */
		refs[j] = spf_record_insert(index, split->level + 1, &split->vectors[j], NULL,
									split->parts[j], split->old.centroid.block);
		tell_centroid(split, split->parts[j], refs[j]);
		if (!split->is_root)
			spf_place_centroid(index, split->level + 1, &split->vectors[j], refs[j]);
		members[j] = j;
	}
	if (!split->is_root)
		return SPF_NO_PAGE;
	entries = spf_form_entries(index, split->centroids, refs, members, split->k, NULL);
	return spf_posting_create(index, split->level + 1, SPF_NO_RECORD, entries, split->k);
}

/* Step 4: what came to the old posting since it was read. */
static void
catch_up(SpfSplit *split)
{
	SpfIndex   *index = split->index;
	int			padded = index->padded;
	int			n = 0;
	float	   *points;
	uint8_t    *code = palloc(padded);

	if (!spf_posting_read(index, split->head, &split->old))
		elog(ERROR, "a posting of index \"%s\" vanished during its split",
			 RelationGetRelationName(index->rel));
	for (int i = 0; i < split->old.n; i++)
	{
		if (spf_seen_add(split->known, split->old.refs[i]))
			split->old.refs[n++] = split->old.refs[i];
	}
	points = palloc_extended(Max((Size) n, 1) * padded * sizeof(float), MCXT_ALLOC_HUGE);
	n = load_points(index, split->level, split->old.refs, n, points);

	for (int i = 0; i < n; i++)
	{
		const float *x = points + (Size) i * padded;
		SpfEntry	entry = {.ref = split->old.refs[i],.code = code};
		int			best = 0;
		float		best2 = spf_kernels->l2sq(x, split->centroids, padded);
		bool		due;

		for (int j = 1; j < split->k; j++)
		{
			float		d2 = spf_kernels->l2sq(x, split->centroids + (Size) j * padded, padded);

			if (d2 < best2)
			{
				best = j;
				best2 = d2;
			}
		}
		spf_entry_encode(&index->shape, x, split->centroids + (Size) best * padded, code,
						 &entry.numbers);
		for (;;)
		{
			SpfAppendResult result = spf_posting_append(index, split->parts[best], split->level,
														&entry, &due);

			if (result == SPF_APPENDED)
				break;
			if (result == SPF_APPEND_GONE)
				elog(ERROR, "a new posting of index \"%s\" is missing",
					 RelationGetRelationName(index->rel));
			CHECK_FOR_INTERRUPTS();
			spf_posting_push_down(index, split->parts[best]);
		}
	}
	pfree(points);
	pfree(code);
}

/* The edits of step 5, all pages locked. */
static void
write_switch(SpfSplit *split, Buffer record, Buffer head, Buffer meta, SpfPageRef new_root)
{
	SpfWrite	write;

	spf_write_begin(&write, split->index->rel, split->index->building);
	if (BufferIsValid(record))
	{
		Page		page = spf_write_page(&write, record, false);

		if (split->k == 1)
			spf_record_set_child(page, split->old.centroid.offset, split->parts[0]);
		else
			spf_record_retire(page, split->old.centroid.offset);
	}
	spf_posting_retire(spf_write_page(&write, head, false), split->parts, split->k);
	if (BufferIsValid(meta))
	{
		SpfMeta    *content = spf_meta_edit(&write, meta);

		if (split->k == 1)
			content->root = split->parts[0];
		else
		{
			content->root = new_root;
			content->root_level = split->level + 1;
		}
		spf_meta_seal(content);
	}
	spf_write_finish(&write);
}

/* Step 5, in which nothing may have come to the old posting: else false. */
static bool
switch_over(SpfSplit *split, SpfPageRef new_root)
{
	SpfIndex   *index = split->index;
	Buffer		record = InvalidBuffer;
	Buffer		head = spf_page_pin(index->rel, split->head.block);
	Buffer		meta = InvalidBuffer;
	SpfPostingView view;
	SpfRecordView centroid;
	bool		ready;

	if (!split->is_root)
		record = spf_record_page(index->rel, split->old.centroid.block, BUFFER_LOCK_EXCLUSIVE);
	if (!split->is_root &&
		(!BufferIsValid(record) ||
		 !spf_record_view(index, record, split->old.centroid.offset,
						  split->old.centroid.version, split->level + 1, &centroid)))
		spf_page_corrupted(index->rel, split->head.block, "The posting's centroid is missing.");
	if (!split->is_root && !SpfPageRefEquals(centroid.child, split->head))
		spf_page_corrupted(index->rel, split->head.block,
						   "The posting's centroid leads to another posting.");
	head = spf_page_follow_pinned(index->rel, head, split->head, SPF_PAGE_POSTING,
								  BUFFER_LOCK_EXCLUSIVE);
	if (!BufferIsValid(head))
		elog(ERROR, "a posting of index \"%s\" vanished during its split",
			 RelationGetRelationName(index->rel));
	spf_posting_view(index, head, &view);
	ready = view.total == split->old.total;
	if (ready)
	{
		if (split->is_root)
			meta = spf_meta_lock(index->rel);
		write_switch(split, record, head, meta, new_root);
		if (BufferIsValid(meta))
			UnlockReleaseBuffer(meta);
	}
	UnlockReleaseBuffer(head);
	if (BufferIsValid(record))
		UnlockReleaseBuffer(record);
	return ready;
}

/* Let it grow to this many entries before this is tried again. */
static void
postpone(SpfSplit *split, uint32 split_at)
{
	Buffer		buf = spf_page_follow(split->index->rel, split->head, SPF_PAGE_POSTING,
									  BUFFER_LOCK_EXCLUSIVE);
	SpfWrite	write;

	if (!BufferIsValid(buf))
		return;
	spf_write_begin(&write, split->index->rel, split->index->building);
	spf_posting_set_split_at(spf_write_page(&write, buf, false), split_at);
	spf_write_finish(&write);
	UnlockReleaseBuffer(buf);
}

static bool
split_locked(SpfSplit *split)
{
	SpfIndex   *index = split->index;
	SpfPageRef	new_root = SPF_NO_PAGE;

	if (!read_members(split))
		return false;

	/* a root may grow somewhat larger before it gets another level above it, or is rewritten */
	if (split->is_root && split->old.total <= index->split_limit * SPF_ROOT_SHARE &&
		split->n > index->split_limit * SPF_REWRITE_SHARE)
	{
		postpone(split, index->split_limit * SPF_ROOT_SHARE);
		return false;
	}

	/* where each level has hardly fewer postings than the one below, more of them are no use */
	if (split->is_root && split->level + 1 >= SPF_MAX_LEVELS)
	{
		postpone(split, Max(split->old.total, (uint32) index->split_limit) * 2);
		return false;
	}

	/* what is all equal would be tried in vain at every insertion */
	if (!choose_parts(split))
	{
		postpone(split, Max(split->old.total, (uint32) index->split_limit) * 2);
		return false;
	}
	if (!write_parts(split))
		return false;

	/*
	 * From here to the end it is a matter of a few pages, and to stop in between would leave
	 * entries twice: a cancelled statement waits.
	 */
	HOLD_INTERRUPTS();
	if (split->k > 1)
		new_root = link_parts(split);
	while (!switch_over(split, new_root))
		catch_up(split);
	RESUME_INTERRUPTS();
	spf_meta_count(index, split->level, split->k - 1, split->k > 1 ? 1 : 0,
				   split->old.n - split->n);
	if (split->is_root && split->k > 1)
		spf_meta_count(index, split->level + 1, 1, 0, 0);
	return true;
}

bool
spf_split(SpfIndex *index, SpfPageRef head)
{
	SpfSplit	split = {.index = index,.head = head};
	MemoryContext context;
	MemoryContext old;
	bool		done;

	if (!spf_try_lock_block(index->rel, head.block, ExclusiveLock))
		return false;
	if (!spf_try_lock_block(index->rel, SPF_META_BLOCK, ShareLock))
	{
		spf_unlock_block(index->rel, head.block, ExclusiveLock);
		return false;
	}
	context = AllocSetContextCreate(CurrentMemoryContext, "spfresh split",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	done = split_locked(&split);
	for (int j = 0; j < split.nlocked; j++)
		spf_unlock_block(index->rel, split.parts[j].block, ExclusiveLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	spf_unlock_block(index->rel, SPF_META_BLOCK, ShareLock);
	spf_unlock_block(index->rel, head.block, ExclusiveLock);
	return done;
}
