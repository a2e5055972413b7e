/*-------------------------------------------------------------------------
 *
 * cost.c
 *	  What the planner is told.
 *
 * The first row costs the descent, the probes, and the reading of some
 * records; every further row a record more.  Under a LIMIT a filter makes the
 * search larger from its beginning on, for so many more rows have to be looked at.
 * The planner itself adds the reading of rows, and takes the share of all that a
 * LIMIT leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "optimizer/optimizer.h"
#include "utils/float.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"

#include "cost.h"
#include "effort.h"
#include "meta.h"
#include "scan.h"

/*
 * Index pages are read again and again by all queries: as with the inner pages of a
 * btree, most of them are taken to be cached.
 */
#define CACHED_SHARE		0.8

/* Scanning an entry is some hundred times cheaper than calling an operator. */
#define ENTRIES_PER_OPERATOR	64

/*
 * Of the rows that a search expects to look at for its LIMIT, every second time too few pass the
 * filter, and it goes on with a larger round.
 */
#define FILTERED_ROWS		2

/* The rows that a search is made for. */
static double
rows_looked_at(const PlannerInfo *root, const IndexPath *path, double rows)
{
	double		share = path->path.parent->rows / rows;

	if (root->limit_tuples <= 0)
		return spf_setting_expected_rows;
	if (share >= 1)
		return root->limit_tuples;
	return Min(rows, FILTERED_ROWS * root->limit_tuples / Max(share, 1 / rows));
}

void
spf_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count,
				  Cost *startup, Cost *total, Selectivity *selectivity,
				  double *correlation, double *pages)
{
	double		rows = Max(path->indexinfo->tuples, 1);
	double		k = rows_looked_at(root, path, rows);
	double		page_cost;
	double		probes;
	double		record_cost;
	Relation	rel;
	SpfMeta		meta;

	*selectivity = 1;
	*correlation = 0;
	*pages = path->indexinfo->pages;
	if (path->indexorderbys == NIL)
	{
		/* without an order there is nothing that this index could do */
		spf_disable_path(&path->path);
		*startup = get_float8_infinity();
		*total = get_float8_infinity();
		return;
	}

	rel = index_open(path->indexinfo->indexoid, NoLock);
	spf_meta_read(rel, &meta);
	index_close(rel, NoLock);

	get_tablespace_page_costs(path->indexinfo->reltablespace, &page_cost, NULL);
	page_cost *= 1 - CACHED_SHARE;
	probes = spf_setting_nprobe > 0 ? spf_setting_nprobe :
		spf_choose_nprobe(&meta, spf_setting_target_recall, k);
	probes = Min(probes, Max(1, (double) meta.counters.postings[0]));
	record_cost = page_cost + 2 * cpu_operator_cost;

	*startup = meta.root_level * (SPF_MIN_BEAM + probes / SPF_BEAM_SHARE) * page_cost +
		probes * (page_cost + meta.split_limit * cpu_operator_cost / ENTRIES_PER_OPERATOR) +
		(probes + 4 * k) * record_cost / 4;
	*total = *startup + rows * record_cost;
}
