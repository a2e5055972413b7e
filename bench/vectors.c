/*
 * vectors.c
 *	  Vectors for COPY ... (FORMAT binary), as rows (id integer, embedding):
 *	  from a file, or made up.  Used by quickstart.
 *
 *	vectors info FILE                            prints "rows dimensions type"
 *	vectors file FILE FIRST COUNT                COUNT vectors, from number FIRST on
 *	vectors generate DIMENSIONS SEED FIRST COUNT
 *
 * Files are .fvecs, .bvecs or .hvecs: each vector an int32 with its dimensions,
 * then its values (float, byte, half), all little-endian.  Ids are numbers in
 * the file, from 0.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DIMENSIONS	16000

static void
die(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fprintf(stderr, "vectors: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

static int64_t
number(const char *text, int64_t min, int64_t max)
{
	char	   *end;
	long long	value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || value < min || value > max)
		die("\"%s\" is not a number from %" PRId64 " to %" PRId64, text, min, max);
	return value;
}

/* ---- what COPY reads: all in network byte order ---- */

static void
put(const void *bytes, size_t length)
{
	if (fwrite(bytes, 1, length, stdout) != length)
		die("could not write: %s", strerror(errno));
}

static void
put16(uint16_t value)
{
	uint8_t		bytes[2] = {value >> 8, value & 0xff};

	put(bytes, 2);
}

static void
put32(uint32_t value)
{
	uint8_t		bytes[4] = {value >> 24, value >> 16 & 0xff, value >> 8 & 0xff, value & 0xff};

	put(bytes, 4);
}

static void
put_float(float value)
{
	uint32_t	bits;

	memcpy(&bits, &value, 4);
	put32(bits);
}

static void
put_header(void)
{
	put("PGCOPY\n\377\r\n\0", 11);
	put32(0);
	put32(0);
}

/* The start of a row; the vector's `dimensions` values of `width` bytes follow. */
static void
put_row(int64_t id, int dimensions, int width)
{
	put16(2);
	put32(4);
	put32((uint32_t) id);
	put32(4 + dimensions * width);
	put16(dimensions);
	put16(0);
}

static void
put_end(void)
{
	put16(0xffff);
	if (fflush(stdout) != 0)
		die("could not write: %s", strerror(errno));
}

/* ---- files ---- */

typedef struct File
{
	FILE	   *stream;
	const char *name;
	char		kind;			/* 'f', 'b' or 'h' */
	int			width;			/* bytes a value */
	int			dimensions;
	int64_t		rows;
} File;

static int
read_dimensions(File *file)
{
	uint8_t		b[4];
	uint32_t	dimensions;

	if (fread(b, 1, 4, file->stream) != 4)
		die("%s ends too early", file->name);
	dimensions = b[0] | b[1] << 8 | b[2] << 16 | (uint32_t) b[3] << 24;
	if (dimensions < 1 || dimensions > MAX_DIMENSIONS)
		die("%s: a vector of %" PRIu32 " dimensions: not a file of this format", file->name, dimensions);
	return (int) dimensions;
}

static File
open_file(const char *name)
{
	File		file = {.name = name};
	const char *dot = strrchr(name, '.');
	int64_t		size;
	int64_t		each;

	if (dot != NULL && strcmp(dot, ".fvecs") == 0)
		file.kind = 'f', file.width = 4;
	else if (dot != NULL && strcmp(dot, ".bvecs") == 0)
		file.kind = 'b', file.width = 1;
	else if (dot != NULL && strcmp(dot, ".hvecs") == 0)
		file.kind = 'h', file.width = 2;
	else
		die("%s: neither .fvecs nor .bvecs nor .hvecs", name);

	file.stream = fopen(name, "rb");
	if (file.stream == NULL)
		die("could not open %s: %s", name, strerror(errno));
	file.dimensions = read_dimensions(&file);
	if (fseeko(file.stream, 0, SEEK_END) != 0 || (size = ftello(file.stream)) < 0)
		die("could not seek in %s: %s", name, strerror(errno));
	each = 4 + (int64_t) file.dimensions * file.width;
	if (size % each != 0)
		die("%s: %" PRId64 " bytes are no whole number of vectors of %d dimensions", name, size, file.dimensions);
	file.rows = size / each;
	return file;
}

