/*-------------------------------------------------------------------------
 *
 * piles.h
 *	  Items of one size in numbered piles, in temporary files, under temp_file_limit.
 *
 * Several processes fill them, each its part of every pile; then whoever likes reads a whole
 * pile, as often as needed.  A file takes a page of memory while it is written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_PILES_H
#define SPF_PILES_H

#include "postgres.h"

#include "storage/sharedfileset.h"

/* More would be too many files at a time. */
#define SPF_MOST_PILES	256

typedef struct SpfPiles SpfPiles;

typedef struct SpfPilesPlan
{
	const char *name;
	Size		item_size;
	SharedFileSet *files;		/* NULL: there is only one process */
	int			me;
	int			members;
	int			piles;			/* at most SPF_MOST_PILES */
} SpfPilesPlan;

extern SpfPiles *spf_piles_begin(const SpfPilesPlan *plan);
extern void spf_piles_put(SpfPiles *piles, int pile, const void *item);

/* One has put what he had; when all have, the piles can be read. */
extern void spf_piles_close(SpfPiles *piles);

/* Read one pile after the other: from its first item, the next one (false: no more). */
extern void spf_pile_open(SpfPiles *piles, int pile);
extern bool spf_pile_next(SpfPiles *piles, void *item);

/* Nobody needs it any more. */
extern void spf_pile_drop(SpfPiles *piles, int pile);
extern void spf_piles_end(SpfPiles *piles);

#endif							/* SPF_PILES_H */
