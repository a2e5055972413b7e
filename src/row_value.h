/*-------------------------------------------------------------------------
 *
 * row_value.h
 *	  Values that lie in a table's TOAST, fetched fast.
 *
 * A wide vector is kept outside its row, in pieces.  PostgreSQL's way to fetch one opens two relations and goes
 * through an index for each value, which takes longer than all the rest that a query does with a row.  A reader
 * keeps them open for many values, and a backend remembers where it found a value's pieces.
 *
 * A reader may be left to an error: nothing of it outlives the transaction, or the context it was made in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_ROW_VALUE_H
#define SPF_ROW_VALUE_H

#include "postgres.h"

typedef struct SpfValueReader SpfValueReader;

/* In the current memory context; nothing is opened before there is a value to fetch. */
extern SpfValueReader *spf_value_reader_make(void);

/*
 * The value of a row: itself, unless it lies in TOAST uncompressed; then a copy that is valid until the next
 * call.  (Of any other kind it is returned as it came: whoever uses it detoasts it in the usual way.)  The row must be
 * visible to an active snapshot.
 */
extern Datum spf_value_read(SpfValueReader *reader, Datum value);

/*
 * Such a value will be read soon: have what is known of its place fetched into the processor's caches, first the
 * page, and when that had time to arrive, the pieces.
 */
extern void spf_value_announce_page(SpfValueReader *reader, Datum value);
extern void spf_value_announce(SpfValueReader *reader, Datum value);

/* Close what is open.  The reader may be used again. */
extern void spf_value_reader_close(SpfValueReader *reader);

#endif							/* SPF_ROW_VALUE_H */
