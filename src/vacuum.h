/*-------------------------------------------------------------------------
 *
 * vacuum.h
 *	  VACUUM: dead rows go, their entries are swept, pages are used again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_VACUUM_H
#define SPF_VACUUM_H

#include "postgres.h"

#include "access/genam.h"

/* ambulkdelete and amvacuumcleanup */
extern IndexBulkDeleteResult *spf_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
											  IndexBulkDeleteCallback callback, void *state);
extern IndexBulkDeleteResult *spf_vacuum_cleanup(IndexVacuumInfo *info,
												 IndexBulkDeleteResult *stats);

#endif							/* SPF_VACUUM_H */
