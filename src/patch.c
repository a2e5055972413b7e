/*-------------------------------------------------------------------------
 *
 * patch.c
 *	  A small change of one page, of which it is known what it touches.
 *
 * See patch.h.  The WAL record is one of generic WAL (generic_xlog.c): for each page a list of
 * fragments, each an offset, a length, and the bytes that are there now.  Replaying it zeroes what
 * lies between pd_lower and pd_upper, as it is here at all times.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/rmgr.h"
#include "miscadmin.h"

#include "patch.h"

/* Equal bytes between two fragments that cost as much as a fragment of its own */
#define FRAGMENT_HEADER		(2 * sizeof(OffsetNumber))

/* Fragments are further apart than their headers are long: this is room for any. */
#define DELTA_BYTES			(2 * BLCKSZ)

Page
spf_patch_begin(SpfPatch *patch, Relation index, Buffer buf, bool building)
{
	patch->index = index;
	patch->buf = buf;
	patch->logged = !building && RelationNeedsWAL(index);
	patch->nparts = 0;
	memcpy(patch->copy.data, BufferGetPage(buf), BLCKSZ);
	return patch->copy.data;
}

void
spf_patch_part(SpfPatch *patch, const void *at, Size length)
{
	Size		start = (const char *) at - patch->copy.data;

	if (patch->nparts == SPF_PATCH_PARTS || start + length > BLCKSZ)
		elog(ERROR, "a small change of index \"%s\" is none",
			 RelationGetRelationName(patch->index));
	patch->starts[patch->nparts] = start;
	patch->lengths[patch->nparts++] = length;
}

/* The first byte from `i` on that differs; `end` if none does. */
static Size
first_difference(const char *a, const char *b, Size i, Size end)
{
	while (i + sizeof(uint64) <= end && memcmp(a + i, b + i, sizeof(uint64)) == 0)
		i += sizeof(uint64);
	while (i < end && a[i] == b[i])
		i++;
	return i;
}

/* Add the fragments of a part to delta[used]; returns how long it is then. */
static Size
add_fragments(const char *page, const char *copy, Size start, Size end, char *delta, Size used)
{
	while ((start = first_difference(page, copy, start, end)) < end)
	{
		Size		last = start;
		OffsetNumber offset = start;
		OffsetNumber length;

		for (Size i = start + 1; i < end && i - last <= FRAGMENT_HEADER + 1; i++)
		{
			if (page[i] != copy[i])
				last = i;
		}
		length = last + 1 - start;
		memcpy(delta + used, &offset, sizeof(offset));
		memcpy(delta + used + sizeof(offset), &length, sizeof(length));
		memcpy(delta + used + FRAGMENT_HEADER, copy + start, length);
		used += FRAGMENT_HEADER + length;
		start = last + 1;
	}
	return used;
}

void
spf_patch_finish(SpfPatch *patch)
{
	Page		page = BufferGetPage(patch->buf);
	char		delta[DELTA_BYTES];
	Size		used = 0;

	for (int i = 0; i < patch->nparts && patch->logged; i++)
		used = add_fragments(page, patch->copy.data, patch->starts[i],
							 patch->starts[i] + patch->lengths[i], delta, used);
	if (patch->logged)
		XLogBeginInsert();
	START_CRIT_SECTION();
	for (int i = 0; i < patch->nparts; i++)
		memcpy((char *) page + patch->starts[i], patch->copy.data + patch->starts[i],
			   patch->lengths[i]);
	Assert(memcmp(page, patch->copy.data, ((PageHeader) page)->pd_lower) == 0 &&
		   memcmp((char *) page + ((PageHeader) page)->pd_upper,
				  patch->copy.data + ((PageHeader) page)->pd_upper,
				  BLCKSZ - ((PageHeader) page)->pd_upper) == 0);
	MarkBufferDirty(patch->buf);
	if (patch->logged)
	{
		XLogRecPtr	lsn;

		XLogRegisterBuffer(0, patch->buf, REGBUF_STANDARD);
		XLogRegisterBufData(0, delta, used);
		lsn = XLogInsert(RM_GENERIC_ID, 0);
		PageSetLSN(page, lsn);
	}
	END_CRIT_SECTION();
}
