/*-------------------------------------------------------------------------
 *
 * points.c
 *	  Between records and entries: vectors as points, and points as entries of a posting.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "points.h"
#include "record.h"

int
spf_load_points(const SpfIndex *index, int level, SpfRecordRef *refs, int n, float *points)
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
		entries[i].superseded = entries[i].moved = false;
		entries[i].code = code;
		spf_entry_encode(&index->shape, points + (Size) order[i].member * index->padded,
						 centroid, code, &entries[i].numbers);
	}
	pfree(order);
	return entries;
}

int
spf_nearest_of(const float *x, const float *centroids, int n, int padded, float *dist2)
{
	int			best = 0;

	*dist2 = spf_kernels->l2sq(x, centroids, padded);
	for (int j = 1; j < n; j++)
	{
		float		d2 = spf_kernels->l2sq(x, centroids + (Size) j * padded, padded);

		if (d2 < *dist2)
		{
			best = j;
			*dist2 = d2;
		}
	}
	return best;
}
