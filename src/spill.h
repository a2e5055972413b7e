/*-------------------------------------------------------------------------
 *
 * spill.h
 *	  Items sorted by two numbers, or kept in order, within bounded memory.
 *
 * What outgrows its share of memory goes to temporary files, under temp_file_limit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_SPILL_H
#define SPF_SPILL_H

#include "postgres.h"

#include "storage/sharedfileset.h"

typedef struct SpfSort SpfSort;

/* A sort of items of one size by (major, minor), in about `kilobytes` of memory. */
extern SpfSort *spf_sort_begin(Size item_size, int kilobytes);
extern void spf_sort_put(SpfSort *sort, int32 major, int32 minor, const void *data);
extern void spf_sort_perform(SpfSort *sort);

/* The next item, valid until the next call; NULL at the end. */
extern const void *spf_sort_next(SpfSort *sort, int32 *major, int32 *minor);
extern void spf_sort_end(SpfSort *sort);

/* A sort that several processes fill, and then read, bucket by bucket. */
typedef struct SpfSpread SpfSpread;

typedef struct SpfSpreadPlan
{
	const char *name;			/* each spread of a build has its own */
	Size		item_size;
	int			kilobytes;		/* for sorting a bucket */
	SharedFileSet *files;		/* NULL: there is only one process */
	int			me;
	int			members;
	int			buckets;
	int64		majors;			/* majors are 0 .. majors - 1 */
} SpfSpreadPlan;

/* Buckets for so many bytes, that each may fit the memory for sorting it. */
extern int	spf_spread_buckets(double bytes, int kilobytes, int members);

extern SpfSpread *spf_spread_begin(const SpfSpreadPlan *plan);
extern void spf_spread_put(SpfSpread *spread, int32 major, int32 minor, const void *data);

/* Everyone has put what he had, and closes; then each bucket can be read, once, by whomever. */
extern void spf_spread_close(SpfSpread *spread);
extern int	spf_spread_count(const SpfSpread *spread);
extern SpfSort *spf_spread_sort(SpfSpread *spread, int bucket);
extern void spf_spread_end(SpfSpread *spread);

/* A list of items of one size, written once, read any number of times. */
typedef struct SpfList SpfList;

extern SpfList *spf_list_begin(Size item_size);
extern void spf_list_put(SpfList *list, const void *item);
extern int64 spf_list_count(const SpfList *list);
extern void spf_list_rewind(SpfList *list);
extern bool spf_list_next(SpfList *list, void *item);
extern void spf_list_end(SpfList *list);

#endif							/* SPF_SPILL_H */
