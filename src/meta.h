/*-------------------------------------------------------------------------
 *
 * meta.h
 *	  The meta page: what the index is, where its root is, what it counted.
 *
 * Block 0.  Only this module knows its layout; others get SpfMeta, a copy.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_META_H
#define SPF_META_H

#include "postgres.h"

#include "index.h"
#include "page.h"

#define SPF_META_MAGIC		0x53504652	/* "SPFR" */
#define SPF_FORMAT_VERSION	2

/* The calibration: what a recall takes, for a k; see calibrate.c. */
#define SPF_CAL_TARGETS		8
#define SPF_CAL_KS			4

typedef struct SpfCalibration
{
	uint32		samples;		/* queries it rests on; 0: not calibrated */
	uint32		postings;		/* level-0 postings it was made with */
	float		nprobe[SPF_CAL_KS][SPF_CAL_TARGETS];	/* the same number for all queries */
	float		margin[SPF_CAL_KS][SPF_CAL_TARGETS];	/* see SpfEffort */
	uint64		changed;		/* what calibration_changes() said at that time */
} SpfCalibration;

/* All of 64 bits, so that changes of them (which may be negative) are added one by one. */
typedef struct SpfCounters
{
	int64		splits;
	int64		postings[SPF_MAX_LEVELS];	/* per level */
	int64		swept;			/* stale entries forgotten */
	int64		merges;
	int64		evaluated;		/* entries compared with a new centroid */
	int64		reassigned;		/* vectors that went over to other postings */
	int64		reclusters;		/* regions */
	int64		reclustered;	/* entries written for that */
} SpfCounters;

/* The content of the meta page, on disk and in memory alike. */
typedef struct SpfMeta
{
	uint32		magic;
	uint32		version;
	uint64		seed;
	uint16		dim;			/* 0: no row has come yet */
	uint16		padded;
	uint8		bits;
	uint8		lanes;
	uint8		replicas;
	uint8		metric;
	uint32		split_limit;
	uint32		merge_limit;
	uint16		root_level;
	uint16		unused;
	uint32		crc;			/* of all the rest: nothing else vouches for it */
	SpfPageRef	root;
	SpfRecordRef origin;
	SpfCounters counters;
	SpfCalibration calibration;
} SpfMeta;

StaticAssertDecl(offsetof(SpfMeta, root) == 40, "on-disk layout of SpfMeta");
StaticAssertDecl(offsetof(SpfMeta, counters) == 56, "on-disk layout of SpfMeta");
StaticAssertDecl(sizeof(SpfMeta) ==
				 56 + 8 * (SPF_MAX_LEVELS + 7) + 16 + 8 * SPF_CAL_KS * SPF_CAL_TARGETS,
				 "on-disk layout of SpfMeta");

/* Read the meta page.  Raises with a hint to REINDEX for a foreign or unknown one. */
extern void spf_meta_read(Relation rel, SpfMeta *meta);

/* Write the meta page of a new index: main fork while building, or the init fork. */
extern void spf_meta_create(Relation rel, ForkNumber fork, const SpfMeta *meta);

/* A meta for an index without rows. */
extern void spf_meta_init(SpfMeta *meta, const SpfIndex *index);

/*
 * Change the meta page within a larger change: lock it, register it with `write`, edit, and
 * unlock after spf_write_finish.
 */
extern Buffer spf_meta_lock(Relation rel);
extern SpfMeta *spf_meta_edit(SpfWrite *write, Buffer buf);

/* After the last edit. */
extern void spf_meta_seal(SpfMeta *meta);

extern void spf_counters_add(SpfCounters *counters, const SpfCounters *delta);

/*
 * The rest of the meta page, behind SpfMeta and not covered by its checksum: work.c's.  Zero in a new index.
 */
#define SPF_META_WORK_OFFSET	1024
#define SPF_META_WORK_BYTES		4608

extern SpfMeta *spf_meta_of(Page page);
extern void *spf_meta_work(Page page);

extern void spf_meta_set_calibration(SpfIndex *index, const SpfCalibration *calibration);

#endif							/* SPF_META_H */
