/*-------------------------------------------------------------------------
 *
 * explain.h
 *	  What a search did, in EXPLAIN (ANALYZE, BUFFERS).
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_EXPLAIN_H
#define SPF_EXPLAIN_H

/* _PG_init: where EXPLAIN can be told to say more. */
extern void spf_explain_init(void);

#endif							/* SPF_EXPLAIN_H */
