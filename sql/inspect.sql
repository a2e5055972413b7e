CREATE SCHEMA inspect;
SET search_path = inspect, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common

-- an index without rows
CREATE TABLE items (id int, kind int, v vector(24)) WITH (autovacuum_enabled = off);
CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 40);
SELECT format_version, type, metric, dimensions, levels, postings, postings_by_level, posting_avg_entries,
	entries, records, rows, total_bytes, calibration
FROM spfresh_stats('items_v');
SELECT * FROM spfresh_postings('items_v');
SELECT * FROM spfresh_recall('items_v');

-- one with rows: each figure says the same by another way
INSERT INTO items SELECT i, i % 5, point(i, 24) FROM generate_series(1, 3000) i;
INSERT INTO items SELECT 10000 + i, 0, point(7, 24) FROM generate_series(1, 2000) i;
INSERT INTO items VALUES (-1, 0, NULL);
REINDEX INDEX items_v;
CREATE VIEW figures AS SELECT
	s.format_version, s.type, s.metric, s.dimensions, s.code_bits, s.replicas, s.lanes, s.split_limit,
	s.levels, s.records, s.rows,
	s.stale_entries = (SELECT sum(stale_entries) FROM spfresh_postings('items_v') WHERE level = 0) AS stale_agree,
	s.entries - s.stale_entries >= s.records AND s.entries - s.stale_entries <= s.records * s.replicas AS entries,
	s.postings = (SELECT count(*) FROM spfresh_postings('items_v') WHERE level = 0 AND NOT retired) AS postings,
	s.retired_postings = (SELECT count(*) FROM spfresh_postings('items_v') WHERE retired) AS retired,
	s.postings_by_level = (SELECT array_agg(n ORDER BY level) FROM (SELECT level, count(*) AS n
		FROM spfresh_postings('items_v') WHERE NOT retired GROUP BY level) x) AS levels_agree,
	s.postings_by_level[s.levels] = 1 AS one_root,
	s.entries = (SELECT sum(entries) FROM spfresh_postings('items_v') WHERE level = 0) AS entries_agree,
	s.upper_entries = (SELECT sum(entries) FROM spfresh_postings('items_v') WHERE level > 0) AS upper_agree,
	s.posting_max_entries = (SELECT max(entries) FROM spfresh_postings('items_v') WHERE level = 0) AS max_agrees,
	abs(s.posting_avg_entries - s.entries::float8 / s.postings) < 0.001 AS avg_agrees,
	s.centroids = s.postings + (SELECT sum(p) FROM unnest(s.postings_by_level[2:s.levels - 1]) p) AS centroids,
	s.total_bytes = pg_relation_size('items_v') AS total,
	-- all but the meta page
	s.record_bytes + s.posting_bytes + s.tid_bytes + s.free_bytes + current_setting('block_size')::int = s.total_bytes AS sum,
	s.tid_bytes > 0 AS tids
FROM spfresh_stats('items_v') s;
SELECT * FROM figures \gx
SELECT calibration_samples > 0 AS samples, calibration_postings = postings AS postings,
	jsonb_typeof(calibration -> 'recall') AS recall, jsonb_array_length(calibration -> 'recall') =
		jsonb_array_length(calibration -> 'probes' -> '10') AS probes
FROM spfresh_stats('items_v');
SELECT bool_and(min_distance <= avg_distance AND avg_distance <= max_distance AND min_distance >= 0) AS distances,
	bool_and(pages >= 1 AND generation > 0 AND block > 0) AS places, bool_and(split_at >= 40) AS split_at,
	count(*) FILTER (WHERE centroid_block IS NULL) AS roots, sum(stale_entries) AS stale
FROM spfresh_postings('items_v');

-- changes show
INSERT INTO items SELECT i, i % 5, point(i, 24) FROM generate_series(3001, 6000) i;
SELECT splits > 0 AS splits, retired_postings > 0 AS retired FROM spfresh_stats('items_v');
DELETE FROM items WHERE id % 2 = 0;
VACUUM (INDEX_CLEANUP on) items;
SELECT * FROM figures \gx
SELECT swept_entries > 0 AS swept, free_bytes > 0 OR retired_postings > 0 AS free FROM spfresh_stats('items_v');

-- what a scan did
SELECT cardinality(tids) FROM search('items_v', flat(0.1, 24)::text, 3);
SELECT index, nprobe > 0 AS nprobe, rounds >= 1 AS rounds, cardinality(probes_by_level) >= 2 AS levels, probes_by_level[1] > 0 AS probes,
	pages > 0 AS pages, entries > 0 AS entries, records > 0 AS records, rows >= 3 AS rows, gone, emitted
FROM spfresh_last_scan();

