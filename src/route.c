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

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "io.h"
#include "memo.h"
#include "posting.h"
#include "record.h"
#include "route.h"

/*
 * Upper levels go by estimates rather than by lower bounds: what is read is then what is
 * given, and the order need not be exact, as it is only that of probing.
 */
#define ROUTE_CAUTION	0.4f

/* ---- probing one posting ---- */

static void
scan_page(SpfProbe *probe, const SpfPostingView *view, SpfBound *bound)
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
		bound->threshold = probe->threshold;
		mask = spf_query_posting_block(probe->query, bound, block,
									   spf_posting_lanes(index, view, b), est, lower);
		if (mask != 0)
			probe->found(probe->state, block, mask, est, lower);
	}
	probe->work->entries += view->used;
	probe->work->pages++;
}

/* How a posting was met. */
typedef enum SpfMet
{
	MET_LIVE,
	MET_RETIRED,
	MET_NONE
} SpfMet;

/*
 * Is what lies behind a page of a posting left out?  Because bounds say so, or because all of it
 * is too far from the query, by its distances from the centroid.
 */
static bool
skip_rest(const SpfProbe *probe, const SpfPostingView *view, const SpfRoute *route,
		  BlockNumber pages)
{
	const SpfWork *work = probe->work;

	if ((work->max_pages > 0 && work->pages >= work->max_pages) ||
		(work->page_limit > 0 && probe->level == 0 && pages >= work->page_limit))
		return true;
	return view->rest_max > 0 &&
		spf_query_ring(probe->query, route->score, view->rest_min, view->rest_max) >
		probe->threshold;
}

/*
 * Scan one head and its chain.  Where it turns out retired, copies where to go to forwards[]
 * and sets *nforwards.
 */
static SpfMet
probe_chain(SpfProbe *probe, Buffer pinned, const SpfRoute *route, SpfPageRef *forwards,
			int *nforwards)
{
	Relation	rel = probe->index->rel;
	SpfPageRef	next = route->posting;
	BlockNumber pages = 0;
	uint32		left = 0;		/* entries to come, by the head's count */
	SpfBound	bound;

	*nforwards = 0;
	spf_query_posting(probe->query, route->score, probe->caution, &bound);
	while (BlockNumberIsValid(next.block))
	{
		Buffer		buf = spf_page_follow_pinned(rel, pinned, next, SPF_PAGE_POSTING,
												 BUFFER_LOCK_SHARE);
		SpfPostingView view;

		if (!BufferIsValid(buf))
		{
			probe->work->gone++;
			return pages == 0 ? MET_NONE : MET_LIVE;
		}
		spf_posting_view(probe->index, buf, &view);
		if (view.retired && pages == 0)
		{
			*nforwards = view.nforwards;
			memcpy(forwards, view.forwards, view.nforwards * sizeof(SpfPageRef));
			UnlockReleaseBuffer(buf);
			return MET_RETIRED;
		}
		if (view.level != probe->level || view.head != (pages == 0))
		{
			UnlockReleaseBuffer(buf);
			probe->work->gone++;
			return pages == 0 ? MET_NONE : MET_LIVE;
		}
		if (pages == 0)
			left = view.total;
		if (view.used > left)
			spf_page_corrupted(rel, route->posting.block,
							   "A posting has more entries than it counts.");
		left -= view.used;
		scan_page(probe, &view, &bound);
		next = view.next;
		UnlockReleaseBuffer(buf);
		pages++;
		if (BlockNumberIsValid(next.block) && skip_rest(probe, &view, route, pages))
		{
			probe->work->skipped++;
			return MET_LIVE;
		}
		pinned = spf_page_pin(rel, next.block);

		if ((pages & 63) == 0)
		{
			CHECK_FOR_INTERRUPTS();
			if (pages > RelationGetNumberOfBlocks(rel))
				spf_page_corrupted(rel, route->posting.block,
								   "A posting's pages have no end.");
		}
	}
	return MET_LIVE;
}

