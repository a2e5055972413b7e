/*-------------------------------------------------------------------------
 *
 * scan.h
 *	  A query goes through: the index scan.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_SCAN_H
#define SPF_SCAN_H

#include "postgres.h"

#include "access/genam.h"
#include "access/sdir.h"

#include "effort.h"
#include "route.h"

/* spfresh.iterative_scan */
typedef enum SpfIterative
{
	SPF_ITERATIVE_OFF,
	SPF_ITERATIVE_STRICT,
	SPF_ITERATIVE_RELAXED
} SpfIterative;

/* settings, defined in spfresh_am.c */
extern int	spf_setting_nprobe;
extern double spf_setting_target_recall;
extern int	spf_setting_iterative_scan;
extern int	spf_setting_max_scan_tuples;
extern int	spf_setting_expected_rows;
extern bool spf_setting_rerank;
extern double spf_setting_latency_budget;
extern int	spf_setting_page_limit;
extern int	spf_setting_max_probe_pages;

extern IndexScanDesc spf_begin_scan(Relation rel, int nkeys, int norderbys);
extern void spf_rescan(IndexScanDesc scan, ScanKey keys, int nkeys,
					   ScanKey orderbys, int norderbys);
extern bool spf_get_tuple(IndexScanDesc scan, ScanDirection direction);
extern void spf_end_scan(IndexScanDesc scan);

/* What the last scan of this session did (spfresh_last_scan). */
typedef struct SpfLastScan
{
	bool		valid;
	Oid			index;
	int			nprobe;			/* postings that were found worth probing */
	int			rounds;
	uint64		emitted;
	SpfStop		stop;
	SpfWork		work;
} SpfLastScan;

extern SpfLastScan spf_last_scan;

/* What a scan has done so far, all its loops together; false if it is none of ours, or did nothing. */
extern bool spf_scan_report(IndexScanDesc desc, SpfLastScan *did);

#endif							/* SPF_SCAN_H */
