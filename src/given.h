/*-------------------------------------------------------------------------
 *
 * given.h
 *	  Building with centroids that were trained elsewhere.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_GIVEN_H
#define SPF_GIVEN_H

/* Raises unless the value of the storage parameter "centroids" is a qualified name, or NULL. */
extern void spf_given_validate(const char *value);

#endif							/* SPF_GIVEN_H */