static void
from_file(const char *name, int64_t first, int64_t count)
{
	File		file = open_file(name);
	size_t		length = (size_t) file.dimensions * file.width;
	uint8_t    *values = malloc(length);

	if (values == NULL)
		die("out of memory");
	if (first + count > file.rows)
		die("%s has only %" PRId64 " vectors", name, file.rows);
	if (fseeko(file.stream, first * (4 + (int64_t) length), SEEK_SET) != 0)
		die("could not seek in %s: %s", name, strerror(errno));

	put_header();
	for (int64_t id = first; id < first + count; id++)
	{
		if (read_dimensions(&file) != file.dimensions)
			die("%s: vector %" PRId64 " has other dimensions than the first", name, id);
		if (fread(values, 1, length, file.stream) != length)
			die("%s ends too early", name);

		put_row(id, file.dimensions, file.kind == 'h' ? 2 : 4);
		for (int i = 0; i < file.dimensions; i++)
		{
			const uint8_t *v = values + (size_t) i * file.width;

			if (file.kind == 'b')
				put_float(*v);
			else if (file.kind == 'h')
				put16(v[0] | v[1] << 8);
			else
				put32(v[0] | v[1] << 8 | v[2] << 16 | (uint32_t) v[3] << 24);
		}
	}
	put_end();
}

/* ---- made up ---- */

/*
 * Real embeddings lie near a curved sheet of some 20 dimensions, in clumps.  So:
 * a point near one of 1,000 centres in LATENT dimensions, laid out in the wanted
 * dimensions by fixed random directions, with a little noise on all of them.
 */
#define LATENT		24
#define CENTRES		1000
#define SPREAD		0.7
#define NOISE		0.05

/* splitmix64: one state, any seed */
static uint64_t random_state;

static uint64_t
random_bits(void)
{
	uint64_t	z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* normal deviates, two at a time (Marsaglia's polar method) */
static float
random_normal(void)
{
	static double spare;
	static int	have_spare = 0;
	double		u;
	double		v;
	double		s;

	if (have_spare)
	{
		have_spare = 0;
		return (float) spare;
	}
	do
	{
		u = (double) (random_bits() >> 11) * 0x1p-52 - 1;
		v = (double) (random_bits() >> 11) * 0x1p-52 - 1;
		s = u * u + v * v;
	} while (s >= 1 || s == 0);
	s = sqrt(-2 * log(s) / s);
	spare = v * s;
	have_spare = 1;
	return (float) (u * s);
}

static void
generate(int dimensions, int64_t seed, int64_t first, int64_t count)
{
	static float centres[CENTRES][LATENT];
	float	   *directions = malloc(sizeof(float) * LATENT * dimensions);
	float	   *x = malloc(sizeof(float) * dimensions);

	if (directions == NULL || x == NULL)
		die("out of memory");

	/* the same world for every seed ... */
	random_state = 1;
	for (int c = 0; c < CENTRES; c++)
		for (int j = 0; j < LATENT; j++)
			centres[c][j] = random_normal();
	for (int j = 0; j < LATENT * dimensions; j++)
		directions[j] = random_normal() / sqrtf(LATENT);

	/* ... and other points in it */
	random_state = (uint64_t) seed * UINT64_C(0xd1342543de82ef95) + 2;
	put_header();
	for (int64_t id = first; id < first + count; id++)
	{
		/* centres are not equally crowded */
		double		u = (double) (random_bits() >> 11) * 0x1p-53;
		const float *centre = centres[(int) (u * u * CENTRES)];

		for (int i = 0; i < dimensions; i++)
			x[i] = (float) NOISE * random_normal();
		for (int j = 0; j < LATENT; j++)
		{
			float		z = centre[j] + (float) SPREAD * random_normal();
			const float *direction = directions + (size_t) j * dimensions;

			for (int i = 0; i < dimensions; i++)
				x[i] += z * direction[i];
		}
		put_row(id, dimensions, 4);
		for (int i = 0; i < dimensions; i++)
			put_float(x[i]);
	}
	put_end();
}

int
main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 20);

	if (argc == 3 && strcmp(argv[1], "info") == 0)
	{
		File		file = open_file(argv[2]);

		printf("%" PRId64 " %d %s\n", file.rows, file.dimensions, file.kind == 'h' ? "halfvec" : "vector");
	}
	else if (argc == 5 && strcmp(argv[1], "file") == 0)
		from_file(argv[2], number(argv[3], 0, INT32_MAX), number(argv[4], 0, INT32_MAX));
	else if (argc == 6 && strcmp(argv[1], "generate") == 0)
		generate((int) number(argv[2], 1, MAX_DIMENSIONS), number(argv[3], 0, INT32_MAX),
				 number(argv[4], 0, INT32_MAX), number(argv[5], 0, INT32_MAX));
	else
		die("usage: vectors info FILE | file FILE FIRST COUNT | generate DIMENSIONS SEED FIRST COUNT");
	return 0;
}
