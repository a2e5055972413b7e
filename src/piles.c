/*-------------------------------------------------------------------------
 *
 * piles.c
 *	  Items of one size in numbered piles, in temporary files.
 *
 * Each process that writes has a file of its own for each pile; with one process they are
 * private to it, and stay open.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "storage/buffile.h"

#include "piles.h"

struct SpfPiles
{
	SpfPilesPlan plan;
	BufFile   **files;			/* [piles], one's own */

	/* being read */
	int			pile;
	int			member;			/* whose file */
	BufFile    *file;
	int64		read;
};

SpfPiles *
spf_piles_begin(const SpfPilesPlan *plan)
{
	SpfPiles   *piles = palloc0(sizeof(SpfPiles));

	Assert(plan->piles <= SPF_MOST_PILES);
	piles->plan = *plan;
	piles->files = palloc0(plan->piles * sizeof(BufFile *));
	return piles;
}

static void
file_name(const SpfPiles *piles, int pile, int member, char *name)
{
	snprintf(name, MAXPGPATH, "%s.%d.%d", piles->plan.name, pile, member);
}

void
spf_piles_put(SpfPiles *piles, int pile, const void *item)
{
	if (piles->files[pile] == NULL)
	{
		/* callers put from contexts that they reset */
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(piles));
		char		name[MAXPGPATH];

		file_name(piles, pile, piles->plan.me, name);
		piles->files[pile] = piles->plan.files == NULL ? BufFileCreateTemp(false) :
			BufFileCreateFileSet(&piles->plan.files->fs, name);
		MemoryContextSwitchTo(old);
	}
	BufFileWrite(piles->files[pile], unconstify(void *, item), piles->plan.item_size);
}

void
spf_piles_close(SpfPiles *piles)
{
	for (int p = 0; piles->plan.files != NULL && p < piles->plan.piles; p++)
	{
		if (piles->files[p] == NULL)
			continue;
		BufFileExportFileSet(piles->files[p]);
		BufFileClose(piles->files[p]);
		piles->files[p] = NULL;
	}
}

/* The file of piles->member, from its beginning; NULL if he had nothing for this pile. */
static BufFile *
open_file(SpfPiles *piles)
{
	BufFile    *file = piles->files[piles->pile];
	char		name[MAXPGPATH];

	if (piles->plan.files != NULL)
	{
		/* it may stay open for longer than the caller's context lives */
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(piles));

		file_name(piles, piles->pile, piles->member, name);
		file = BufFileOpenFileSet(&piles->plan.files->fs, name, O_RDONLY, true);
		MemoryContextSwitchTo(old);
		return file;
	}
	if (file != NULL && BufFileSeek(file, 0, 0, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rewind temporary file of an index build: %m")));
	return file;
}

static void
close_file(SpfPiles *piles)
{
	if (piles->file != NULL && piles->plan.files != NULL)
		BufFileClose(piles->file);
	piles->file = NULL;
}

void
spf_pile_open(SpfPiles *piles, int pile)
{
	close_file(piles);
	piles->pile = pile;
	piles->member = 0;
	piles->read = 0;
	piles->file = open_file(piles);
}

bool
spf_pile_next(SpfPiles *piles, void *item)
{
	for (;;)
	{
		if (piles->file != NULL && spf_read_item(piles->file, item, piles->plan.item_size))
		{
			if (++piles->read % 1024 == 0)
				CHECK_FOR_INTERRUPTS();
			return true;
		}
		close_file(piles);
		if (piles->member + 1 >= piles->plan.members)
			return false;
		piles->member++;
		piles->file = open_file(piles);
	}
}

void
spf_pile_drop(SpfPiles *piles, int pile)
{
	close_file(piles);
	for (int m = 0; piles->plan.files != NULL && m < piles->plan.members; m++)
	{
		char		name[MAXPGPATH];

		file_name(piles, pile, m, name);
		BufFileDeleteFileSet(&piles->plan.files->fs, name, true);
	}
	if (piles->files[pile] != NULL)
		BufFileClose(piles->files[pile]);
	piles->files[pile] = NULL;
}

void
spf_piles_end(SpfPiles *piles)
{
	close_file(piles);
	for (int p = 0; p < piles->plan.piles; p++)
		if (piles->files[p] != NULL)
			BufFileClose(piles->files[p]);
	pfree(piles->files);
	pfree(piles);
}
