/*-------------------------------------------------------------------------
 *
 * build_write.c
 *	  Building: records and postings, in order, each page once.
 *
 * Whoever has a bucket of rows or of members writes what is in it; buckets are
 * neighbouring postings.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "utils/memutils.h"

#include "build_parts.h"
#include "insert.h"
#include "points.h"
#include "posting.h"
#include "split.h"

/* ---- records ---- */

void
spf_build_put_member(void *state, void *member, const int32 *postings, int npostings)
{
	SpfBuild   *build = state;

	for (int i = 0; i < npostings; i++)
		spf_spread_put(build->members, postings[i], 0, member);
}

/* Rows with one and the same code, about to become a record. */
typedef struct SpfEqualRows
{
	SpfRowItem *first;
	int			ntids;
	ItemPointerData tids[SPF_WRITER_TIDS];
	SpfRecordRef ref;			/* once written */
} SpfEqualRows;

static void
write_record(SpfBuild *build, SpfEqualRows *equal, SpfMember *member)
{
	SpfVector	vector = {.numbers = equal->first->numbers,.code = equal->first->code};

	equal->ref = spf_record_writer_add(&build->records, 0, &vector, equal->tids, equal->ntids,
									   SPF_NO_PAGE);
	member->ref = equal->ref;
	member->scale = vector.numbers.scale;
	memcpy(member->code, vector.code, build->index->padded);
	spf_build_put_member(build, member, equal->first->postings, equal->first->npostings);
}

static bool
same_code(const SpfBuild *build, const SpfRowItem *a, const SpfRowItem *b)
{
	return memcmp(&a->numbers, &b->numbers, sizeof(SpfRecordNumbers)) == 0 &&
		memcmp(a->code, b->code, build->index->padded) == 0;
}

/* Add a row to those collected, or straight to their record if that had to be written. */
static void
join_row(SpfBuild *build, SpfEqualRows *equal, const SpfRowItem *item, SpfMember *member)
{
	if (equal->ntids < SPF_WRITER_TIDS)
	{
		equal->tids[equal->ntids++] = item->tid;
		return;
	}
	if (!BlockNumberIsValid(equal->ref.block))
		write_record(build, equal, member);
	if (!spf_record_add_tid(build->index, equal->ref, &item->tid))
		elog(ERROR, "could not add a row to its record");
}

/* The records of one bucket of rows. */
static void
write_bucket(SpfBuild *build, SpfSort *sort, SpfMember *member)
{
	int			padded = build->index->padded;
	SpfEqualRows equal = {.first = palloc(SPF_ROW_BYTES(padded))};
	const SpfRowItem *item;
	int32		major;
	int32		minor;
	int32		last_minor = 0;

	while ((item = spf_sort_next(sort, &major, &minor)) != NULL)
	{
		if (equal.ntids > 0 && minor == last_minor && same_code(build, equal.first, item))
			join_row(build, &equal, item, member);
		else
		{
			if (equal.ntids > 0 && !BlockNumberIsValid(equal.ref.block))
				write_record(build, &equal, member);
			memcpy(equal.first, item, SPF_ROW_BYTES(padded));
			equal.tids[0] = item->tid;
			equal.ntids = 1;
			equal.ref = SPF_NO_RECORD;
			last_minor = minor;
		}
		spf_build_count(build);
	}
	if (equal.ntids > 0 && !BlockNumberIsValid(equal.ref.block))
		write_record(build, &equal, member);
	pfree(equal.first);
}

/* Everyone's part of writing records. */
void
spf_build_records(SpfBuild *build)
{
	Size		member_size = SPF_MEMBER_BYTES(build->index->padded);
	SpfMember  *member = palloc0(member_size);
	int64		bucket;

	if (build->rows == NULL)
		build->rows = spf_build_spread(build, "rows", SPF_ROW_BYTES(build->index->padded), 0);
	build->members = spf_build_spread(build, "members", member_size, 0);
	spf_record_writer_begin(&build->records, build->index);
	while (spf_team_claim(build->team, spf_spread_count(build->rows), &bucket))
	{
		SpfSort    *sort = spf_spread_sort(build->rows, (int) bucket);

		write_bucket(build, sort, member);
		spf_sort_end(sort);
	}
	spf_record_writer_end(&build->records);
	spf_build_counted(build);
	spf_spread_end(build->rows);
	build->rows = NULL;
	spf_spread_close(build->members);
	pfree(member);
}

