/*-------------------------------------------------------------------------
 *
 * memo.c
 *	  Centroids that this backend has read and remembers.
 *
 * See memo.h for what may be remembered.  Each index has a table: chunks of memos, and
 * hashed buckets with their numbers.  A table that has no room left is emptied, which
 * costs a few queries as much as they would have cost without it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "utils/inval.h"
#include "utils/memutils.h"

#include "memo.h"

/* Memos are allocated so many at a time. */
#define CHUNK			64

/* Tables, one for each of the indexes searched last */
#define TABLES			8

#define FIRST_BUCKETS	256		/* a power of two */

/* A centroid's record, as it was when it was read. */
typedef struct SpfMemo
{
	SpfRecordRef ref;			/* block invalid when it was forgotten */
	uint16		level;
	bool		retired;
	float		scale;
	SpfPageRef	child;
	FullTransactionId retired_at;
	XLogRecPtr	lsn;
	int8_t		code[FLEXIBLE_ARRAY_MEMBER];	/* [padded] */
} SpfMemo;

typedef struct SpfMemoTable
{
	Oid			relid;			/* InvalidOid: unused */
	uint32		storage;		/* a rewritten index is another one */
	int			padded;
	bool		outdated;		/* the relation changed: empty it before it is used again */
	uint64		last_used;
	MemoryContext context;
	char	  **chunks;
	uint32		nchunks;
	uint32		nmemos;
	uint32	   *buckets;		/* number of a memo + 1, 0: none */
	uint32		nbuckets;
	Size		memory;
} SpfMemoTable;

int			spf_setting_centroid_memory = 16 * 1024;

static SpfMemoTable tables[TABLES];
static SpfMemoTable *recent = NULL;
static uint64 turn = 0;

static Size
memo_size(const SpfMemoTable *table)
{
	return TYPEALIGN(64, offsetof(SpfMemo, code) + table->padded);
}

static SpfMemo *
memo_at(const SpfMemoTable *table, uint32 number)
{
	return (SpfMemo *) (table->chunks[number / CHUNK] + (number % CHUNK) * memo_size(table));
}

static void
empty_table(SpfMemoTable *table)
{
	MemoryContext context = table->context;

	if (table == recent)
		recent = NULL;
	memset(table, 0, sizeof(*table));
	if (context != NULL)
		MemoryContextDelete(context);
}

/* Relation caches are told of everything that replaces an index's storage. */
static void
relation_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < TABLES; i++)
	{
		if (relid == InvalidOid || tables[i].relid == relid)
			tables[i].outdated = true;
	}
}

void
spf_memo_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}

static bool
serves(const SpfMemoTable *table, const SpfIndex *index)
{
	return table->relid == RelationGetRelid(index->rel) &&
		table->storage == spf_storage_number(index->rel) &&
		table->padded == index->padded && !table->outdated;
}

/* The table of an index; NULL if it has none. */
static SpfMemoTable *
find_table(const SpfIndex *index)
{
	if (recent != NULL && serves(recent, index))
		return recent;
	for (int i = 0; i < TABLES; i++)
	{
		if (serves(&tables[i], index))
		{
			recent = &tables[i];
			recent->last_used = ++turn;
			return recent;
		}
	}
	return NULL;
}

/* A table for an index that has none: an unused one, or the one not used for longest. */
static SpfMemoTable *
make_table(const SpfIndex *index)
{
	SpfMemoTable *table = &tables[0];

	for (int i = 0; i < TABLES; i++)
	{
		if (tables[i].outdated)
			empty_table(&tables[i]);
		if (tables[i].last_used < table->last_used)
			table = &tables[i];
	}
	empty_table(table);
	table->context = AllocSetContextCreate(TopMemoryContext, "spfresh centroids",
										   ALLOCSET_DEFAULT_SIZES);
	table->nbuckets = FIRST_BUCKETS;
	table->buckets = MemoryContextAllocZero(table->context,
											table->nbuckets * sizeof(uint32));
	table->memory = table->nbuckets * sizeof(uint32);
	table->padded = index->padded;
	table->storage = spf_storage_number(index->rel);
	table->last_used = ++turn;
	table->relid = RelationGetRelid(index->rel);
	return recent = table;
}

static uint32
hash_ref(SpfRecordRef ref)
{
	uint64		key = ((uint64) ref.block << 32) | ((uint32) ref.offset << 16) | ref.version;

	return (uint32) ((key * UINT64CONST(0x9E3779B97F4A7C15)) >> 32);
}

