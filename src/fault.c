/*-------------------------------------------------------------------------
 *
 * fault.c
 *	  Points at which tests let a backend die, or fail.  See fault.h.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "fault.h"

#ifdef USE_ASSERT_CHECKING

#include <signal.h>

#include "access/xlog.h"
#include "utils/guc.h"

static char *setting_fault_point;
static int	passed;				/* how many times, since it was set */

static void
assign_fault_point(const char *value, void *extra)
{
	passed = 0;
}

void
spf_fault_init(void)
{
	DefineCustomStringVariable("spfresh.fault_point",
							   "Point at which the backend is to be killed, for tests.",
							   "As name[:passes before[:kill or error]].",
							   &setting_fault_point, "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE, NULL, assign_fault_point, NULL);
}

void
spf_fault_point(const char *name)
{
	size_t		length = strlen(name);
	const char *rest;
	int			skip = 0;

	if (setting_fault_point[0] == '\0' ||
		strncmp(setting_fault_point, name, length) != 0 ||
		(setting_fault_point[length] != '\0' && setting_fault_point[length] != ':'))
		return;
	rest = setting_fault_point + length;
	if (*rest == ':')
		skip = strtol(rest + 1, (char **) &rest, 10);
	if (passed++ != skip)
		return;
	if (strcmp(rest, ":error") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("fault point \"%s\" was reached", name)));

	/* what has been logged is to be replayed */
	XLogFlush(XactLastRecEnd);
	kill(MyProcPid, SIGKILL);
	pg_usleep(10 * 1000000L);
}

void
spf_fault_point_of(const char *of, int level, const char *step)
{
	char		name[64];

	snprintf(name, sizeof(name), "%s %d %s", of, level, step);
	spf_fault_point(name);
}

#endif							/* USE_ASSERT_CHECKING */