/* ---- postings ---- */

/* The members of one posting, or of as many as fit the memory. */
typedef struct SpfGroup
{
	int			n;
	int			space;
	int			most;			/* members that fit the budget */
	SpfRecordRef *refs;
	float	   *points;
} SpfGroup;

static void
group_add(SpfBuild *build, SpfGroup *group, const SpfMember *member)
{
	int			padded = build->index->padded;

	if (group->n == group->space)
	{
		group->space = Min(group->most, group->space * 2);
		group->refs = repalloc_huge(group->refs, group->space * sizeof(SpfRecordRef));
		group->points = repalloc_huge(group->points,
									  (Size) group->space * padded * sizeof(float));
	}
	group->refs[group->n] = member->ref;
	spf_record_decode(member->code, member->scale, padded,
					  group->points + (Size) group->n * padded);
	group->n++;
}

/* Write a posting under its centroid, and note the centroid for the next level. */
static void
write_posting(SpfBuild *build, int level, const SpfGroup *group, const int *members, int m,
			  const float *mean)
{
	SpfIndex   *index = build->index;
	int			padded = index->padded;
	float	   *centroid = palloc(padded * sizeof(float));
	SpfMember  *noted = palloc0(SPF_MEMBER_BYTES(padded));
	SpfVector	vector = {.code = noted->code};
	SpfPostingBirth birth = {.level = level,.centroid = SPF_NO_RECORD};
	SpfEntry   *entries;
	SpfPageRef	head;
	Buffer		buf;

	spf_record_encode(mean, padded, vector.code, &vector.numbers);
	spf_record_decode(vector.code, vector.numbers.scale, padded, centroid);
	entries = spf_form_entries(index, group->points, group->refs, members, m, centroid);
	head = spf_posting_create(index, &birth, entries, m);
	noted->ref = spf_record_writer_add(&build->records, level + 1, &vector, NULL, 0, head);
	noted->scale = vector.numbers.scale;
	spf_spread_put(build->next, 0, 0, noted);

	buf = spf_page_follow(index->rel, head, SPF_PAGE_POSTING, BUFFER_LOCK_EXCLUSIVE);
	spf_posting_set_centroid(BufferGetPage(buf), noted->ref);
	MarkBufferDirty(buf);
	UnlockReleaseBuffer(buf);
	if (level == 0)
		pg_atomic_fetch_add_u64(&build->common->postings, 1);
	else
		build->meta.counters.postings[level]++;
}

static void
mean_of(const SpfGroup *group, int padded, float *mean)
{
	double	   *sum = palloc0(padded * sizeof(double));

	for (int i = 0; i < group->n; i++)
	{
		for (int d = 0; d < padded; d++)
			sum[d] += group->points[(Size) i * padded + d];
	}
	for (int d = 0; d < padded; d++)
		mean[d] = (float) (sum[d] / group->n);
	pfree(sum);
}