static SpfMemo *
find_memo(const SpfMemoTable *table, SpfRecordRef ref)
{
	uint32		mask = table->nbuckets - 1;

	if (!BlockNumberIsValid(ref.block))
		return NULL;
	for (uint32 b = hash_ref(ref) & mask; table->buckets[b] != 0; b = (b + 1) & mask)
	{
		SpfMemo    *memo = memo_at(table, table->buckets[b] - 1);

		if (memcmp(&memo->ref, &ref, sizeof(SpfRecordRef)) == 0)
			return memo;
	}
	return NULL;
}

bool
spf_memo_find(const SpfIndex *index, SpfRecordRef ref, int level, SpfRecordView *view)
{
	const SpfMemoTable *table = spf_setting_centroid_memory > 0 ? find_table(index) : NULL;
	const SpfMemo *memo = table ? find_memo(table, ref) : NULL;

	if (memo == NULL || memo->level != level)
		return false;
	memset(view, 0, sizeof(*view));
	view->level = memo->level;
	view->version = ref.version;
	view->retired = memo->retired;
	view->retired_at = memo->retired_at;
	view->lsn = memo->lsn;
	view->child = memo->child;
	view->more = InvalidBlockNumber;
	view->numbers.scale = memo->scale;
	view->code = memo->code;
	return true;
}

static void
add_to_buckets(SpfMemoTable *table, SpfRecordRef ref, uint32 number)
{
	uint32		mask = table->nbuckets - 1;
	uint32		b = hash_ref(ref) & mask;

	while (table->buckets[b] != 0)
		b = (b + 1) & mask;
	table->buckets[b] = number + 1;
}

/* At most half of the buckets are taken. */
static void
grow_buckets(SpfMemoTable *table)
{
	uint32	   *larger = MemoryContextAllocExtended(table->context,
													(Size) table->nbuckets * 2 * sizeof(uint32),
													MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	table->memory += table->nbuckets * sizeof(uint32);
	pfree(table->buckets);
	table->buckets = larger;
	table->nbuckets *= 2;
	for (uint32 i = 0; i < table->nmemos; i++)
	{
		SpfRecordRef ref = memo_at(table, i)->ref;

		if (BlockNumberIsValid(ref.block))
			add_to_buckets(table, ref, i);
	}
}

/* Room for one more memo, with the buckets for it. */
static void
make_room(SpfMemoTable *table)
{
	char	   *chunk;
	Size		bytes = CHUNK * memo_size(table);

	if (table->nmemos < table->nchunks * CHUNK)
		return;
	if (table->nmemos * 2 >= table->nbuckets)
		grow_buckets(table);
	chunk = MemoryContextAlloc(table->context, bytes + 64);
	if (table->nchunks == 0)
		table->chunks = MemoryContextAlloc(table->context, sizeof(char *));
	else if ((table->nchunks & (table->nchunks - 1)) == 0)
		table->chunks = repalloc(table->chunks, table->nchunks * 2 * sizeof(char *));
	table->chunks[table->nchunks++] = (char *) TYPEALIGN(64, chunk);
	table->memory += bytes + 64;
}

/* May the tables take up as much as they do, and another chunk? */
static bool
has_room(const SpfMemoTable *table)
{
	Size		memory = 0;

	if (table->nmemos < table->nchunks * CHUNK)
		return true;
	for (int i = 0; i < TABLES; i++)
		memory += tables[i].memory;
	return memory + CHUNK * memo_size(table) <= (Size) spf_setting_centroid_memory * 1024;
}

void
spf_memo_keep(const SpfIndex *index, SpfRecordRef ref, const SpfRecordView *view)
{
	SpfMemoTable *table;
	SpfMemo    *memo;

	if (spf_setting_centroid_memory == 0)
		return;
	table = find_table(index);
	if (table == NULL)
		table = make_table(index);
	else if (!has_room(table))
	{
		for (int i = 0; i < TABLES; i++)
			empty_table(&tables[i]);
		table = make_table(index);
	}
	if (find_memo(table, ref) != NULL || !has_room(table))
		return;
	make_room(table);
	memo = memo_at(table, table->nmemos);
	memo->ref = ref;
	memo->level = view->level;
	memo->retired = view->retired;
	memo->retired_at = view->retired_at;
	memo->lsn = view->lsn;
	memo->child = view->child;
	memo->scale = view->numbers.scale;
	memcpy(memo->code, view->code, index->padded);
	add_to_buckets(table, ref, table->nmemos++);
}

bool
spf_memo_forget(const SpfIndex *index, SpfRecordRef ref)
{
	SpfMemoTable *table = find_table(index);
	SpfMemo    *memo = table ? find_memo(table, ref) : NULL;

	if (memo == NULL)
		return false;
	memo->ref.block = InvalidBlockNumber;	/* its bucket stays taken until there are more */
	return true;
}