-- recall: of everything probed it is 1, or nearly: bounds of entries are but probable
SET spfresh.nprobe = 1000000;
SELECT recall > 0.95 AS recall, min_recall > 0.7 AS min, queries, neighbors FROM spfresh_recall('items_v', 10, 5);
SELECT recall > 0.95 AS recall, min_recall > 0.9 AS min, queries, neighbors FROM spfresh_recall('items_v', samples => 3, k => 200);
-- of little, less; the settings tell
SET spfresh.nprobe = 1;
SELECT recall < 1 AND recall > 0 AS recall, min_recall <= recall AS min, queries, avg_nprobe < 200 AS nprobe FROM spfresh_recall('items_v', 20, 100);
RESET spfresh.nprobe;
SELECT recall > 0.8 AS recall, queries, neighbors FROM spfresh_recall('items_v');
-- with fewer rows than asked for
CREATE TABLE few (v halfvec(3));
CREATE INDEX few_v ON few USING spfresh (v halfvec_cosine_ops);
INSERT INTO few VALUES ('[1,2,3]'), ('[3,2,1]'), ('[0,0,0]'), (NULL);
SELECT recall, queries, neighbors FROM spfresh_recall('few_v');
-- of expressions and parts, each by its own index though there are others
CREATE INDEX items_part ON items USING spfresh (v vector_ip_ops) WHERE kind = 3 AND id > 10;
CREATE INDEX "items, by half" ON items USING spfresh ((v::halfvec(24)) halfvec_cosine_ops) WHERE v IS NOT NULL;
SET spfresh.nprobe = 1000000;
SELECT recall > 0.95 AS recall, queries, neighbors FROM spfresh_recall('items_part', 10, 20);
SELECT index FROM spfresh_last_scan();
SELECT recall > 0.95 AS recall, queries, neighbors FROM spfresh_recall('"items, by half"', 10, 20);
SELECT index FROM spfresh_last_scan();
SELECT recall > 0.95 AS recall, queries, neighbors FROM spfresh_recall('items_v', 10, 20);
SELECT index FROM spfresh_last_scan();
RESET spfresh.nprobe;
-- other names than usual, and a search path that does not show them
CREATE SCHEMA "My Schema";
CREATE TABLE "My Schema"."a table" ("the ""column""" vector(2));
CREATE INDEX "an index" ON "My Schema"."a table" USING spfresh ("the ""column""");
INSERT INTO "My Schema"."a table" SELECT point(i, 2) FROM generate_series(1, 100) i;
SELECT recall > 0.9 AS recall, queries FROM spfresh_recall('"My Schema"."an index"', 5);
SET search_path = pg_catalog;
SELECT recall > 0.9 AS recall, queries FROM public.spfresh_recall('"My Schema"."an index"', 5);
SET search_path = inspect, public;
-- whatever the planner would rather do
SET enable_indexscan = off;
SELECT recall, queries FROM spfresh_recall('few_v');
RESET enable_indexscan;
SELECT spfresh_recall('items_v', 0);
SELECT spfresh_recall('items_v', 100001);
SELECT spfresh_recall('items_v', 10, 0);
SELECT spfresh_recall('items_v', 10, 100001);

-- what is no such index
CREATE INDEX items_id ON items (id);
CREATE TABLE parted (v vector(3)) PARTITION BY RANGE (v);
CREATE INDEX parted_v ON parted USING spfresh (v);
SELECT spfresh_stats('items');
SELECT spfresh_stats('items_id');
SELECT spfresh_stats('parted_v');
SELECT spfresh_postings('items');
SELECT spfresh_recall('items_id');
SELECT spfresh_stats(1);
SELECT spfresh_stats(NULL);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_part'::regclass;
SELECT spfresh_stats('items_part');
UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'items_part'::regclass;

-- who may
CREATE ROLE regress_spfresh_nobody;
CREATE ROLE regress_spfresh_monitor IN ROLE pg_stat_scan_tables;
CREATE ROLE regress_spfresh_owner;
GRANT USAGE ON SCHEMA inspect TO regress_spfresh_nobody, regress_spfresh_monitor, regress_spfresh_owner;
ALTER TABLE few OWNER TO regress_spfresh_owner;
SET ROLE regress_spfresh_nobody;
SELECT spfresh_stats('few_v');
SELECT spfresh_postings('few_v');
SELECT spfresh_recall('few_v');
SET ROLE regress_spfresh_monitor;
SELECT rows FROM spfresh_stats('few_v');
SELECT entries FROM spfresh_postings('few_v');
SELECT spfresh_recall('few_v');
SET ROLE regress_spfresh_owner;
SELECT rows FROM spfresh_stats('few_v');
SELECT recall FROM spfresh_recall('few_v');
RESET ROLE;
SELECT recall FROM spfresh_recall('few_v');

SET client_min_messages = warning;
DROP SCHEMA inspect, "My Schema" CASCADE;
DROP ROLE regress_spfresh_nobody, regress_spfresh_monitor, regress_spfresh_owner;
