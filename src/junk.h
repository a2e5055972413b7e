/*-------------------------------------------------------------------------
 *
 * junk.h
 *	  The distance that a plan computes for nobody.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_JUNK_H
#define SPF_JUNK_H

/* _PG_init: from now on plans do without it. */
extern void spf_junk_init(void);

#endif							/* SPF_JUNK_H */
