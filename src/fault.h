/*-------------------------------------------------------------------------
 *
 * fault.h
 *	  Points at which tests let a backend die, or fail.
 *
 * In builds with assertions only; in others nothing is left of them.  The setting
 * spfresh.fault_point names a point, and may say how many times it is passed before it strikes
 * (default 0) and how: "switched over", "switched over:3", "switched over:0:error".
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_FAULT_H
#define SPF_FAULT_H

#ifdef USE_ASSERT_CHECKING
extern void spf_fault_point(const char *name);

/* "<of> <level>: <step>" without the colon, such as "split 0 switched over" */
extern void spf_fault_point_of(const char *of, int level, const char *step);
extern void spf_fault_init(void);
#else
#define spf_fault_point(name)	((void) 0)
#define spf_fault_point_of(of, level, step)	((void) 0)
#define spf_fault_init()		((void) 0)
#endif

#endif							/* SPF_FAULT_H */
