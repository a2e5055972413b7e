/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  Background workers that rebalance indexes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_WORKER_H
#define SPF_WORKER_H

#include "postgres.h"

#include "index.h"

extern int	spf_setting_max_workers;
extern int	spf_setting_naptime;

/*
 * Have a worker look at the index, unless one is at it.  False where none can be had: then the work
 * stays for vacuum.
 */
extern bool spf_worker_request(SpfIndex *index);

/* With shared_preload_libraries: register the launcher. */
extern void spf_worker_init(void);

#endif							/* SPF_WORKER_H */
