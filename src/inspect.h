/*-------------------------------------------------------------------------
 *
 * inspect.h
 *	  Opening an index for the functions that look at it from SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_INSPECT_H
#define SPF_INSPECT_H

#include "postgres.h"

#include "fmgr.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"

/* Who may */
typedef enum SpfInspectRight
{
	SPF_RIGHT_LOOK,				/* the owner, and pg_stat_scan_tables */
	SPF_RIGHT_MAINTAIN			/* the owner */
} SpfInspectRight;

/*
 * Open a spfresh index and its table, both locked; raises for whatever else
 * that is, and for indexes that cannot be read or relied on now.
 */
extern Relation spf_inspect_open(Oid relid, SpfInspectRight right, LOCKMODE lockmode,
								 Relation *heap);
extern void spf_inspect_close(Relation rel, Relation heap, LOCKMODE lockmode);

/* A function's row of OUT parameters. */
extern Datum spf_inspect_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls, int n);

/*
 * From here on code of users (expressions of indexes) runs as the table's owner and
 * cannot do harm, as in maintenance commands.
 */
typedef struct SpfOwnerContext
{
	Oid			user;
	int			security;
	int			guc_level;
} SpfOwnerContext;

extern void spf_become_owner(Relation heap, SpfOwnerContext *saved);
extern void spf_become_self(const SpfOwnerContext *saved);

#endif							/* SPF_INSPECT_H */
