/*-------------------------------------------------------------------------
 *
 * io.h
 *	  Reading ahead: pages that a search is about to read, all at once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_IO_H
#define SPF_IO_H

#include "postgres.h"

#include "storage/block.h"
#include "utils/guc.h"
#include "utils/rel.h"

/* spfresh.io */
typedef enum SpfIoMode
{
	SPF_IO_AUTO,
	SPF_IO_SYNC,
	SPF_IO_POSIX,
	SPF_IO_URING,
	SPF_IO_STREAM
} SpfIoMode;

extern int	spf_setting_io;
extern const struct config_enum_entry spf_io_values[];
extern bool spf_io_check(int *value, void **extra, GucSource source);

/* At most so many blocks at a time. */
#define SPF_IO_WINDOW		32

/*
 * These blocks will be read soon: see to it that the waiting for all of them is done at once.  Nothing happens
 * where they are in shared buffers already, or do not exist.
 */
extern void spf_io_ahead(Relation rel, const BlockNumber *blocks, int nblocks);

#endif							/* SPF_IO_H */
