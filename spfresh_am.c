/*-------------------------------------------------------------------------
 *
 * spfresh_am.c
 *	  The front door: handler, storage parameters, settings.
 *
 * Who follows a row in: src/insert.c, src/place.c, src/split.c; many rows: src/build.c;
 * a query: src/scan.c, src/route.c.  docs/architecture.md tells the whole.
 *
 *-------------------------------------------------------------------------
 */
#include "src/compat.h"

#include <float.h>

#include "commands/progress.h"
#include "utils/guc.h"

#include "src/above.h"
#include "src/build.h"
#include "src/cost.h"
#include "src/explain.h"
#include "src/fault.h"
#include "src/given.h"
#include "src/insert.h"
#include "src/io.h"
#include "src/junk.h"
#include "src/memo.h"
#include "src/rebalance.h"
#include "src/scan.h"
#include "src/vacuum.h"
#include "src/validate.h"
#include "src/worker.h"

PG_MODULE_MAGIC;

int			spf_setting_nprobe;
double		spf_setting_target_recall = 0.95;
int			spf_setting_iterative_scan = SPF_ITERATIVE_STRICT;
int			spf_setting_max_scan_tuples;
int			spf_setting_expected_rows = 10;
bool		spf_setting_rerank = true;
double		spf_setting_latency_budget;
int			spf_setting_page_limit;
int			spf_setting_max_probe_pages;
static char *setting_simd;

static relopt_kind options_kind;

static const struct config_enum_entry iterative_values[] = {
	{"off", SPF_ITERATIVE_OFF, false},
	{"strict_order", SPF_ITERATIVE_STRICT, false},
	{"relaxed_order", SPF_ITERATIVE_RELAXED, false},
	{NULL, 0, false}
};

static const struct config_enum_entry rebalance_values[] = {
	{"background", SPF_REBALANCE_BACKGROUND, false},
	{"inline", SPF_REBALANCE_INLINE, false},
	{"vacuum", SPF_REBALANCE_VACUUM, false},
	{NULL, 0, false}
};

static bool
check_simd(char **value, void **extra, GucSource source)
{
	if (strcmp(*value, "auto") == 0)
		return true;
	for (int i = 0; spf_all_kernels[i] != NULL; i++)
	{
		if (strcmp(*value, spf_all_kernels[i]->name) == 0)
		{
			if (spf_all_kernels[i]->supported())
				return true;
			GUC_check_errdetail("This processor does not support \"%s\".", *value);
			return false;
		}
	}
	GUC_check_errdetail("There are no such kernels.");
	GUC_check_errhint("Use auto, avx512, avx2, sse, neon or portable.");
	return false;
}

static void
assign_simd(const char *value, void *extra)
{
	spf_kernels_select(value);
}

static const char *
show_simd(void)
{
	return spf_kernels->name;
}

