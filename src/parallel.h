/*-------------------------------------------------------------------------
 *
 * parallel.h
 *	  The processes that build an index together.
 *
 * The leader runs the build from beginning to end.  What is much work is a step:
 * all who are there do it, claiming items until none are left, and the leader goes on
 * when the last one has finished.  A worker that starts late joins at the next step;
 * without workers the leader does the steps alone, in the same way.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPF_PARALLEL_H
#define SPF_PARALLEL_H

#include "postgres.h"

#include "access/tableam.h"
#include "nodes/execnodes.h"
#include "storage/sharedfileset.h"

/* Pieces of shared memory that come and go while an index is built. */
#define SPF_TEAM_SAMPLE		0	/* codes and scales of the sample; calibration */
#define SPF_TEAM_WORK		1	/* of training */
#define SPF_TEAM_CENTROIDS	2
#define SPF_TEAM_PIECES		3

typedef struct SpfTeam SpfTeam;

/* One's part of a step. */
typedef void (*SpfTeamStep) (void *state, int step);

/*
 * The leader: start workers, if this table and the settings want some.  `common_size` bytes, zeroed,
 * are shared by all: spf_team_common().
 */
extern SpfTeam *spf_team_begin(Relation heap, Relation rel, IndexInfo *info, Size common_size,
							   SpfTeamStep step, void *state);
extern void spf_team_end(SpfTeam *team);

/* The leader has a step done. */
extern void spf_team_run(SpfTeam *team, int step);

/* While a step runs: the next of its `nitems` items; false if none is left. */
extern bool spf_team_claim(SpfTeam *team, int64 nitems, int64 *item);

/* So much more is done, for the progress; the leader reports it. */
extern void spf_team_advance(SpfTeam *team, int64 done);

/* A phase begins, of `total` items; 0 where they are not counted.  And what is known better later. */
extern void spf_team_phase(SpfTeam *team, int phase, double total);
extern void spf_team_total(SpfTeam *team, double total);

/* The leader makes and drops pieces of shared memory, all look at them. */
extern void *spf_team_alloc(SpfTeam *team, int piece, Size size);
extern void spf_team_free(SpfTeam *team, int piece);
extern void *spf_team_piece(SpfTeam *team, int piece);

extern void *spf_team_common(SpfTeam *team);

/* One's number, the leader's being 0, and how many there may be. */
extern int	spf_team_me(const SpfTeam *team);
extern int	spf_team_members(const SpfTeam *team);

/* Files that all can read; NULL where there is nobody else. */
extern SharedFileSet *spf_team_files(SpfTeam *team);

/* One's part of the scan of the whole table; once, until the leader has all scan again.  NULL: scan it alone. */
extern TableScanDesc spf_team_scan(SpfTeam *team, Relation heap);
extern void spf_team_rescan(SpfTeam *team, Relation heap);

/* A row version was met that makes the index unusable for old snapshots. */
extern void spf_team_note_broken_chain(SpfTeam *team, IndexInfo *info);

/*
 * build.c: what a worker does from its start on.  Calls spf_team_serve with its own step function.
 */
extern void spf_build_serve(SpfTeam *team, Relation heap, Relation rel, IndexInfo *info);
extern void spf_team_serve(SpfTeam *team, SpfTeamStep step, void *state);

#endif							/* SPF_PARALLEL_H */
