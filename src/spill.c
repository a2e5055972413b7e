/*-------------------------------------------------------------------------
 *
 * spill.c
 *	  Items sorted by two numbers, or kept in order, within bounded memory.
 *
 * A sort keeps its items in chunks of memory as long as they fit; the first one that
 * does not hands all of them over to PostgreSQL's tuplesort.
 *
 * A spread is a sort that several processes fill and read: each item goes to the
 * file of its bucket, by the first number, and of who writes it; a bucket's files are
 * sorted when it is read, by whoever reads it.  Where there is only one process it is a sort
 * with one bucket, and needs no files.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/tupdesc.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "storage/buffile.h"
#include "utils/tuplesort.h"

#include "spill.h"

#define CHUNK_BYTES		(1024 * 1024)

/* Files that one process writes at a time; each takes a page of memory. */
#define MOST_BUCKETS	256

typedef struct SpillItem
{
	int32		major;
	int32		minor;
	char		data[FLEXIBLE_ARRAY_MEMBER];
} SpillItem;

/* Where an item is, behind what it is sorted by. */
typedef struct Place
{
	uint64		key;
	uint64		number;
} Place;

#define ST_SORT sort_places
#define ST_ELEMENT_TYPE Place
#define ST_COMPARE(a, b) \
	(a->key != b->key ? (a->key < b->key ? -1 : 1) : (a->number < b->number ? -1 : a->number > b->number))
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

struct SpfSort
{
	Size		item_size;
	Size		stride;
	int			kilobytes;

	/* in memory */
	char	  **chunks;
	int			nchunks;
	int			most_chunks;
	int			per_chunk;
	int64		count;
	int64		read;
	Place	   *places;

	/* or else */
	Tuplesortstate *state;
	TupleDesc	desc;
	TupleTableSlot *slot;
	char	   *buffer;			/* a bytea being put */
};

SpfSort *
spf_sort_begin(Size item_size, int kilobytes)
{
	SpfSort    *sort = palloc0(sizeof(SpfSort));
	Size		bytes;

	sort->item_size = item_size;
	sort->stride = MAXALIGN(offsetof(SpillItem, data) + item_size);
	sort->kilobytes = Max(kilobytes, 64);
	bytes = Min(CHUNK_BYTES, Max((Size) sort->kilobytes * 1024 / 4, sort->stride));
	sort->per_chunk = bytes / sort->stride;
	sort->most_chunks = Max(1, (Size) sort->kilobytes * 1024 /
							(sort->per_chunk * (sort->stride + sizeof(Place))));
	sort->chunks = palloc0(sort->most_chunks * sizeof(char *));
	return sort;
}

static inline SpillItem *
item_at(const SpfSort *sort, int64 number)
{
	return (SpillItem *) (sort->chunks[number / sort->per_chunk] +
					 number % sort->per_chunk * sort->stride);
}

static void
put_tuple(SpfSort *sort, const SpillItem *item)
{
	TupleTableSlot *slot = sort->slot;

	memcpy(VARDATA(sort->buffer), item->data, sort->item_size);
	ExecClearTuple(slot);
	slot->tts_values[0] = Int32GetDatum(item->major);
	slot->tts_values[1] = Int32GetDatum(item->minor);
	slot->tts_values[2] = PointerGetDatum(sort->buffer);
	memset(slot->tts_isnull, 0, 3 * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	tuplesort_puttupleslot(sort->state, slot);
}

/* They do not fit: hand all over, giving back the memory on the way. */
static void
hand_over(SpfSort *sort)
{
	AttrNumber	columns[] = {1, 2};
	Oid			operators[] = {Int4LessOperator, Int4LessOperator};
	Oid			collations[] = {InvalidOid, InvalidOid};
	bool		nulls_first[] = {false, false};
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(sort));

	sort->desc = CreateTemplateTupleDesc(3);
	TupleDescInitEntry(sort->desc, 1, "major", INT4OID, -1, 0);
	TupleDescInitEntry(sort->desc, 2, "minor", INT4OID, -1, 0);
	TupleDescInitEntry(sort->desc, 3, "data", BYTEAOID, -1, 0);
	sort->state = tuplesort_begin_heap(sort->desc, 2, columns, operators, collations,
									   nulls_first, sort->kilobytes, NULL, TUPLESORT_NONE);
	sort->slot = MakeSingleTupleTableSlot(sort->desc, &TTSOpsVirtual);
	sort->buffer = palloc(sort->item_size + VARHDRSZ);
	SET_VARSIZE(sort->buffer, sort->item_size + VARHDRSZ);
	for (int64 i = 0; i < sort->count; i++)
	{
		put_tuple(sort, item_at(sort, i));
		if ((i + 1) % sort->per_chunk == 0)
		{
			CHECK_FOR_INTERRUPTS();
			pfree(sort->chunks[i / sort->per_chunk]);
			sort->chunks[i / sort->per_chunk] = NULL;
		}
	}
	sort->nchunks = 0;
	MemoryContextSwitchTo(old);
}

