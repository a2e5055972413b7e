/*-------------------------------------------------------------------------
 *
 * io.c
 *	  Reading ahead: pages that a search is about to read, all at once.
 *
 * A search knows what it will read: the next postings, in their order; then records, then
 * rows.  Where some of these pages are not in shared buffers, waiting for them one after the
 * other is most of the time of the search.  So they are announced by the window:
 *
 * - stream (PostgreSQL 17): a read stream brings the window into shared buffers, by whatever
 *   io_method says in 18;
 * - io_uring: the kernel is told to read the window by one system call, into memory that nobody
 *   looks at.  What matters is that the pages are in the kernel's cache afterwards, or on
 *   their way there;
 * - posix: posix_fadvise for each page, through PostgreSQL's own PrefetchBuffer;
 * - sync: nothing.
 *
 * The content of pages only ever comes from the buffer manager.  Nothing is locked here.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <fcntl.h>
#ifdef SPF_LIBURING
#include <liburing.h>
#endif

#include "access/xact.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "io.h"
#include "page.h"

int			spf_setting_io = SPF_IO_AUTO;

const struct config_enum_entry spf_io_values[] = {
	{"auto", SPF_IO_AUTO, false},
	{"sync", SPF_IO_SYNC, false},
	{"posix", SPF_IO_POSIX, false},
	{"io_uring", SPF_IO_URING, false},
	{"stream", SPF_IO_STREAM, false},
	{NULL, 0, false}
};

bool
spf_io_check(int *value, void **extra, GucSource source)
{
#ifndef SPF_LIBURING
	if (*value == SPF_IO_URING)
	{
		GUC_check_errdetail("This spfresh was built without liburing.");
		GUC_check_errhint("Build it where liburing's headers are installed, or use auto.");
		return false;
	}
#endif
#ifndef SPF_READ_STREAMS
	if (*value == SPF_IO_STREAM)
	{
		GUC_check_errdetail("Read streams came with PostgreSQL 17.");
		GUC_check_errhint("Use auto.");
		return false;
	}
#endif
	return true;
}

/* ---- io_uring ---- */

#ifdef SPF_LIBURING

/* Reads that may be under way at a time. */
#define SLOTS			(2 * SPF_IO_WINDOW)

/* Segments of relations that are open. */
#define FILES			8

typedef struct SpfIoFile
{
	uint32		storage;		/* 0: free */
	BlockNumber segment;
	File		file;
} SpfIoFile;

static struct
{
	bool		tried;
	bool		usable;
	struct io_uring ring;
	char	   *memory;			/* [SLOTS][BLCKSZ]: the kernel writes here, and nobody reads */
	int			free[SLOTS];
	int			nfree;
	SpfIoFile	files[FILES];
	int			next_file;
} uring;

/* Files are open to the end of the transaction: a relation that is dropped goes then. */
static void
close_files(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PARALLEL_COMMIT && event != XACT_EVENT_PARALLEL_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	for (int i = 0; i < FILES; i++)
	{
		if (uring.files[i].storage != 0)
			FileClose(uring.files[i].file);
		uring.files[i].storage = 0;
	}
}

/* It does not work here: said once, and then done without. */
static void
give_up(int error)
{
	uring.usable = false;
	errno = error;
	ereport(LOG,
			(errcode_for_file_access(),
			 errmsg("spfresh cannot use io_uring: %m"),
			 errdetail("Pages are read ahead by posix_fadvise instead.")));
}

static bool
uring_ready(void)
{
	int			result;

	if (uring.tried)
		return uring.usable;
	uring.tried = true;
	result = io_uring_queue_init(SLOTS, &uring.ring, 0);
	if (result < 0)
	{
		give_up(-result);
		return false;
	}
	uring.memory = MemoryContextAlloc(TopMemoryContext, (Size) SLOTS * BLCKSZ);
	for (int i = 0; i < SLOTS; i++)
		uring.free[i] = i;
	uring.nfree = SLOTS;
	RegisterXactCallback(close_files, NULL);
	uring.usable = true;
	return true;
}

