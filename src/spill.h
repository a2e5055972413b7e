/*-------------------------------------------------------------------------
 *
 * spill.h
 *	  Items sorted by two numbers, or kept in order, within bounded memory.
 *
 * A sort is PostgreSQL's tuplesort, a list its BufFile: both go to temporary files
 * (under temp_file_limit) when they outgrow their share of memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_SPILL_H
#define SPF_SPILL_H

#include "postgres.h"

typedef struct SpfSort SpfSort;

/* A sort of items by (major, minor), in about `kilobytes` of memory. */
extern SpfSort *spf_sort_begin(int kilobytes);
extern void spf_sort_put(SpfSort *sort, int32 major, int32 minor, const void *data, Size length);
extern void spf_sort_perform(SpfSort *sort);

/* The next item, valid until the next call; NULL at the end. */
extern const void *spf_sort_next(SpfSort *sort, int32 *major, int32 *minor, Size *length);
extern void spf_sort_end(SpfSort *sort);

/* A list of items of one size, written once, read any number of times. */
typedef struct SpfList SpfList;

extern SpfList *spf_list_begin(Size item_size);
extern void spf_list_put(SpfList *list, const void *item);
extern int64 spf_list_count(const SpfList *list);
extern void spf_list_rewind(SpfList *list);
extern bool spf_list_next(SpfList *list, void *item);
extern void spf_list_end(SpfList *list);

#endif							/* SPF_SPILL_H */
