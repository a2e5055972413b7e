/*-------------------------------------------------------------------------
 *
 * build.h
 *	  CREATE INDEX and REINDEX.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_BUILD_H
#define SPF_BUILD_H

#include "postgres.h"

#include "access/amapi.h"

/* Phases in pg_stat_progress_create_index; 1 is PostgreSQL's "initializing". */
#define SPF_PHASE_SAMPLE	2
#define SPF_PHASE_TRAIN		3
#define SPF_PHASE_ASSIGN	4
#define SPF_PHASE_RECORDS	5
#define SPF_PHASE_POSTINGS	6
#define SPF_PHASE_LEVELS	7
#define SPF_PHASE_CALIBRATE	8
#define SPF_PHASE_LOG		9
#define SPF_PHASE_REBALANCE	10	/* of spfresh_rebalance() */

/* ambuild and ambuildempty */
extern IndexBuildResult *spf_build(Relation heap, Relation rel, IndexInfo *info);
extern void spf_build_empty(Relation rel);

#endif							/* SPF_BUILD_H */
