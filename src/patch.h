/*-------------------------------------------------------------------------
 *
 * patch.h
 *	  A small change of one page, of which it is known what it touches.
 *
 * What happens for each row that comes (a record, its entries, another address of a record) changes
 * some bytes of a page.  Generic WAL finds out which by comparing two copies of the page byte by
 * byte, which takes longer than the change.  Here the one who makes the change says where it is;
 * compared, and logged, is only that, as the same generic WAL record.
 *
 * The page is locked exclusively by the caller.  It is changed in a copy, so an error before
 * spf_patch_finish leaves it as it was; giving up needs no call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_PATCH_H
#define SPF_PATCH_H

#include "postgres.h"

#include "page.h"

/* Parts of a page that one change touches, at most */
#define SPF_PATCH_PARTS		4

typedef struct SpfPatch
{
	Relation	index;
	Buffer		buf;
	bool		logged;
	int			nparts;
	uint16		starts[SPF_PATCH_PARTS];
	uint16		lengths[SPF_PATCH_PARTS];
	PGAlignedBlock copy;
} SpfPatch;

/* Begin; returns the copy of the page that is to be changed. */
extern Page spf_patch_begin(SpfPatch *patch, Relation index, Buffer buf, bool building);

/* These bytes of the copy may differ from the page's by now.  All that do must be named. */
extern void spf_patch_part(SpfPatch *patch, const void *at, Size length);

/* Change the page, and log it. */
extern void spf_patch_finish(SpfPatch *patch);

#endif							/* SPF_PATCH_H */
