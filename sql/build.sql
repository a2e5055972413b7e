CREATE SCHEMA build;
SET search_path = build, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common

-- the smallest tables

CREATE TABLE empty (v vector(3));
CREATE INDEX ON empty USING spfresh (v);
SELECT complete('empty_v_idx');
SELECT uses('empty_v_idx', 'SELECT * FROM empty ORDER BY v <-> ''[1,2,3]''');
SET enable_seqscan = off;
SELECT * FROM empty ORDER BY v <-> '[1,2,3]';
INSERT INTO empty VALUES ('[1,2,3]'), ('[1,2,4]'), (NULL);
SELECT * FROM empty ORDER BY v <-> '[1,2,5]';

CREATE TABLE one (v vector(3));
INSERT INTO one VALUES ('[1,2,3]');
CREATE INDEX ON one USING spfresh (v);
SELECT v, v <-> '[1,2,5]' AS distance FROM one ORDER BY v <-> '[1,2,5]';
INSERT INTO one VALUES ('[1,2,4]');
SELECT v, v <-> '[1,2,5]' AS distance FROM one ORDER BY v <-> '[1,2,5]';

CREATE TABLE nulls (v vector(3));
INSERT INTO nulls SELECT NULL FROM generate_series(1, 1000);
CREATE INDEX ON nulls USING spfresh (v);
SELECT * FROM nulls ORDER BY v <-> '[1,2,3]';
INSERT INTO nulls VALUES ('[1,2,3]');
SELECT * FROM nulls ORDER BY v <-> '[1,2,3]';
REINDEX INDEX nulls_v_idx;
SELECT * FROM nulls ORDER BY v <-> '[1,2,3]';
RESET enable_seqscan;

-- all rows equal: they share records

CREATE TABLE equal (id int, v vector(8));
INSERT INTO equal SELECT i, flat(1, 8) FROM generate_series(1, 10000) i;
CREATE INDEX ON equal USING spfresh (v);
SELECT complete('equal_v_idx');
SELECT pg_relation_size('equal_v_idx') < pg_relation_size('equal') / 4 AS small;
SELECT cardinality(tids), distances[1] = 0 AND distances[25] = 0 AS equal FROM search('equal_v_idx', flat(1, 8)::text, 25);

-- few distinct vectors, many postings asked for
CREATE TABLE few (id int, v vector(8));
INSERT INTO few SELECT i, flat(i % 7, 8) FROM generate_series(1, 3000) i;
CREATE INDEX ON few USING spfresh (v) WITH (initial_postings = 100000);
SELECT complete('few_v_idx');
SELECT recall('few_v_idx', 10, 10);
DROP INDEX few_v_idx;
DELETE FROM few WHERE id > 5;
CREATE INDEX ON few USING spfresh (v) WITH (initial_postings = 1000, replicas = 8);
SELECT complete('few_v_idx');

-- clustered rows, every operator class

CREATE TABLE items (id int, v vector(16), h halfvec(16));
INSERT INTO items SELECT i, p, p::halfvec(16) FROM generate_series(1, 10000) i, point(i, 16) p;
CREATE INDEX v_l2 ON items USING spfresh (v);
CREATE INDEX v_ip ON items USING spfresh (v vector_ip_ops);
CREATE INDEX v_cosine ON items USING spfresh (v vector_cosine_ops);
CREATE INDEX h_l2 ON items USING spfresh (h);
CREATE INDEX h_ip ON items USING spfresh (h halfvec_ip_ops);
CREATE INDEX h_cosine ON items USING spfresh (h halfvec_cosine_ops);
SELECT index, recall(index, 20, 10) >= 0.85 AS recall, complete(index)
FROM unnest('{v_l2,v_ip,v_cosine,h_l2,h_ip,h_cosine}'::regclass[]) index;
DROP INDEX v_ip, v_cosine, h_l2, h_ip, h_cosine;

-- what the planner is told of it
SELECT reltuples, relpages = pg_relation_size('v_l2') / current_setting('block_size')::int AS relpages
FROM pg_class WHERE oid = 'v_l2'::regclass;

-- in little memory it spills, and comes to the same
SET maintenance_work_mem = '1MB';
CREATE INDEX little ON items USING spfresh (v);
RESET maintenance_work_mem;
DROP INDEX v_l2;
SELECT recall('little', 20, 10) >= 0.85 AS recall, complete('little');
SELECT reltuples FROM pg_class WHERE oid = 'little'::regclass;
DROP INDEX little;

