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
	int			nprobe;
	int			rounds;
	uint64		emitted;
	SpfWork		work;
} SpfLastScan;

extern SpfLastScan spf_last_scan;

/* limit.c: the LIMIT above a scan of this index in the running plan; 0 if there is none. */
extern void spf_limit_init(void);
extern double spf_limit_of(Oid index);

/*
 * calibrate.c: probes for a target and a k, from the calibration or, without one, a
 * cautious guess.
 */
extern int	spf_choose_nprobe(const SpfMeta *meta, double target, double k);

#endif							/* SPF_SCAN_H */
