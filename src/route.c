/*-------------------------------------------------------------------------
 *
 * route.c
 *	  From the root down: postings in order of their centroids' distance.
 *
 * See route.h.  One page is locked at a time, in share mode, and only for as
 * long as it takes to scan it or to copy from it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "posting.h"
#include "record.h"
#include "route.h"

/*
 * Upper levels go by estimates rather than by lower bounds: what is read is then what is
 * given, and the order need not be exact, as it is only that of probing.
 */
#define ROUTE_OPTIMISM	0.25f

/* ---- probing one posting ---- */

/* What is not among the best by far need not be in order: see spf_queue_push_far. */
static void
queue_entries(SpfProbe *probe, const uint8_t *block, uint32 mask, const float *est,
			  const float *lower)
{
	while (mask != 0)
	{
		int			lane = pg_rightmost_one_pos32(mask);
		float		key = est[lane] - probe->optimism * (est[lane] - lower[lane]);
		SpfRecordRef ref = spf_posting_ref(probe->index, block, lane);

		mask &= mask - 1;
		if (key < probe->far)
		{
			spf_queue_push(probe->queue, key, SPF_ITEM_ENTRY, ref);
			probe->far = spf_best_add(probe->best, key);
		}
		else
			spf_queue_push_far(probe->queue, key, SPF_ITEM_ENTRY, ref);
	}
}

static void
scan_page(SpfProbe *probe, const SpfPostingView *view, float centroid)
{
	const SpfIndex *index = probe->index;
	int			nblocks = spf_posting_nblocks(index, view);
	float		est[SPF_MAX_LANES];
	float		lower[SPF_MAX_LANES];

	for (int b = 0; b < nblocks; b++)
	{
		const uint8_t *block = spf_posting_block(index, view, b);
		uint32		mask;

		/* the processor's own look-ahead ends at a block's many streams */
		if (b + 1 < nblocks)
			spf_prefetch_memory(block + index->block_bytes, index->block_bytes);
		mask = spf_query_block(probe->query, centroid, block,
										   spf_posting_lanes(index, view, b),
										   probe->threshold, est, lower);

		if (mask == 0)
			continue;
		if (probe->found != NULL)
		{
			probe->found(probe->state, block, mask, est, lower);
			continue;
		}
		queue_entries(probe, block, mask, est, lower);
	}
	probe->work->entries += view->used;
	probe->work->pages++;
}

/*
 * Scan one head and its chain.  Where it turns out retired, copies where to go to forwards[] and
 * returns how many.
 */
static int
probe_chain(SpfProbe *probe, Buffer pinned, const SpfRoute *route, SpfPageRef *forwards)
{
	Relation	rel = probe->index->rel;
	SpfPageRef	next = route->posting;
	BlockNumber pages = 0;
	uint32		left = 0;		/* entries to come, by the head's count */

	while (BlockNumberIsValid(next.block))
	{
		Buffer		buf = spf_page_follow_pinned(rel, pinned, next, SPF_PAGE_POSTING,
												 BUFFER_LOCK_SHARE);
		SpfPostingView view;

		if (!BufferIsValid(buf))
		{
			probe->work->gone++;
			return 0;
		}
		spf_posting_view(probe->index, buf, &view);
		if (view.retired && pages == 0)
		{
			int			n = view.nforwards;

			memcpy(forwards, view.forwards, n * sizeof(SpfPageRef));
			UnlockReleaseBuffer(buf);
			return n;
		}
		if (view.level != probe->level || view.head != (pages == 0))
		{
			UnlockReleaseBuffer(buf);
			probe->work->gone++;
			return 0;
		}
		if (pages == 0)
			left = view.total;
		if (view.used > left)
			spf_page_corrupted(rel, route->posting.block,
							   "A posting has more entries than it counts.");
		left -= view.used;
		scan_page(probe, &view, route->score);
		next = view.next;
		UnlockReleaseBuffer(buf);
		pinned = spf_page_pin(rel, next.block);

		if ((++pages & 63) == 0)
		{
			CHECK_FOR_INTERRUPTS();
			if (pages > RelationGetNumberOfBlocks(rel))
				spf_page_corrupted(rel, route->posting.block,
								   "A posting's pages have no end.");
		}
	}
	return 0;
}