-- every storage parameter
CREATE INDEX v_options ON items USING spfresh (v)
	WITH (replicas = 1, code_bits = 4, split_limit = 20, merge_limit = 5, reassign_range = 4, initial_postings = 300, fillfactor = 70);
SELECT recall('v_options', 20, 10) >= 0.85 AS recall, complete('v_options');
SELECT replicas, code_bits, split_limit, merge_limit, postings >= 300 AS postings, entries = records AS one_each FROM spfresh_stats('v_options');
SELECT pg_get_indexdef('v_options'::regclass);
DROP INDEX v_options;
CREATE INDEX v_options ON items USING spfresh (v) WITH (replicas = 8, code_bits = 1, split_limit = 10000);
SELECT recall('v_options', 20, 10) >= 0.85 AS recall, complete('v_options');
SELECT replicas, code_bits, split_limit, postings FROM spfresh_stats('v_options');
DROP INDEX v_options;
CREATE INDEX v_options ON items USING spfresh (v) WITH (split_limit = 8, code_bits = 3, replicas = 8);
SELECT recall('v_options', 20, 10) >= 0.85 AS recall, complete('v_options');
-- so many replicas want larger postings
SELECT replicas, code_bits, split_limit, levels BETWEEN 2 AND 8 AS levels, entries::float8 / records BETWEEN 7 AND 8 AS replicas FROM spfresh_stats('v_options');
DROP INDEX v_options;

-- fillfactor leaves room
CREATE INDEX tight ON items USING spfresh (v);
CREATE INDEX loose ON items USING spfresh (v) WITH (fillfactor = 50);
SELECT pg_relation_size('loose') > pg_relation_size('tight') AS larger;
DROP INDEX tight, loose;

-- partial, expression

CREATE INDEX v_part ON items USING spfresh (v) WHERE id % 3 = 0;
SELECT recall('v_part', 20, 10) >= 0.85 AS recall, complete('v_part');
SELECT reltuples FROM pg_class WHERE oid = 'v_part'::regclass;
SELECT uses('v_part', 'SELECT * FROM items ORDER BY v <-> ''[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]''');
-- a predicate alone is no reason to scan it
SET enable_seqscan = off;
SELECT uses('v_part', 'SELECT * FROM items WHERE id % 3 = 0'), uses('v_part', 'SELECT count(*) FROM items WHERE id % 3 = 0');
SELECT count(*) FROM items WHERE id % 3 = 0;
RESET enable_seqscan;
DROP INDEX v_part;

CREATE INDEX v_expr ON items USING spfresh ((subvector(v, 1, 8)::halfvec(8)) halfvec_cosine_ops);
SELECT recall('v_expr', 20, 10) >= 0.85 AS recall, complete('v_expr');
DROP INDEX v_expr;

-- an expression that fails
CREATE INDEX ON items USING spfresh ((v::vector(4)));

-- dead rows, updated rows, rows of this transaction
BEGIN;
CREATE TABLE dead (id int, v vector(4));
INSERT INTO dead SELECT i, point(i, 4) FROM generate_series(1, 1000) i;
DELETE FROM dead WHERE id <= 500;
SAVEPOINT a;
INSERT INTO dead SELECT i, point(i, 4) FROM generate_series(2001, 2100) i;
ROLLBACK TO a;
CREATE INDEX ON dead USING spfresh (v);
SELECT complete('dead_v_idx');
COMMIT;
UPDATE dead SET v = point(-id, 4) WHERE id > 900;
SELECT complete('dead_v_idx');
-- strict order leaves out what is found too late
SELECT cardinality(tids) BETWEEN 250 AND 500 AS most FROM search('dead_v_idx', '[0,0,0,0]', NULL);
DELETE FROM dead;
REINDEX INDEX dead_v_idx;
SELECT cardinality(tids) FROM search('dead_v_idx', '[0,0,0,0]', NULL);

-- REINDEX, CONCURRENTLY

