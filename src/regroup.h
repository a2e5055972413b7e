/*-------------------------------------------------------------------------
 *
 * regroup.h
 *	  Putting the entries of some postings into others: what splits, merges and reclustering share.
 *
 * Old postings are read, new ones (parts) written and linked, what came to the old ones
 * meanwhile is taken along, and one after the other they are retired: see regroup.c.  Which
 * parts there are, and who goes where, is the caller's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_REGROUP_H
#define SPF_REGROUP_H

#include "postgres.h"

#include "index.h"
#include "meta.h"
#include "page.h"
#include "points.h"
#include "posting.h"
#include "record.h"

/* A vector of the old postings. */
typedef struct SpfRegroupMember
{
	SpfRecordRef ref;
	int			copies;			/* live entries in the old postings */
	bool		superseded;		/* none is live, but scans may still need one */
} SpfRegroupMember;

/* An old posting. */
typedef struct SpfOld
{
	SpfPageRef	head;
	SpfPostingEntries entries;	/* as read last */
	struct spf_seen_hash *known;	/* references of it that were dealt with */
	float	   *centroid;		/* [padded], NULL for the root */
} SpfOld;

typedef struct SpfRegroup SpfRegroup;

/*
 * Find a place for a vector that came late: appends its entry somewhere, and sees to it that the
 * old posting's `forwards` lead there.
 */
typedef void (*SpfTakeLate) (SpfRegroup *regroup, SpfRecordRef ref, const float *x);

struct SpfRegroup
{
	SpfIndex   *index;
	int			level;
	bool		is_root;		/* is the one old posting */
	int			nolds;
	SpfOld	   *olds;

	/* live members, each once */
	int			n;
	int			nlive;			/* of these, not superseded */
	SpfRegroupMember *members;
	float	   *points;			/* [n x padded] */
	int			dropped;		/* entries that were stale */

	/*
	 * The caller's: parts, and which members go to which (up to `width` each, -1 for none).  With
	 * keep_centroid the one part stays under the centroid of the one old posting.
	 */
	int			k;
	int			width;
	int32	   *assign;			/* [n x width] */
	float	   *centroids;		/* [k x padded]; carrying out makes them what records decode to */
	bool		keep_centroid;
	SpfPageRef	above;			/* the root, when the one part takes its place: no level above it is left */
	bool		due;			/* the parts' neighbours are to be looked at */
	bool		settled;		/* the parts count as unchanged */
	SpfTakeLate take_late;
	void	   *state;
	const char *purpose;		/* names its fault points */

	/* where scans that arrive at an old posting go on */
	int			nforwards;
	SpfPageRef	forwards[SPF_MAX_FORWARDS];

	SpfVector  *vectors;		/* [k]: the centroids as records */
	SpfPageRef	new_root;
	int			nlocked;		/* of the old postings */
	int			nparts;			/* parts written, and locked */
	MemoryContext context;
	MemoryContext outer;
};

/*
 * Lock the postings heads[n] of a level (with `wait` the first of them is waited for) and read their
 * members.  False, with nothing left to end, if one of them is somebody else's at the moment, or gone.  Everything lives in
 * a context of its own, which is current until spf_regroup_end.
 */
extern bool spf_regroup_begin(SpfRegroup *regroup, SpfIndex *index, const SpfPageRef *heads,
							  int n, bool wait);
extern void spf_regroup_end(SpfRegroup *regroup);

/* Make the centroids what their records will decode to; carrying out does it where nobody has. */
extern void spf_regroup_encode(SpfRegroup *regroup);

/*
 * Steps 2 to 6, with the parts chosen; false if a part could not be locked: nothing happened.
 * Entries and postings that came and went are counted in *done.
 */
extern bool spf_regroup_carry_out(SpfRegroup *regroup, SpfCounters *done);

/*
 * After it was carried out: add to the counters, and list what is due now: the parts' neighbours, and in the end to free
 * the old postings.
 */
extern void spf_regroup_note(SpfRegroup *regroup, const SpfCounters *delta);

/* Let the old posting grow to so many entries before a split is tried again. */
extern void spf_regroup_postpone(SpfRegroup *regroup, uint32 split_at);

#endif							/* SPF_REGROUP_H */
