/*-------------------------------------------------------------------------
 *
 * record_page.h
 *	  The layout of RECORD and TIDS pages, for record.c and record_rows.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_RECORD_PAGE_H
#define SPF_RECORD_PAGE_H

#include "record.h"

/* An item on a RECORD page. */
typedef struct SpfRecordData
{
	uint16		version;
	uint8		level;
	uint8		flags;
	uint16		ntids;			/* in this item; 0 at level > 0 */
	uint16		code_bytes;		/* = padded */
	BlockNumber link;			/* level 0: first TIDS page; else the child's block */
	float		scale;
	union
	{
		struct
		{
			float		err;
			float		norm2;
		};
		FullTransactionId retired_at;	/* RECORD_RETIRED: needs no bounds */
	};
	int8_t		code[FLEXIBLE_ARRAY_MEMBER];

	/* then ItemPointerData[ntids], or, at level > 0, the child's generation */
} SpfRecordData;

StaticAssertDecl(offsetof(SpfRecordData, err) == 16, "on-disk layout of SpfRecordData");
StaticAssertDecl(offsetof(SpfRecordData, code) == 24, "on-disk layout of SpfRecordData");
StaticAssertDecl(sizeof(float) == 4, "on-disk floats have 32 bits");
StaticAssertDecl(sizeof(ItemPointerData) == 6, "on-disk size of ItemPointerData");

#define RECORD_RETIRED		0x01

#define RECORD_TAIL(record)		((char *) (record)->code + (record)->code_bytes)
#define RECORD_TIDS(record)		((ItemPointerData *) RECORD_TAIL(record))
#define RECORD_BYTES(padded, ntids) \
	(offsetof(SpfRecordData, code) + (padded) + (ntids) * sizeof(ItemPointerData))

/* The content of a TIDS page. */
typedef struct SpfTidsData
{
	SpfRecordRef owner;
	BlockNumber next;			/* older TIDs, or InvalidBlockNumber */
	uint16		ntids;
	uint16		flags;
	ItemPointerData tids[FLEXIBLE_ARRAY_MEMBER];
} SpfTidsData;

StaticAssertDecl(offsetof(SpfTidsData, tids) == 16, "on-disk layout of SpfTidsData");

/*
 * A page that vacuum took out of its chain.  Whoever is on the way to it still finds what
 * comes behind, until it is reused; in place of TIDs it has the next transaction id of that
 * time.
 */
#define TIDS_UNLINKED		0x0001

#define SpfPageTids(page)	((SpfTidsData *) PageGetContents(page))
#define TIDS_CAPACITY \
	((int) ((SPF_PAGE_SPACE - offsetof(SpfTidsData, tids)) / sizeof(ItemPointerData)))

/* The record at an offset, NULL if there is none; raises if it leaves its page. */
extern SpfRecordData *spf_record_at(const SpfIndex *index, Buffer buf, Page page, uint16 offset);

#endif							/* SPF_RECORD_PAGE_H */
