/*-------------------------------------------------------------------------
 *
 * meta.c
 *	  The meta page: what the index is, where its root is, what it counted.
 *
 * Locks: the meta page is the last buffer anyone locks (after records and
 * postings), and no other is locked while it is held only to be read.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xloginsert.h"
#include "port/pg_crc32c.h"
#include "storage/smgr.h"

#include "meta.h"

#define SpfPageMeta(page)	((SpfMeta *) PageGetContents(page))

StaticAssertDecl(MAXALIGN(SizeOfPageHeaderData) + sizeof(SpfMeta) <= SPF_META_WORK_OFFSET &&
				 SPF_META_WORK_OFFSET + SPF_META_WORK_BYTES <=
				 BLCKSZ - MAXALIGN(sizeof(SpfPageOpaqueData)),
				 "the meta page has room for both of its parts");

static uint32
meta_crc(const SpfMeta *meta)
{
	const char *behind = (const char *) (&meta->crc + 1);
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, meta, offsetof(SpfMeta, crc));
	COMP_CRC32C(crc, behind, (const char *) (meta + 1) - behind);
	FIN_CRC32C(crc);
	return crc;
}

void
spf_meta_seal(SpfMeta *meta)
{
	meta->crc = meta_crc(meta);
}

static void
check_meta(Relation rel, Page page)
{
	const SpfMeta *meta = SpfPageMeta(page);

	if (PageIsNew(page) ||
		((PageHeader) page)->pd_special != BLCKSZ - MAXALIGN(sizeof(SpfPageOpaqueData)) ||
		SpfPageOpaque(page)->kind != SPF_PAGE_META ||
		meta->magic != SPF_META_MAGIC)
		spf_page_corrupted(rel, SPF_META_BLOCK, "The meta page is not one of spfresh.");

	if (meta->version != SPF_FORMAT_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("index \"%s\" has format version %u, but this spfresh reads version %u",
						RelationGetRelationName(rel), meta->version, SPF_FORMAT_VERSION),
				 errhint("Please REINDEX it.")));

	if (((PageHeader) page)->pd_lower != SPF_META_WORK_OFFSET + SPF_META_WORK_BYTES)
		spf_page_corrupted(rel, SPF_META_BLOCK, "The meta page has another length.");
	if (meta->crc != meta_crc(meta))
		spf_page_corrupted(rel, SPF_META_BLOCK, "The meta page's checksum is wrong.");

	/* and should it have been written like that: */
	if (meta->dim > SPF_MAX_DIM ||
		(meta->dim > 0 &&
		 (meta->padded != spf_padded(meta->dim) ||
		  meta->bits < 1 || meta->bits > SPF_MAX_BITS ||
		  (meta->lanes != 32 && meta->lanes != 16 && meta->lanes != 8 && meta->lanes != 4) ||
		  meta->replicas < 1 || meta->replicas > 8 ||
		  meta->split_limit < 2 || meta->root_level >= SPF_MAX_LEVELS)))
		spf_page_corrupted(rel, SPF_META_BLOCK, "The meta page's values are out of range.");
}

void
spf_meta_read(Relation rel, SpfMeta *meta)
{
	Buffer		buf = ReadBuffer(rel, SPF_META_BLOCK);

	LockBuffer(buf, BUFFER_LOCK_SHARE);
	check_meta(rel, BufferGetPage(buf));
	*meta = *SpfPageMeta(BufferGetPage(buf));
	UnlockReleaseBuffer(buf);
}

void
spf_meta_init(SpfMeta *meta, const SpfIndex *index)
{
	memset(meta, 0, sizeof(SpfMeta));
	meta->magic = SPF_META_MAGIC;
	meta->version = SPF_FORMAT_VERSION;
	meta->metric = index->type->metric;
	meta->root = SPF_NO_PAGE;
	meta->origin = SPF_NO_RECORD;
}

static void
fill_meta_page(Page page, const SpfMeta *meta)
{
	spf_page_init(page, SPF_PAGE_META);
	*SpfPageMeta(page) = *meta;
	spf_meta_seal(SpfPageMeta(page));
	((PageHeader) page)->pd_lower = SPF_META_WORK_OFFSET + SPF_META_WORK_BYTES;
}

void
spf_meta_create(Relation rel, ForkNumber fork, const SpfMeta *meta)
{
	Buffer		buf;

	/* Nobody else can see the relation yet: no extension lock. */
	buf = ReadBufferExtended(rel, fork, P_NEW, RBM_NORMAL, NULL);
	Assert(BufferGetBlockNumber(buf) == SPF_META_BLOCK);
	LockBuffer(buf, BUFFER_LOCK_EXCLUSIVE);
	START_CRIT_SECTION();
	fill_meta_page(BufferGetPage(buf), meta);
	MarkBufferDirty(buf);

	/* The init fork is always logged: it is what a crash restores. */
	if (fork == INIT_FORKNUM)
		log_newpage_buffer(buf, true);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(buf);
}

Buffer
spf_meta_lock(Relation rel)
{
	Buffer		buf = ReadBuffer(rel, SPF_META_BLOCK);

	LockBuffer(buf, BUFFER_LOCK_EXCLUSIVE);
	check_meta(rel, BufferGetPage(buf));
	return buf;
}

SpfMeta *
spf_meta_of(Page page)
{
	return SpfPageMeta(page);
}

void *
spf_meta_work(Page page)
{
	return (char *) page + SPF_META_WORK_OFFSET;
}

void
spf_counters_add(SpfCounters *counters, const SpfCounters *delta)
{
	int64	   *to = (int64 *) counters;
	const int64 *from = (const int64 *) delta;

	for (int i = 0; i < sizeof(SpfCounters) / sizeof(int64); i++)
		to[i] += from[i];
}

SpfMeta *
spf_meta_edit(SpfWrite *write, Buffer buf)
{
	return SpfPageMeta(spf_write_page(write, buf, false));
}

void
spf_meta_set_calibration(SpfIndex *index, const SpfCalibration *calibration)
{
	Buffer		buf = spf_meta_lock(index->rel);
	SpfWrite	write;
	SpfMeta    *meta;

	spf_write_begin(&write, index->rel, index->building);
	meta = spf_meta_edit(&write, buf);
	meta->calibration = *calibration;
	spf_meta_seal(meta);
	spf_write_finish(&write);
	UnlockReleaseBuffer(buf);
}