CREATE INDEX CONCURRENTLY v_conc ON items USING spfresh (v);
SELECT recall('v_conc', 20, 10) >= 0.85 AS recall, complete('v_conc');
DELETE FROM items WHERE id % 2 = 0;
INSERT INTO items SELECT i, p, p::halfvec(16) FROM generate_series(20001, 21000) i, point(i, 16) p;
REINDEX INDEX v_conc;
SELECT recall('v_conc', 20, 10) >= 0.85 AS recall, complete('v_conc');
REINDEX INDEX CONCURRENTLY v_conc;
SELECT recall('v_conc', 20, 10) >= 0.85 AS recall, complete('v_conc');
SELECT indisvalid FROM pg_index WHERE indexrelid = 'v_conc'::regclass;
TRUNCATE items;
SELECT complete('v_conc'), pg_relation_size('v_conc');
INSERT INTO items SELECT i, p, p::halfvec(16) FROM generate_series(1, 1000) i, point(i, 16) p;
SELECT recall('v_conc', 20, 10) >= 0.85 AS recall, complete('v_conc');

-- a table of more pages than are looked at first, partly empty, with NULLs
CREATE TABLE pages (id int, v vector(16), filler text) WITH (autovacuum_enabled = off);
INSERT INTO pages SELECT i, CASE WHEN i % 10 > 0 THEN point(i, 16) END, repeat('x', 1000) FROM generate_series(1, 4000) i;
DELETE FROM pages WHERE id % 3 = 0 OR id < 1000;
SELECT pg_relation_size('pages') / 8192 > 400 AS large;
CREATE INDEX pages_v ON pages USING spfresh (v) WITH (initial_postings = 40);
SELECT recall('pages_v', 20, 10) >= 0.85 AS recall, complete('pages_v');
REINDEX INDEX CONCURRENTLY pages_v;
SELECT recall('pages_v', 20, 10) >= 0.85 AS recall, complete('pages_v');
DROP INDEX pages_v;
SET maintenance_work_mem = '1MB';
CREATE INDEX CONCURRENTLY pages_v ON pages USING spfresh (v);
RESET maintenance_work_mem;
SELECT recall('pages_v', 20, 10) >= 0.85 AS recall, complete('pages_v');

-- unlogged, temporary

CREATE UNLOGGED TABLE unlogged (id int, v vector(4));
INSERT INTO unlogged SELECT i, point(i, 4) FROM generate_series(1, 2000) i;
CREATE INDEX ON unlogged USING spfresh (v);
INSERT INTO unlogged SELECT i, point(i, 4) FROM generate_series(2001, 4000) i;
SELECT recall('unlogged_v_idx', 20, 10) >= 0.85 AS recall, complete('unlogged_v_idx');
ALTER TABLE unlogged SET LOGGED;
SELECT recall('unlogged_v_idx', 20, 10) >= 0.85 AS recall, complete('unlogged_v_idx');
CREATE UNLOGGED TABLE unlogged_empty (v vector(4));
CREATE INDEX ON unlogged_empty USING spfresh (v);
INSERT INTO unlogged_empty SELECT point(i, 4) FROM generate_series(1, 100) i;
SELECT complete('unlogged_empty_v_idx');

CREATE TEMP TABLE temporary (id int, v vector(4)) ON COMMIT DELETE ROWS;
CREATE INDEX ON temporary USING spfresh (v);
BEGIN;
INSERT INTO temporary SELECT i, point(i, 4) FROM generate_series(1, 2000) i;
SELECT recall('temporary_v_idx', 20, 10) >= 0.85 AS recall, complete('temporary_v_idx');
COMMIT;
SELECT complete('temporary_v_idx');

-- rolled back: nothing stays
BEGIN;
CREATE INDEX gone ON unlogged USING spfresh (v);
ROLLBACK;
SELECT to_regclass('gone');

-- dimensions