/* Write a group as one posting, or as several if it is too large for one. */
static void
write_group(SpfBuild *build, int level, SpfGroup *group)
{
	SpfIndex   *index = build->index;
	SpfKmeansOptions options = {.rounds = 12,.min_share = 0.66,.max_share = 1.34,.seed = SPF_SEED};
	int			padded = index->padded;
	int			k = 1;
	MemoryContext old = MemoryContextSwitchTo(build->row_context);
	int32	   *assign;
	int		   *members;
	float	   *centroids;

	if (group->n > index->split_limit)
		k = Max(2, (int) ceil(group->n / (index->split_limit * SPF_PLANNED_SHARE)));
	assign = palloc0(group->n * sizeof(int32));
	members = palloc_extended(group->n * sizeof(int), MCXT_ALLOC_HUGE);
	centroids = palloc_extended((Size) k * padded * sizeof(float), MCXT_ALLOC_HUGE);
	if (k > 1)
		k = spf_kmeans(group->points, group->n, padded, k, &options, &spf_host,
					   centroids, assign);
	if (k == 1)
	{
		memset(assign, 0, group->n * sizeof(int32));
		mean_of(group, padded, centroids);
	}
	for (int j = 0; j < k; j++)
	{
		int			m = 0;

		for (int i = 0; i < group->n; i++)
		{
			if (assign[i] == j)
				members[m++] = i;
		}
		CHECK_FOR_INTERRUPTS();
		if (m > 0)
			write_posting(build, level, group, members, m, centroids + (Size) j * padded);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
	group->n = 0;
}

static void
write_root(SpfBuild *build, int level, const SpfGroup *group)
{
	int		   *members = palloc(Max(group->n, 1) * sizeof(int));
	SpfPostingBirth birth = {.level = level,.centroid = SPF_NO_RECORD};
	SpfEntry   *entries;

	for (int i = 0; i < group->n; i++)
		members[i] = i;
	entries = spf_form_entries(build->index, group->points, group->refs, members, group->n,
							   NULL);
	build->meta.root = spf_posting_create(build->index, &birth, entries, group->n);
	build->meta.root_level = level;
	build->meta.counters.postings[level] = 1;
}

static void
group_begin(const SpfBuild *build, SpfGroup *group)
{
	const SpfIndex *index = build->index;
	Size		each = index->padded * sizeof(float) + sizeof(SpfRecordRef);

	group->n = 0;
	group->most = (int) Min(spf_build_kilobytes(build, SHARE_GROUP) * 1024.0 / each, INT_MAX / 4);
	group->most = Max(group->most, index->split_limit * SPF_ROOT_SHARE + 1);
	group->space = Min(group->most, 2 * index->split_limit);
	group->refs = palloc(group->space * sizeof(SpfRecordRef));
	group->points = palloc_extended((Size) group->space * index->padded * sizeof(float),
									MCXT_ALLOC_HUGE);
}

/*
 * Write the postings of some sorted members.  Where these are `all` of a level, and fit a root, they
 * become it: then returns true.
 */
static bool
write_postings(SpfBuild *build, int level, SpfSort *sort, bool all)
{
	SpfIndex   *index = build->index;
	SpfGroup	group;
	const SpfMember *member;
	int32		major;
	int32		minor;
	int32		last = -1;
	int64		done = 0;
	bool		whole = all;

	group_begin(build, &group);
	while ((member = spf_sort_next(sort, &major, &minor)) != NULL)
	{
		if (group.n > 0 && (major != last || group.n == group.most))
		{
			whole = false;
			write_group(build, level, &group);
		}
		last = major;
		group_add(build, &group, member);
		if (++done % index->replicas == 0)
			spf_build_count(build);
	}
	whole = whole && group.n <= index->split_limit * SPF_ROOT_SHARE;
	if (whole)
		write_root(build, level, &group);
	else if (group.n > 0)
		write_group(build, level, &group);
	pfree(group.refs);
	pfree(group.points);
	return whole;
}

static void
begin_writing(SpfBuild *build, int level)
{
	Size		member_size = SPF_MEMBER_BYTES(build->index->padded);

	if (build->members == NULL)
		build->members = spf_build_spread(build, "members", member_size, level);
	build->next = spf_build_spread(build, "next", member_size, level);
	spf_record_writer_begin(&build->records, build->index);
}

static void
end_writing(SpfBuild *build)
{
	spf_record_writer_end(&build->records);
	spf_build_counted(build);
	spf_spread_end(build->members);
	build->members = NULL;
	spf_spread_close(build->next);
}

/* Everyone's part of writing postings of level 0. */
void
spf_build_postings(SpfBuild *build)
{
	int64		bucket;

	begin_writing(build, 0);
	while (spf_team_claim(build->team, spf_spread_count(build->members), &bucket))
	{
		SpfSort    *sort = spf_spread_sort(build->members, (int) bucket);

		(void) write_postings(build, 0, sort, false);
		spf_sort_end(sort);
	}
	end_writing(build);
}

/* The leader alone: what all goes to one posting (or several, if it is too much), or upper levels. */
bool
spf_build_level(SpfBuild *build, int level)
{
	bool		whole;
	SpfSort    *sort;

	/* without centroids all have the same first number, and are in the first bucket */
	begin_writing(build, level);
	sort = spf_spread_sort(build->members, 0);
	whole = write_postings(build, level, sort, !build->common->centroids);
	spf_sort_end(sort);
	end_writing(build);
	return whole;
}