static void
define_settings(void)
{
	DefineCustomRealVariable("spfresh.target_recall",
							 "Recall that searches aim at.",
							 "The number of postings probed follows from it, by the index's calibration.",
							 &spf_setting_target_recall, 0.95, 0.5, 0.999,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("spfresh.nprobe",
							"Postings to probe; 0 lets spfresh.target_recall decide.",
							NULL, &spf_setting_nprobe, 0, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("spfresh.iterative_scan",
							 "What happens when more rows are wanted than a search was made for.",
							 NULL, &spf_setting_iterative_scan,
							 SPF_ITERATIVE_STRICT, iterative_values,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("spfresh.max_scan_tuples",
							"Rows that a search looks at, at most; 0: no bound.",
							NULL, &spf_setting_max_scan_tuples, 0, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("spfresh.expected_rows",
							"Rows that a search without a LIMIT is made for.",
							NULL, &spf_setting_expected_rows, 10, 1, 1000000,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("spfresh.rerank",
							 "Order by exact distances, read from the table's rows.",
							 "Without it, order is by the index's own 8-bit vectors.",
							 &spf_setting_rerank, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("spfresh.latency_budget_ms",
							 "Time after which a search gives what it has found; 0: no bound.",
							 "Milliseconds, and parts of them.",
							 &spf_setting_latency_budget, 0, 0, 3600000,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("spfresh.page_limit",
							"Pages to read of one posting; 0: all of them.",
							NULL, &spf_setting_page_limit, 0, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("spfresh.max_probe_pages",
							"Pages of postings that a search may read altogether; 0: no bound.",
							NULL, &spf_setting_max_probe_pages, 0, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("spfresh.centroid_memory",
							"Memory in which a session keeps centroids of indexes that it searched.",
							"Searches find their way without reading the centroids' pages again.",
							&spf_setting_centroid_memory, 16 * 1024, 0, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomEnumVariable("spfresh.io",
							 "How pages are read ahead.",
							 NULL, &spf_setting_io, SPF_IO_AUTO, spf_io_values,
							 PGC_USERSET, 0, spf_io_check, NULL, NULL);
	DefineCustomEnumVariable("spfresh.rebalance",
							 "Who reassigns, merges and reclusters after insertions and deletions.",
							 "background: a worker, or else vacuum; inline: whoever inserts; vacuum: vacuum only.",
							 &spf_setting_rebalance,
							 SPF_REBALANCE_BACKGROUND, rebalance_values,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("spfresh.max_workers",
							"Background workers of spfresh in the server; 0: none.",
							NULL, &spf_setting_max_workers, 2, 0, 1024,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("spfresh.naptime",
							"Time between two looks at all databases, where the library is preloaded.",
							NULL, &spf_setting_naptime, 60, 1, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("spfresh.simd",
							   "Instruction set of the inner loops; shows the one in use.",
							   NULL, &setting_simd, "auto",
							   PGC_USERSET, 0, check_simd, assign_simd, show_simd);
}

static void
define_options(void)
{
	options_kind = add_reloption_kind();
	add_int_reloption(options_kind, "replicas", "Postings that each vector is entered into",
					  2, 1, 8, AccessExclusiveLock);
	add_int_reloption(options_kind, "code_bits", "Bits for each dimension of an entry, 0: chosen",
					  0, 0, SPF_MAX_BITS, AccessExclusiveLock);
	add_int_reloption(options_kind, "split_limit", "Entries above which a posting is split, 0: chosen",
					  0, 0, 10000, AccessExclusiveLock);
	add_int_reloption(options_kind, "merge_limit",
					  "Entries below which a posting is merged, 0: chosen",
					  0, 0, 10000, AccessExclusiveLock);
	add_int_reloption(options_kind, "reassign_range",
					  "Postings around a split whose vectors are looked at",
					  16, 0, 1000, AccessExclusiveLock);
	add_int_reloption(options_kind, "initial_postings", "Postings to build, 0: chosen",
					  0, 0, 100000000, AccessExclusiveLock);
	add_int_reloption(options_kind, "fillfactor", "Share of record pages to fill; the rest is for new versions of rows",
					  90, 50, 100, AccessExclusiveLock);
	add_string_reloption(options_kind, "centroids",
						 "Table that has the centroids to build with, as schema.table",
						 NULL, spf_given_validate, AccessExclusiveLock);
}

static bytea *
options(Datum reloptions, bool validate)
{
	static const relopt_parse_elt elements[] = {
		{"replicas", RELOPT_TYPE_INT, offsetof(SpfOptions, replicas)},
		{"code_bits", RELOPT_TYPE_INT, offsetof(SpfOptions, code_bits)},
		{"split_limit", RELOPT_TYPE_INT, offsetof(SpfOptions, split_limit)},
		{"merge_limit", RELOPT_TYPE_INT, offsetof(SpfOptions, merge_limit)},
		{"reassign_range", RELOPT_TYPE_INT, offsetof(SpfOptions, reassign_range)},
		{"initial_postings", RELOPT_TYPE_INT, offsetof(SpfOptions, initial_postings)},
		{"fillfactor", RELOPT_TYPE_INT, offsetof(SpfOptions, fillfactor)},
		{"centroids", RELOPT_TYPE_STRING, offsetof(SpfOptions, centroids)},
	};

	return (bytea *) build_reloptions(reloptions, validate, options_kind, sizeof(SpfOptions),
									  elements, lengthof(elements));
}

const SpfOptions *
spf_options(Relation rel)
{
	static const SpfOptions defaults = {.replicas = 2,.reassign_range = 16,.fillfactor = 90};

	return rel->rd_options ? (const SpfOptions *) rel->rd_options : &defaults;
}

static char *
phase_name(int64 phase)
{
	switch (phase)
	{
		case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
			return "initializing";
		case SPF_PHASE_SAMPLE:
			return "sampling rows";
		case SPF_PHASE_TRAIN:
			return "training centroids";
		case SPF_PHASE_ASSIGN:
			return "assigning rows";
		case SPF_PHASE_RECORDS:
			return "writing records";
		case SPF_PHASE_POSTINGS:
			return "writing postings";
		case SPF_PHASE_LEVELS:
			return "building upper levels";
		case SPF_PHASE_CALIBRATE:
			return "calibrating";
		case SPF_PHASE_LOG:
			return "logging pages";
		case SPF_PHASE_REBALANCE:
			return "rebalancing";
		default:
			return NULL;
	}
}

PG_FUNCTION_INFO_V1(spfresh_handler);
Datum
spfresh_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = makeNode(IndexAmRoutine);

	am->amstrategies = 0;
	am->amsupport = SPF_NUM_PROCS;
	am->amcanorderbyop = true;
	am->amoptionalkey = true;
	am->amusemaintenanceworkmem = true;
	am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL;
	am->amkeytype = InvalidOid;
	spf_can_build_parallel(am);

	am->ambuild = spf_build;
	am->ambuildempty = spf_build_empty;
	am->aminsert = spf_insert;
	am->ambulkdelete = spf_bulk_delete;
	am->amvacuumcleanup = spf_vacuum_cleanup;
	am->amcostestimate = spf_cost_estimate;
	am->amoptions = options;
	am->ambuildphasename = phase_name;
	am->amvalidate = spf_validate;
	am->ambeginscan = spf_begin_scan;
	am->amrescan = spf_rescan;
	am->amgettuple = spf_get_tuple;
	am->amendscan = spf_end_scan;
	PG_RETURN_POINTER(am);
}

void		_PG_init(void);

void
_PG_init(void)
{
	define_settings();
	define_options();
	spf_above_init();
	spf_junk_init();
	spf_explain_init();
	spf_memo_init();
	spf_fault_init();
	spf_worker_init();
	MarkGUCPrefixReserved("spfresh");
}
