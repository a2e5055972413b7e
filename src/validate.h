/*-------------------------------------------------------------------------
 *
 * validate.h
 *	  Checking operator classes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_VALIDATE_H
#define SPF_VALIDATE_H

#include "postgres.h"

/* amvalidate */
extern bool spf_validate(Oid opclass);

#endif							/* SPF_VALIDATE_H */
