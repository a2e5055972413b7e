/*-------------------------------------------------------------------------
 *
 * meet.h
 *	  Vectors of 8 bits meet sixteen rows of 7 bits (SpfKernels.meet), for any set.
 *
 * Included inside a region compiled for an instruction set, with
 *
 *	MEET			the function's name
 *	VI				a vector of FLOATS 32-bit integers
 *	vi_load(p)		FLOATS groups of 4 bytes
 *	vi_set1(p)		4 bytes at p, repeated
 *	MEET_DOT4(sum, a, b)
 *					sum + the dot products of 4 bytes each, unsigned under 128 by signed
 *	vi_floats		integers to floats
 *
 * beside the primitives of vector.h.  As many vectors as there are chains of additions
 * in flight share each load of the rows.
 *
 *-------------------------------------------------------------------------
 */
#define MEET_NAME2(a, b)	a##_##b
#define MEET_NAME1(a, b)	MEET_NAME2(a, b)
#define MEET_SOME			MEET_NAME1(MEET, some)

static inline __attribute__((always_inline)) void
MEET_SOME(const SpfRows16 *rows, int n, const SpfMeeting *x, int many, uint32_t *below)
{
	for (int k = 0; k < many; k++)
		below[k] = 0;
	for (int part = 0; part < 16; part += FLOATS)
	{
		const uint8_t *code = rows->codes + part * 4;
		VI			sum[SPF_MEET];
		VF			norm2 = vf_load(rows->norm2 + part);
		VF			scale = vf_load(rows->scale + part);

		for (int k = 0; k < many; k++)
			sum[k] = vi_zero();
		for (int i = 0; i < n; i += 4, code += 64)
		{
			VI			row = vi_load(code);

			for (int k = 0; k < many; k++)
				sum[k] = MEET_DOT4(sum[k], row, vi_set1(x[k].code + i));
		}
		for (int k = 0; k < many; k++)
		{
			VF			product = (vi_floats(sum[k]) - vf_set1(x[k].bias)) * scale;
			VF			out = norm2 - vf_set1(x[k].twice) * product;

			vf_store(x[k].out + part, out);
			below[k] |= vf_less(out, vf_set1(x[k].bar)) << part;
		}
	}
}

static void
MEET(const SpfRows16 *rows, int n, const SpfMeeting *x, int nx, uint32_t *below)
{
	for (; nx >= SPF_MEET; nx -= SPF_MEET, x += SPF_MEET, below += SPF_MEET)
		MEET_SOME(rows, n, x, SPF_MEET, below);
	if (nx >= 4)
	{
		MEET_SOME(rows, n, x, 4, below);
		nx -= 4, x += 4, below += 4;
	}
	for (; nx > 0; nx--, x++, below++)
		MEET_SOME(rows, n, x, 1, below);
}

#undef MEET_SOME
#undef MEET_NAME1
#undef MEET_NAME2
#undef MEET
#undef MEET_DOT4
