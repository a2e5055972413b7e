/*-------------------------------------------------------------------------
 *
 * block_match.c
 *	  Which entries of a block have given numbers.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <string.h>

#include "code.h"

/* The last bits of sums differ between instruction sets. */
#define SLACK	1e-5f

static int
close_to(float a, float b)
{
	return fabsf(a - b) <= SLACK * (fabsf(a) + fabsf(b));
}

uint32_t
spf_block_match(const SpfShape *shape, const uint8_t *block, int used,
				const SpfEntryNumbers *numbers)
{
	const uint8_t *adds = block + shape->codes_bytes;
	const uint8_t *muls = adds + 4 * shape->lanes;
	uint32_t	mask = 0;

	for (int i = 0; i < used; i++)
	{
		float		add;
		float		mul;

		memcpy(&add, adds + 4 * i, 4);
		memcpy(&mul, muls + 4 * i, 4);
		if (close_to(add, numbers->add) && close_to(mul, numbers->mul))
			mask |= UINT32_C(1) << i;
	}
	return mask;
}
