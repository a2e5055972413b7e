/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *	  Which set of kernels is in use.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "sets.h"

const SpfKernels *const spf_all_kernels[] = {
#ifdef SPF_X86
	&spf_kernels_avx512,
	&spf_kernels_avx2,
	&spf_kernels_sse,
#endif
#ifdef SPF_NEON
	&spf_kernels_neon,
#endif
	&spf_kernels_portable,
	NULL
};

/* Never NULL, not even before the constructor below has run. */
const SpfKernels *spf_kernels = &spf_kernels_portable;

bool
spf_kernels_select(const char *name)
{
	for (int i = 0; spf_all_kernels[i] != NULL; i++)
	{
		const SpfKernels *set = spf_all_kernels[i];

		if (strcmp(name, "auto") != 0 && strcmp(name, set->name) != 0)
			continue;
		if (set->supported())
		{
			spf_kernels = set;
			return true;
		}
	}
	return false;
}

/* At load, so that nobody has to think of it. */
__attribute__((constructor))
static void
choose_at_load(void)
{
	(void) spf_kernels_select("auto");
}