/* Room for one more item, in memory; NULL when it is full. */
static SpillItem *
next_place(SpfSort *sort)
{
	if (sort->count == (int64) sort->nchunks * sort->per_chunk)
	{
		if (sort->nchunks == sort->most_chunks)
			return NULL;
		/* callers put from contexts that they reset */
		sort->chunks[sort->nchunks++] = MemoryContextAlloc(GetMemoryChunkContext(sort),
														   sort->per_chunk * sort->stride);
	}
	return item_at(sort, sort->count++);
}

void
spf_sort_put(SpfSort *sort, int32 major, int32 minor, const void *data)
{
	SpillItem	   *item = sort->state == NULL ? next_place(sort) : NULL;
	SpillItem	   *one = item;

	if (item == NULL)
	{
		if (sort->state == NULL)
			hand_over(sort);
		one = palloc(offsetof(SpillItem, data) + sort->item_size);
	}
	one->major = major;
	one->minor = minor;
	memcpy(one->data, data, sort->item_size);
	if (item == NULL)
	{
		put_tuple(sort, one);
		pfree(one);
	}
}

void
spf_sort_perform(SpfSort *sort)
{
	if (sort->state != NULL)
	{
		tuplesort_performsort(sort->state);
		ExecDropSingleTupleTableSlot(sort->slot);
		sort->slot = MakeSingleTupleTableSlot(sort->desc, &TTSOpsMinimalTuple);
		return;
	}
	sort->places = palloc_extended(Max(sort->count, 1) * sizeof(Place), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < sort->count; i++)
	{
		const SpillItem *item = item_at(sort, i);

		/* signed numbers in the order of unsigned ones */
		sort->places[i].key = ((uint64) ((uint32) item->major ^ 0x80000000) << 32) |
			((uint32) item->minor ^ 0x80000000);
		sort->places[i].number = i;
	}
	sort_places(sort->places, sort->count);
}

const void *
spf_sort_next(SpfSort *sort, int32 *major, int32 *minor)
{
	const SpillItem *item;

	if (sort->state != NULL)
	{
		if (!tuplesort_gettupleslot(sort->state, true, false, sort->slot, NULL))
			return NULL;
		slot_getallattrs(sort->slot);
		*major = DatumGetInt32(sort->slot->tts_values[0]);
		*minor = DatumGetInt32(sort->slot->tts_values[1]);
		return VARDATA_ANY(DatumGetPointer(sort->slot->tts_values[2]));
	}
	if (sort->read == sort->count)
		return NULL;
	item = item_at(sort, sort->places[sort->read++].number);
	if (sort->read < sort->count)
		__builtin_prefetch(item_at(sort, sort->places[sort->read].number));
	*major = item->major;
	*minor = item->minor;
	return item->data;
}

void
spf_sort_end(SpfSort *sort)
{
	if (sort->state != NULL)
	{
		ExecDropSingleTupleTableSlot(sort->slot);
		tuplesort_end(sort->state);
		pfree(sort->buffer);
	}
	for (int i = 0; i < sort->nchunks; i++)
		pfree(sort->chunks[i]);
	if (sort->places)
		pfree(sort->places);
	pfree(sort->chunks);
	pfree(sort);
}

/* ---- spreads ---- */

struct SpfSpread
{
	SpfSpreadPlan plan;
	BufFile   **files;			/* [buckets], those being written */
	SpillItem	   *item;
	SpfSort    *sort;			/* where there is only one process */
};

int
spf_spread_buckets(double bytes, int kilobytes, int members)
{
	double		buckets = bytes / (kilobytes * 1024.0 * 0.6);

	return (int) Max(4 * members, Min(buckets + 1, MOST_BUCKETS));
}

