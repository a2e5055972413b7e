/*-------------------------------------------------------------------------
 *
 * above.h
 *	  What the running plan wants of a scan: its LIMIT, filter and radius.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_ABOVE_H
#define SPF_ABOVE_H

#include "postgres.h"

#include "access/genam.h"
#include "nodes/execnodes.h"

/* What stands above a scan; found once, asked anew at each rescan. */
typedef struct SpfAbove
{
	IndexScanState *node;		/* the scan's own; NULL: it was not found */
	LimitState *limit;			/* rows of the scan come to it; or NULL */
	bool		lossless;		/* and all of them do */
	ExprContext *econtext;		/* to evaluate the node's expressions in; or NULL */
	bool		filters;		/* the node has conditions that may be evaluated twice */
	double		share;			/* of the rows that the planner expects to pass them */
	ExprState  *radius;			/* rows at this distance or beyond are not wanted; or NULL */
} SpfAbove;

/* _PG_init */
extern void spf_above_init(void);

extern void spf_above_find(SpfAbove *above, IndexScanDesc desc);
extern void spf_above_forget(SpfAbove *above);

/* LIMIT and OFFSET together, where all rows come to it; 0 if there is none, or it is not known. */
extern double spf_above_limit(const SpfAbove *above);

/* Likewise where some may be lost on their way: no more than a hint. */
extern double spf_above_wants(const SpfAbove *above);

/* The distance, as the operator has it, from which on rows are not wanted; INFINITY. */
extern double spf_above_radius(const SpfAbove *above);

/* Does a row pass the node's conditions? */
extern bool spf_above_passes(const SpfAbove *above, TupleTableSlot *slot);

/* One did not, and the node will not see it: let EXPLAIN know. */
extern void spf_above_count_filtered(const SpfAbove *above);

#endif							/* SPF_ABOVE_H */