/* The route to a posting that took over from another, by its own centroid. */
static bool
route_to(const SpfIndex *index, const SpfQuery *query, SpfPageRef posting, SpfRoute *route)
{
	Buffer		buf = spf_page_follow(index->rel, posting, SPF_PAGE_POSTING, BUFFER_LOCK_SHARE);
	SpfPostingView view;
	SpfVector	vector;
	bool		found = true;

	route->posting = posting;
	route->score = spf_query_centroid(query, NULL);
	route->centroid = NULL;
	if (!BufferIsValid(buf))
		return false;
	spf_posting_view(index, buf, &view);
	UnlockReleaseBuffer(buf);
	route->record = view.centroid;

	/* one that was itself retired leads on, wherever its centroid was */
	if (BlockNumberIsValid(view.centroid.block))
	{
		float	   *centroid = palloc(index->padded * sizeof(float));

		vector.code = palloc(index->padded);
		found = spf_record_fetch(index, view.centroid, view.level + 1, &vector, NULL);
		if (found)
		{
			spf_record_decode(vector.code, vector.numbers.scale, index->padded, centroid);
			route->score = spf_query_centroid(query, centroid);
		}
		pfree(vector.code);
		pfree(centroid);
	}
	return found || view.retired;
}

static void
probe_depth(SpfProbe *probe, Buffer pinned, const SpfRoute *route, int depth,
			BlockNumber *visits)
{
	SpfPageRef	forwards[SPF_MAX_FORWARDS];
	int			n;

	CHECK_FOR_INTERRUPTS();
	check_stack_depth();
	if (depth > 64 ||
		(++*visits > 1000 && *visits > RelationGetNumberOfBlocks(probe->index->rel)))
		spf_page_corrupted(probe->index->rel, route->posting.block,
						   "Retired postings lead in a circle.");
	n = probe_chain(probe, pinned, route, forwards);
	for (int i = 0; i < n; i++)
	{
		SpfRoute	onward;

		if (route_to(probe->index, probe->query, forwards[i], &onward))
			probe_depth(probe, spf_page_pin(probe->index->rel, forwards[i].block), &onward,
						depth + 1, visits);
		else
			probe->work->gone++;
	}
}

void
spf_probe_postings(SpfProbe *probe, const SpfRoute *routes, int nroutes)
{
	Relation	rel = probe->index->rel;
	Buffer		next = nroutes > 0 ? spf_page_pin(rel, routes[0].posting.block) : InvalidBuffer;

	for (int i = 0; i < nroutes; i++)
	{
		Buffer		buf = next;
		BlockNumber visits = 0;

		next = i + 1 < nroutes ? spf_page_pin(rel, routes[i + 1].posting.block) : InvalidBuffer;
		probe->work->probes[probe->level]++;
		probe_depth(probe, buf, &routes[i], 0, &visits);
	}
}

/* ---- streams ---- */

struct SpfStream
{
	const SpfIndex *index;
	const SpfQuery *query;
	SpfStream  *source;			/* NULL at the root */
	SpfRoute	root;
	bool		exhausted;		/* the source has no more postings */
	bool		with_centroids;
	FullTransactionId started;
	int			level;
	int			scanned;
	int			beam;			/* scan at least so many before giving any */
	int			given;
	SpfProbe	probe;
	SpfQueue	queue;
	SpfBest		best;
	struct spf_seen_hash *seen;
	SpfRoute   *routes;			/* of records read, numbered */
	int			nroutes;
	int			space;
	SpfWork    *work;
	float	   *scratch;
	MemoryContext context;
};

void
spf_route_root(const SpfMeta *meta, const SpfQuery *query, SpfRoute *route)
{
	route->posting = meta->root;
	route->record = SPF_NO_RECORD;
	route->score = spf_query_centroid(query, NULL);
	route->centroid = NULL;
}

SpfStream *
spf_stream_open(const SpfIndex *index, const SpfMeta *meta, const SpfQuery *query,
				int level, int expect, bool with_centroids, SpfWork *work)
{
	SpfStream  *stream = palloc0(sizeof(SpfStream));

	Assert(level >= 1);
	stream->context = CurrentMemoryContext;
	stream->index = index;
	stream->query = query;
	stream->with_centroids = with_centroids;
	stream->started = ReadNextFullTransactionId();
	stream->level = level;
	stream->work = work;
	stream->beam = Max(SPF_MIN_BEAM, expect / SPF_BEAM_SHARE + (expect % SPF_BEAM_SHARE != 0));
	if (level < meta->root_level)
		stream->source = spf_stream_open(index, meta, query, level + 1, stream->beam,
										 false, work);
	else if (level == meta->root_level)
		spf_route_root(meta, query, &stream->root);
	else
		stream->exhausted = true;	/* nothing is above the root */

	spf_queue_init(&stream->queue, 512);
	spf_best_init(&stream->best, 2.0 * expect);

	/* what is expected may be any number that a setting may have: room grows as needed */
	expect = Min(expect, 4096);
	stream->seen = spf_seen_make(CurrentMemoryContext, Max(128, 4 * expect));
	stream->space = Max(32, expect * 2);
	stream->routes = palloc(stream->space * sizeof(SpfRoute));
	stream->scratch = palloc(index->padded * sizeof(float));
	stream->probe = (SpfProbe)
	{
		.index = index,.query = query,.level = level,.optimism = ROUTE_OPTIMISM,
			.queue = &stream->queue,.best = &stream->best,.work = work,
			.threshold = INFINITY,.far = INFINITY
	};
	return stream;
}