/* The descriptor of a segment's file; -1 if it cannot be had. */
static int
segment_file(Relation rel, BlockNumber segment)
{
	uint32		storage = spf_storage_number(rel);
	SpfIoFile  *entry;
	char		path[MAXPGPATH];

	for (int i = 0; i < FILES; i++)
	{
		entry = &uring.files[i];
		if (entry->storage == storage && entry->segment == segment &&
			FileGetRawDesc(entry->file) >= 0)
			return FileGetRawDesc(entry->file);
	}
	entry = &uring.files[uring.next_file++ % FILES];
	if (entry->storage != 0)
		FileClose(entry->file);
	entry->storage = 0;
	spf_relation_path(rel, segment, path);
	entry->file = PathNameOpenFile(path, O_RDONLY | PG_BINARY);
	if (entry->file < 0)
		return -1;
	entry->storage = storage;
	entry->segment = segment;
	return FileGetRawDesc(entry->file);
}

/* Take back the memory of reads that are done; how they ended matters only if it is for good. */
static void
reap(void)
{
	struct io_uring_cqe *cqe;

	while (uring.usable && io_uring_peek_cqe(&uring.ring, &cqe) == 0)
	{
		int			result = cqe->res;

		uring.free[uring.nfree++] = (int) io_uring_cqe_get_data64(cqe);
		io_uring_cqe_seen(&uring.ring, cqe);
		if (result == -EINVAL || result == -EOPNOTSUPP || result == -EPERM)
			give_up(-result);
	}
}

/* One system call for all of them.  False if it cannot be done. */
static bool
read_by_uring(Relation rel, const BlockNumber *blocks, int nblocks)
{
	int			result;

	if (!uring_ready())
		return false;
	reap();
	for (int i = 0; uring.usable && i < nblocks && uring.nfree > 0; i++)
	{
		int			file = segment_file(rel, blocks[i] / RELSEG_SIZE);
		struct io_uring_sqe *sqe = file >= 0 ? io_uring_get_sqe(&uring.ring) : NULL;
		int			slot;

		if (sqe == NULL)
			break;
		slot = uring.free[--uring.nfree];
		io_uring_prep_read(sqe, file, uring.memory + (Size) slot * BLCKSZ, BLCKSZ,
						   (uint64) (blocks[i] % RELSEG_SIZE) * BLCKSZ);
		io_uring_sqe_set_data64(sqe, slot);
	}
	result = io_uring_submit(&uring.ring);
	if (result < 0 && result != -EAGAIN && result != -EBUSY && result != -EINTR)
		give_up(-result);
	return uring.usable;
}

#else

static bool
read_by_uring(Relation rel, const BlockNumber *blocks, int nblocks)
{
	return false;
}

#endif							/* SPF_LIBURING */

/* ---- which way ---- */

static SpfIoMode
mode_in_use(void)
{
	if (spf_setting_io != SPF_IO_AUTO)
		return spf_setting_io;
	if (effective_io_concurrency == 0)
		return SPF_IO_SYNC;
#if defined(SPF_READ_STREAMS)
	return SPF_IO_STREAM;
#elif defined(SPF_LIBURING)
	return SPF_IO_URING;
#else
	return SPF_IO_POSIX;
#endif
}

static void
read_by_fadvise(Relation rel, const BlockNumber *blocks, int nblocks)
{
	for (int i = 0; i < nblocks; i++)
		(void) PrefetchBuffer(rel, MAIN_FORKNUM, blocks[i]);
}

void
spf_io_ahead(Relation rel, const BlockNumber *blocks, int nblocks)
{
	SpfIoMode	mode = mode_in_use();
	BlockNumber missing[SPF_IO_WINDOW];
	int			n = 0;

	if (mode == SPF_IO_SYNC || RelationUsesLocalBuffers(rel))
		return;
	for (int i = 0; i < nblocks && n < SPF_IO_WINDOW; i++)
	{
		if ((n == 0 || blocks[i] != missing[n - 1]) && !spf_page_cached(rel, blocks[i]))
			missing[n++] = blocks[i];
	}

	/* a single one is as soon read as announced */
	if (n < 2)
		return;
	switch (mode)
	{
		case SPF_IO_STREAM:
			spf_read_by_stream(rel, missing, n);
			break;
		case SPF_IO_URING:
			if (!read_by_uring(rel, missing, n))
				read_by_fadvise(rel, missing, n);
			break;
		case SPF_IO_POSIX:
			read_by_fadvise(rel, missing, n);
			break;
		case SPF_IO_AUTO:
		case SPF_IO_SYNC:
			break;
	}
}