SpfSpread *
spf_spread_begin(const SpfSpreadPlan *plan)
{
	SpfSpread  *spread = palloc0(sizeof(SpfSpread));

	spread->plan = *plan;
	if (plan->files == NULL)
		spread->sort = spf_sort_begin(plan->item_size, plan->kilobytes);
	else
	{
		spread->files = palloc0(plan->buckets * sizeof(BufFile *));
		spread->item = palloc(offsetof(SpillItem, data) + plan->item_size);
	}
	return spread;
}

static void
file_name(const SpfSpread *spread, int bucket, int member, char *name)
{
	snprintf(name, MAXPGPATH, "%s.%d.%d", spread->plan.name, bucket, member);
}

static BufFile *
bucket_file(SpfSpread *spread, int bucket)
{
	if (spread->files[bucket] == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(spread));
		char		name[MAXPGPATH];

		file_name(spread, bucket, spread->plan.me, name);
		spread->files[bucket] = BufFileCreateFileSet(&spread->plan.files->fs, name);
		MemoryContextSwitchTo(old);
	}
	return spread->files[bucket];
}

void
spf_spread_put(SpfSpread *spread, int32 major, int32 minor, const void *data)
{
	const SpfSpreadPlan *plan = &spread->plan;

	if (spread->sort != NULL)
	{
		spf_sort_put(spread->sort, major, minor, data);
		return;
	}
	spread->item->major = major;
	spread->item->minor = minor;
	memcpy(spread->item->data, data, plan->item_size);
	BufFileWrite(bucket_file(spread, (int) ((int64) major * plan->buckets / plan->majors)),
				 spread->item, offsetof(SpillItem, data) + plan->item_size);
}

void
spf_spread_close(SpfSpread *spread)
{
	for (int b = 0; spread->files != NULL && b < spread->plan.buckets; b++)
	{
		if (spread->files[b] == NULL)
			continue;
		BufFileExportFileSet(spread->files[b]);
		BufFileClose(spread->files[b]);
		spread->files[b] = NULL;
	}
}

int
spf_spread_count(const SpfSpread *spread)
{
	return spread->plan.files == NULL ? 1 : spread->plan.buckets;
}

SpfSort *
spf_spread_sort(SpfSpread *spread, int bucket)
{
	const SpfSpreadPlan *plan = &spread->plan;
	SpfSort    *sort = spread->sort;

	if (sort == NULL)
	{
		sort = spf_sort_begin(plan->item_size, plan->kilobytes);
		for (int m = 0; m < plan->members; m++)
		{
			char		name[MAXPGPATH];
			BufFile    *file;

			file_name(spread, bucket, m, name);
			file = BufFileOpenFileSet(&plan->files->fs, name, O_RDONLY, true);
			if (file == NULL)
				continue;
			for (int64 i = 1; spf_read_item(file, spread->item,
											offsetof(SpillItem, data) + plan->item_size); i++)
			{
				spf_sort_put(sort, spread->item->major, spread->item->minor, spread->item->data);
				if (i % 1024 == 0)
					CHECK_FOR_INTERRUPTS();
			}
			BufFileClose(file);
			BufFileDeleteFileSet(&plan->files->fs, name, false);
		}
	}
	spread->sort = NULL;
	spf_sort_perform(sort);
	return sort;
}

void
spf_spread_end(SpfSpread *spread)
{
	spf_spread_close(spread);
	if (spread->sort != NULL)
		spf_sort_end(spread->sort);
	if (spread->files != NULL)
	{
		pfree(spread->files);
		pfree(spread->item);
	}
	pfree(spread);
}

/* ---- lists ---- */

struct SpfList
{
	BufFile    *file;
	Size		item_size;
	int64		count;
	int64		read;
};

SpfList *
spf_list_begin(Size item_size)
{
	SpfList    *list = palloc0(sizeof(SpfList));

	list->file = BufFileCreateTemp(false);
	list->item_size = item_size;
	return list;
}

void
spf_list_put(SpfList *list, const void *item)
{
	BufFileWrite(list->file, unconstify(void *, item), list->item_size);
	list->count++;
}

int64
spf_list_count(const SpfList *list)
{
	return list->count;
}

void
spf_list_rewind(SpfList *list)
{
	if (BufFileSeek(list->file, 0, 0, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rewind temporary file of an index build: %m")));
	list->read = 0;
}

bool
spf_list_next(SpfList *list, void *item)
{
	if (list->read >= list->count)
		return false;
	if (BufFileRead(list->file, item, list->item_size) != list->item_size)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read temporary file of an index build: %m")));
	list->read++;
	return true;
}

void
spf_list_end(SpfList *list)
{
	BufFileClose(list->file);
	pfree(list);
}