SET enable_seqscan = off;
CREATE TABLE loose_dims (v vector);
INSERT INTO loose_dims VALUES ('[1,2,3]'), ('[1,2]');
CREATE INDEX ON loose_dims USING spfresh (v);
DELETE FROM loose_dims WHERE v = '[1,2]';
CREATE INDEX ON loose_dims USING spfresh (v);
INSERT INTO loose_dims VALUES ('[1,2]');
INSERT INTO loose_dims VALUES ('[1,2,4]'), (NULL);
SELECT v FROM loose_dims ORDER BY v <-> '[1,2,5]';
DROP INDEX loose_dims_v_idx;
TRUNCATE loose_dims;
CREATE INDEX ON loose_dims USING spfresh (v);
INSERT INTO loose_dims VALUES ('[1]'), ('[2]');
INSERT INTO loose_dims VALUES ('[1,2,3]');
SELECT v FROM loose_dims ORDER BY v <-> '[2]';
-- a rolled back first row has fixed them all the same
TRUNCATE loose_dims;
BEGIN;
INSERT INTO loose_dims VALUES ('[1,2,3]');
ROLLBACK;
INSERT INTO loose_dims VALUES ('[1,2]');
REINDEX INDEX loose_dims_v_idx;
INSERT INTO loose_dims VALUES ('[1,2]');
-- and within a transaction that made the storage anew, and is rolled back
BEGIN;
TRUNCATE loose_dims;
INSERT INTO loose_dims VALUES ('[1,2,3,4]');
SELECT cardinality(tids) FROM search('loose_dims_v_idx', '[1,2,3,4]', NULL);
ROLLBACK;
SELECT cardinality(tids) FROM search('loose_dims_v_idx', '[1,2]', NULL);

-- zero vectors have no direction

CREATE TABLE zeros (id int, v vector(3));
INSERT INTO zeros VALUES (1, '[0,0,0]'), (2, '[1,1,1]'), (3, '[0,0,0]'), (4, '[1,1,0]');
CREATE INDEX zeros_l2 ON zeros USING spfresh (v);
CREATE INDEX zeros_ip ON zeros USING spfresh (v vector_ip_ops);
CREATE INDEX zeros_cosine ON zeros USING spfresh (v vector_cosine_ops);
SELECT index, cardinality(tids) FROM unnest('{zeros_l2,zeros_ip,zeros_cosine}'::regclass[]) index, search(index, '[1,1,1]', NULL);
INSERT INTO zeros VALUES (5, '[0,0,0]'), (6, '[0,1,1]');
SELECT index, cardinality(tids) FROM unnest('{zeros_l2,zeros_ip,zeros_cosine}'::regclass[]) index, search(index, '[1,1,1]', NULL);
TRUNCATE zeros;
INSERT INTO zeros VALUES (1, '[0,0,0]');
INSERT INTO zeros VALUES (2, '[1,0,0]');
SELECT index, cardinality(tids) FROM unnest('{zeros_l2,zeros_ip,zeros_cosine}'::regclass[]) index, search(index, '[1,1,1]', NULL);
DELETE FROM zeros WHERE id = 2;
REINDEX TABLE zeros;
SELECT index, cardinality(tids) FROM unnest('{zeros_l2,zeros_ip,zeros_cosine}'::regclass[]) index, search(index, '[1,1,1]', NULL);
CREATE TABLE minus_zero (h halfvec(3));
INSERT INTO minus_zero VALUES ('[-0,0,0]'), ('[0,0,0]'), ('[6e-8,0,0]'), ('[65504,0,0]');
CREATE INDEX ON minus_zero USING spfresh (h halfvec_cosine_ops);
CREATE INDEX ON minus_zero USING spfresh (h);
SELECT index, cardinality(tids) FROM unnest('{minus_zero_h_idx,minus_zero_h_idx1}'::regclass[]) index, search(index, '[1,1,1]', NULL);

-- very large and very small numbers
CREATE TABLE extremes (v vector(3));
INSERT INTO extremes VALUES ('[3e38,3e38,3e38]'), ('[-3e38,0,0]'), ('[1e-45,0,0]'), ('[1e-38,1e-38,0]'), ('[0,0,0]'), ('[1e19,1e19,1e19]'), ('[1,1,1]');
CREATE INDEX extremes_l2 ON extremes USING spfresh (v);
CREATE INDEX extremes_ip ON extremes USING spfresh (v vector_ip_ops);
CREATE INDEX extremes_cosine ON extremes USING spfresh (v vector_cosine_ops);
SELECT index, complete(index) FROM unnest('{extremes_l2,extremes_ip,extremes_cosine}'::regclass[]) index;
SET spfresh.iterative_scan = relaxed_order;
SELECT index, cardinality(tids) FROM unnest('{extremes_l2,extremes_ip,extremes_cosine}'::regclass[]) index, search(index, '[-3e38,3e38,1]', NULL);