/* Scan up to `want` more postings of the stream's own level; false if there are none. */
static bool
scan_more(SpfStream *stream, int want)
{
	SpfRoute	routes[SPF_PORTION];
	int			n;

	if (stream->exhausted)
		return false;
	if (stream->source == NULL)
	{
		routes[0] = stream->root;
		n = 1;
		stream->exhausted = true;
	}
	else
	{
		n = spf_stream_next(stream->source, routes, Min(want, SPF_PORTION));
		stream->exhausted = n == 0;
	}
	spf_probe_postings(&stream->probe, routes, n);
	stream->scanned += n;
	return n > 0;
}

/* A centroid's record was read: put its child in line. */
static void
take_record(void *state, SpfRecordRef ref, const SpfRecordView *view)
{
	SpfStream  *stream = state;
	SpfRoute   *route;

	/*
	 * A posting that was split since this began leads to those that took over, which may
	 * have come too late to be met on their own.  Else they are, and it is just stale.
	 */
	if (view->retired &&
		(stream->with_centroids ||
		 FullTransactionIdPrecedes(view->retired_at, stream->started)))
		return;
	if (stream->nroutes == stream->space)
	{
		stream->space *= 2;
		stream->routes = repalloc_huge(stream->routes, stream->space * sizeof(SpfRoute));
	}
	route = &stream->routes[stream->nroutes];
	route->posting = view->child;
	route->record = ref;
	route->centroid = NULL;
	spf_record_decode(view->code, view->numbers.scale, stream->index->padded, stream->scratch);
	route->score = spf_query_centroid(stream->query, stream->scratch);
	if (stream->with_centroids)
	{
		route->centroid = palloc(stream->index->padded * sizeof(float));
		memcpy(route->centroid, stream->scratch, stream->index->padded * sizeof(float));
	}
	spf_queue_push_number(&stream->queue, route->score, SPF_ITEM_RECORD, stream->nroutes);
	stream->nroutes++;
}

/* Read the records of the entries that are first in line, page by page. */
static void
read_batch(SpfStream *stream, int want)
{
	SpfRecordRef refs[SPF_RECORD_BATCH];
	int			most = Min(Max(want, SPF_RECORD_BATCH / 4), SPF_RECORD_BATCH);
	int			n = spf_queue_pop_entries(&stream->queue, stream->seen, refs, most);

	stream->work->records += spf_record_read_batch(stream->index, refs, n, stream->level,
												   take_record, stream);
}

/* Make the first item in line a record, of `want`; false when there is nothing left. */
static bool
advance(SpfStream *stream, int want)
{
	for (;;)
	{
		const SpfItem *first;

		if (stream->scanned < stream->beam &&
			scan_more(stream, stream->beam - stream->scanned))
			continue;
		first = spf_queue_first(&stream->queue);
		if (first == NULL)
		{
			if (!scan_more(stream, 1))
				return false;
		}
		else if (spf_item_kind(first) == SPF_ITEM_ENTRY)
			read_batch(stream, want);
		else
			return true;
	}
}

int
spf_stream_next(SpfStream *stream, SpfRoute *routes, int want)
{
	MemoryContext old = MemoryContextSwitchTo(stream->context);
	int			n = 0;

	while (n < want && advance(stream, want - n))
	{
		routes[n++] = stream->routes[spf_queue_pop(&stream->queue).ref.block];
		stream->given++;
		stream->beam = Max(stream->beam, stream->given / SPF_BEAM_SHARE + 1);
	}
	MemoryContextSwitchTo(old);
	return n;
}

int
spf_route_nearest(const SpfIndex *index, const SpfMeta *meta, const SpfQuery *query,
				  int level, int want, SpfRoute *routes)
{
	SpfWork		work = {0};
	SpfStream  *stream;
	int			got;
	int			n = 0;

	if (level >= meta->root_level)
	{
		spf_route_root(meta, query, &routes[0]);
		return 1;
	}
	stream = spf_stream_open(index, meta, query, level + 1, want, true, &work);
	while (n < want && (got = spf_stream_next(stream, routes + n, want - n)) > 0)
		n += got;
	return n;
}

bool
spf_route_leads_to(const SpfIndex *index, int level, const float *centroid, SpfPageRef head)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "spfresh route",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SpfWork		work = {0};
	SpfMeta		meta;
	SpfStream  *stream;
	SpfRoute	route;
	bool		found = false;

	spf_meta_read(index->rel, &meta);
	stream = spf_stream_open(index, &meta, spf_index_placement_query(index, centroid),
							 level + 1, 1, false, &work);
	while (!found && spf_stream_next(stream, &route, 1) > 0)
		found = SpfPageRefEquals(route.posting, head);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return found;
}
