/*-------------------------------------------------------------------------
 *
 * row.h
 *	  Rows of the table: does the scan see them, do they pass, and how far are they?
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_ROW_H
#define SPF_ROW_H

#include "postgres.h"

#include "access/relscan.h"

#include "above.h"
#include "index.h"

/* A row whose distance is known. */
typedef struct SpfRow
{
	ItemPointerData tid;
	bool		passes;			/* the conditions of the plan's node */
	double		distance;
} SpfRow;

/* A scan's own view of its table; it outlives rescans. */
typedef struct SpfRowReader SpfRowReader;

/* In the current memory context; `above` is the scan's, and may be found later. */
extern SpfRowReader *spf_row_reader_make(IndexScanDesc desc, const SpfIndex *index,
										 const SpfAbove *above);

/* From now on distances are from here; without a query they are 0. */
extern void spf_row_reader_ask(SpfRowReader *reader, Datum query, bool any_order);

/*
 * Read rows[n] at their addresses, the later ones being announced to the processor while earlier ones are
 * read.  Those that the snapshot does not see, or that have no value, are left out; returns how many remain.
 * Rows that do not pass keep the distance that they came with.
 */
#define SPF_ROW_BATCH	32

extern int	spf_rows_read(SpfRowReader *reader, SpfRow *rows, int n);

/* Let go of the page that was read last; and of everything. */
extern void spf_row_reader_reset(SpfRowReader *reader);
extern void spf_row_reader_end(SpfRowReader *reader);

/*
 * Spare a fetch of a row the way through the shared buffer table, where its page was met before.
 * True if the fetch has it now, and had not.
 */
extern bool spf_row_lend_page(Relation table, IndexFetchTableData *fetch, BlockNumber block);

#endif							/* SPF_ROW_H */