/* The route to a posting that took over from another, by its own centroid. */
static bool
route_to(const SpfIndex *index, const SpfQuery *query, SpfPageRef posting, SpfRoute *route)
{
	SpfPostingView view;
	SpfVector	vector;
	bool		found = true;

	route->posting = posting;
	route->score = spf_query_centroid(query, NULL);
	route->centroid = NULL;
	if (!spf_posting_look(index, posting, &view))
		return false;
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

/* Postings that took over from retired ones, and those that took over from them: each once. */
typedef struct SpfSuccessors
{
	List	   *list;			/* of SpfPageRef */
	struct spf_seen_hash *seen;
} SpfSuccessors;

static void
add_successors(SpfSuccessors *successors, const SpfPageRef *forwards, int n)
{
	if (n > 0 && successors->seen == NULL)
		successors->seen = spf_seen_make(CurrentMemoryContext, 64);
	for (int i = 0; i < n; i++)
	{
		SpfRecordRef key = {forwards[i].block, forwards[i].generation >> 16,
			(uint16) forwards[i].generation};
		SpfPageRef *ref;

		if (!spf_seen_add(successors->seen, key))
			continue;
		ref = palloc(sizeof(SpfPageRef));
		*ref = forwards[i];
		successors->list = lappend(successors->list, ref);
	}
}

/*
 * Was a posting that is not there known from memory?  Then its centroid may lead to
 * another by now.
 */
static bool
remembered_wrongly(SpfProbe *probe, const SpfRoute *route, SpfRoute *onward)
{
	SpfVector	vector;
	bool		found;

	if (!spf_memo_forget(probe->index, route->record))
		return false;
	*onward = *route;
	vector.code = palloc(probe->index->padded);
	found = spf_record_fetch(probe->index, route->record, probe->level + 1, &vector,
							 &onward->posting);
	pfree(vector.code);
	return found && !SpfPageRefEquals(onward->posting, route->posting);
}

/* Scan one posting; what took over from it is added to those to come. */
static void
probe_one(SpfProbe *probe, Buffer pinned, const SpfRoute *route, SpfSuccessors *successors)
{
	SpfPageRef	forwards[SPF_MAX_FORWARDS];
	SpfRoute	onward;
	int			n;
	SpfMet	met = probe_chain(probe, pinned, route, forwards, &n);

	if (met == MET_RETIRED)
		(void) spf_memo_forget(probe->index, route->record);
	else if (met == MET_NONE && remembered_wrongly(probe, route, &onward))
		add_successors(successors, &onward.posting, 1);
	add_successors(successors, forwards, n);
}

/* Scan one posting, or those that took over from it. */
static void
probe_posting(SpfProbe *probe, Buffer pinned, const SpfRoute *route)
{
	SpfSuccessors successors = {NIL, NULL};

	probe_one(probe, pinned, route, &successors);
	for (int i = 0; i < list_length(successors.list); i++)
	{
		SpfPageRef *posting = list_nth(successors.list, i);
		SpfRoute	onward;

		CHECK_FOR_INTERRUPTS();
		if (route_to(probe->index, probe->query, *posting, &onward))
			probe_one(probe, spf_page_pin(probe->index->rel, posting->block), &onward,
					  &successors);
		else
			probe->work->gone++;
	}
	list_free_deep(successors.list);
}

/* How many postings ahead the processor is told of what will be read. */
#define AHEAD			4

/* The heads of the postings that come first. */
static void
read_ahead(Relation rel, const SpfRoute *routes, int nroutes)
{
	BlockNumber blocks[SPF_IO_WINDOW] = {0};
	int			n = Min(nroutes, SPF_IO_WINDOW);

	for (int i = 0; i < n; i++)
		blocks[i] = routes[i].posting.block;
	spf_io_ahead(rel, blocks, n);
}

int
spf_probe_postings(SpfProbe *probe, const SpfRoute *routes, int nroutes)
{
	Relation	rel = probe->index->rel;
	Buffer		next;

	if (nroutes == 0)
		return 0;
	read_ahead(rel, routes, nroutes);
	for (int i = 1; i < Min(nroutes, AHEAD); i++)
		spf_page_announce(rel, routes[i].posting.block, 1024);
	next = spf_page_pin(rel, routes[0].posting.block);
	for (int i = 0; i < nroutes; i++)
	{
		Buffer		buf = next;

		CHECK_FOR_INTERRUPTS();
		if (probe->enough != NULL && probe->enough(probe->state, &routes[i]))
		{
			if (BufferIsValid(buf))
				ReleaseBuffer(buf);
			return i;
		}
		if (i + AHEAD < nroutes)
			spf_page_announce(rel, routes[i + AHEAD].posting.block, 1024);
		next = i + 1 < nroutes ? spf_page_pin(rel, routes[i + 1].posting.block) : InvalidBuffer;
		probe->work->probes[probe->level]++;
		probe_posting(probe, buf, &routes[i]);
	}
	return nroutes;
}

/* ---- streams ---- */

/* Where WAL is by now, or replay. */
static XLogRecPtr
lsn_now(void)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetXLogInsertRecPtr();
}

struct SpfStream
{
	const SpfIndex *index;
	const SpfQuery *query;
	SpfStream  *source;			/* NULL at the root */
	SpfRoute	root;
	bool		exhausted;		/* the source has no more postings */
	SpfPurpose	purpose;
	bool		with_centroids;
	FullTransactionId started;
	XLogRecPtr	started_lsn;	/* Invalid where pages have none */
	int			level;
	int			scanned;
	int			beam;			/* scan at least so many before giving any */
	int			given;
	SpfProbe	probe;
	SpfPool		pool;			/* entries scanned */
	SpfQueue	queue;			/* of centroids read */
	struct spf_seen_hash *seen;
	SpfRoute   *routes;			/* of centroids read, numbered */
	int			nroutes;
	int			space;
	SpfWork    *work;
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

/*
 * All entries of a block go to the pool; their keys are the lower bounds, which are cautious by
 * ROUTE_CAUTION only.
 */
static void
pool_block(void *state, const uint8_t *block, uint32 mask, const float *est, const float *lower)
{
	SpfStream  *stream = state;
	int			used = pg_leftmost_one_pos32(mask) + 1;	/* all are below infinity */
	SpfPool    *pool = &stream->pool;
	float		least = INFINITY;
	int			first;

	first = spf_pool_room(pool, used);
	memcpy(&pool->keys[first], lower, used * sizeof(float));
	spf_posting_refs(stream->index, block, used, &pool->refs[first]);
	for (int lane = 0; lane < used; lane++)
		least = lower[lane] < least ? lower[lane] : least;
	spf_pool_filled(pool, used, least);
}

SpfStream *
spf_stream_open(const SpfIndex *index, const SpfMeta *meta, const SpfQuery *query,
				int level, int expect, SpfPurpose purpose, SpfWork *work)
{
	SpfStream  *stream = palloc0(sizeof(SpfStream));

	Assert(level >= 1);
	stream->context = CurrentMemoryContext;
	stream->index = index;
	stream->query = query;
	stream->purpose = purpose;
	stream->with_centroids = purpose == SPF_TO_PLACE;
	stream->started = ReadNextFullTransactionId();
	stream->started_lsn = InvalidXLogRecPtr;
	if (RelationNeedsWAL(index->rel) && !index->building)
		stream->started_lsn = lsn_now();
	stream->level = level;
	stream->work = work;
	stream->beam = Max(SPF_MIN_BEAM, expect / SPF_BEAM_SHARE + (expect % SPF_BEAM_SHARE != 0));
	if (level < meta->root_level)
	{
		stream->source = spf_stream_open(index, meta, query, level + 1, stream->beam,
										 purpose, work);
		stream->source->with_centroids = false;
	}
	else if (level == meta->root_level)
		spf_route_root(meta, query, &stream->root);
	else
		stream->exhausted = true;	/* nothing is above the root */

	/* what is expected may be any number that a setting may have: room grows as needed */
	expect = Min(expect, 4096);
	spf_queue_init(&stream->queue, 64);
	spf_pool_init(&stream->pool, 1024, 2 * expect);
	stream->seen = spf_seen_make(CurrentMemoryContext, Max(128, 2 * expect));
	stream->space = Max(32, expect * 2);
	stream->routes = palloc(stream->space * sizeof(SpfRoute));
	stream->probe = (SpfProbe)
	{
		.index = index,.query = query,.level = level,.caution = ROUTE_CAUTION,.work = work,
			.found = pool_block,.state = stream,.threshold = INFINITY
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

	/* finding the way may take half of the pages that a search may read */
	if (stream->work->max_pages > 0 && stream->scanned > 0 &&
		stream->work->pages >= stream->work->max_pages / 2)
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
	(void) spf_probe_postings(&stream->probe, routes, n);
	stream->scanned += n;
	return n > 0;
}

/*
 * Was a centroid retired before the stream began?  Transaction ids tell that, but stand still within a
 * long transaction; there the page's position in WAL says more.
 */
static bool
was_over(const SpfStream *stream, const SpfRecordView *view)
{
	return stream->purpose == SPF_TO_PLACE ||
		FullTransactionIdPrecedes(view->retired_at, stream->started) ||
		(!XLogRecPtrIsInvalid(stream->started_lsn) && view->lsn <= stream->started_lsn);
}

/*
 * A centroid's record is known: put its child in line.
 *
 * A posting that was split since this began leads to those that took over, which may
 * have come too late to be met on their own.  Else they are, and it is just stale.
 */
static void
take_centroid(SpfStream *stream, SpfRecordRef ref, const SpfRecordView *view)
{
	SpfRoute   *route;

	if (view->retired && was_over(stream, view))
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
	route->score = spf_query_coded_centroid(stream->query, view->code, view->numbers.scale);
	if (stream->with_centroids)
	{
		route->centroid = palloc(stream->index->padded * sizeof(float));
		spf_record_decode(view->code, view->numbers.scale, stream->index->padded,
						  route->centroid);
	}
	spf_queue_push(&stream->queue, route->score, SPF_ITEM_RECORD, stream->nroutes);
	stream->nroutes++;
}

/* A centroid's record was read. */
static void
take_record(void *state, SpfRecordRef ref, const SpfRecordView *view)
{
	SpfStream  *stream = state;

	take_centroid(stream, ref, view);
	if (stream->purpose == SPF_TO_SEARCH)
		spf_memo_keep(stream->index, ref, view);
}

/*
 * Look at the centroids of the entries that are first in line: those remembered at once, the
 * others page by page.
 */
static void
read_batch(SpfStream *stream, int want)
{
	SpfRecordRef refs[SPF_RECORD_BATCH];
	int			most = Min(Max(want, SPF_RECORD_BATCH / 4), SPF_RECORD_BATCH);
	int			n = 0;

	while (n < most)
	{
		const SpfItem *first = spf_queue_first(&stream->queue);
		float		key = spf_pool_first(&stream->pool);
		SpfRecordRef ref;
		SpfRecordView view;

		if (isinf(key) || (first != NULL && first->bound <= key))
			break;
		ref = spf_pool_take(&stream->pool);
		if (!spf_seen_add(stream->seen, ref))
			continue;
		if (stream->purpose == SPF_TO_SEARCH &&
			spf_memo_find(stream->index, ref, stream->level, &view))
		{
			take_centroid(stream, ref, &view);
			stream->work->records++;
		}
		else
			refs[n++] = ref;
	}
	if (n == 0)
		return;
	qsort(refs, n, sizeof(SpfRecordRef), spf_record_ref_cmp);
	stream->work->records += spf_record_read_batch(stream->index, refs, n, stream->level,
												   take_record, stream);
}

/* Make the first in line a centroid, of `want`; false when there is nothing left. */
static bool
advance(SpfStream *stream, int want)
{
	for (;;)
	{
		const SpfItem *first;
		float		key;

		if (stream->scanned < stream->beam &&
			scan_more(stream, stream->beam - stream->scanned))
			continue;
		first = spf_queue_first(&stream->queue);
		key = spf_pool_first(&stream->pool);
		if (first != NULL && first->bound <= key)
			return true;
		if (!isinf(key))
			read_batch(stream, want);
		else if (!scan_more(stream, 1))
			return false;
	}
}

int
spf_stream_next(SpfStream *stream, SpfRoute *routes, int want)
{
	MemoryContext old = MemoryContextSwitchTo(stream->context);
	int			n = 0;

	while (n < want && advance(stream, want - n))
	{
		routes[n++] = stream->routes[spf_queue_pop(&stream->queue).number];
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
	stream = spf_stream_open(index, meta, query, level + 1, want, SPF_TO_PLACE, &work);
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
							 level + 1, 1, SPF_TO_PROVE, &work);
	while (!found && spf_stream_next(stream, &route, 1) > 0)
		found = SpfPageRefEquals(route.posting, head);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return found;
}
