CREATE SCHEMA vacuum;
SET search_path = vacuum, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common

-- of nothing
CREATE TABLE items (id int, v vector(8)) WITH (autovacuum_enabled = off);
CREATE INDEX items_v ON items USING spfresh (v);
VACUUM items;
INSERT INTO items VALUES (1, NULL);
VACUUM items;
DELETE FROM items;
VACUUM items;
SELECT complete('items_v');

-- some deleted: they are gone from the index, and what it tells the planner is true
INSERT INTO items SELECT i, point(i, 8) FROM generate_series(1, 5000) i;
VACUUM items;
SELECT reltuples FROM pg_class WHERE oid = 'items_v'::regclass;
DELETE FROM items WHERE id % 4 = 0;
SELECT rows FROM spfresh_stats('items_v');
VACUUM items;
-- what the first one put elsewhere, another one takes out
SELECT txid_current() > 0 AS later;
VACUUM items;
SELECT records, rows, stale_entries FROM spfresh_stats('items_v');
SELECT reltuples FROM pg_class WHERE oid = 'items_v'::regclass;
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');
ANALYZE items;
SELECT reltuples FROM pg_class WHERE oid = 'items_v'::regclass;
SELECT relpages = pg_relation_size('items_v') / current_setting('block_size')::int AS pages FROM pg_class WHERE oid = 'items_v'::regclass;

-- all deleted
DELETE FROM items;
VACUUM items;
SELECT records, rows FROM spfresh_stats('items_v');
SELECT complete('items_v');
SELECT reltuples FROM pg_class WHERE oid = 'items_v'::regclass;

-- space is used again: however often rows are replaced, the index grows little
INSERT INTO items SELECT i, point(i, 8) FROM generate_series(1, 3000) i;
SELECT pg_relation_size('items_v') AS before \gset
DO $$
BEGIN
	FOR round IN 1..3 LOOP
		DELETE FROM items;
	END LOOP;
END $$;
VACUUM items;
VACUUM items;
INSERT INTO items SELECT i, point(i, 8) FROM generate_series(10001, 13000) i;
DELETE FROM items;
VACUUM items;
VACUUM items;
INSERT INTO items SELECT i, point(i, 8) FROM generate_series(20001, 23000) i;
DELETE FROM items;
VACUUM items;
VACUUM items;
INSERT INTO items SELECT i, point(i, 8) FROM generate_series(30001, 33000) i;
DELETE FROM items WHERE id % 2 = 0;
VACUUM items;
INSERT INTO items SELECT i, point(i, 8) FROM generate_series(40001, 41500) i;
SELECT pg_relation_size('items_v') < :before * 2 AS bounded;
SELECT rows FROM spfresh_stats('items_v');
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');

-- a large transaction that was rolled back
BEGIN;
INSERT INTO items SELECT i, point(i, 8) FROM generate_series(50001, 53000) i;
ROLLBACK;
VACUUM items;
SELECT rows FROM spfresh_stats('items_v');
SELECT complete('items_v');

-- the table written anew
VACUUM FULL items;
SELECT rows FROM spfresh_stats('items_v');
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');
ALTER TABLE items ADD COLUMN extra int DEFAULT random() * 0;
SELECT complete('items_v');

-- rows of equal vectors, more than a record holds

CREATE TABLE equal (id int, v vector(8)) WITH (autovacuum_enabled = off);
CREATE INDEX equal_v ON equal USING spfresh (v);
INSERT INTO equal SELECT i, flat(i % 2, 8) FROM generate_series(1, 10000) i;
SELECT records, rows FROM spfresh_stats('equal_v');
DELETE FROM equal WHERE id % 3 = 0;
VACUUM equal;
SELECT records, rows FROM spfresh_stats('equal_v');
SELECT complete('equal_v');
DELETE FROM equal WHERE id % 2 = 0 AND id <> 5000;
VACUUM equal;
SELECT records, rows FROM spfresh_stats('equal_v');
SELECT cardinality(tids), distances FROM search('equal_v', flat(0, 8)::text, 2);
SELECT complete('equal_v');
DELETE FROM equal WHERE id % 2 = 0;
VACUUM equal;
SELECT records, rows FROM spfresh_stats('equal_v');
DELETE FROM equal;
VACUUM equal;
SELECT records, rows FROM spfresh_stats('equal_v');
-- first in, first out, of one and the same vector
SELECT pg_relation_size('equal_v') AS before \gset
INSERT INTO equal SELECT i, flat(1, 8) FROM generate_series(1, 5000) i;
DELETE FROM equal WHERE id <= 4000;
VACUUM equal;
INSERT INTO equal SELECT i, flat(1, 8) FROM generate_series(5001, 9000) i;
DELETE FROM equal WHERE id <= 8000;
VACUUM equal;
INSERT INTO equal SELECT i, flat(1, 8) FROM generate_series(9001, 13000) i;
DELETE FROM equal WHERE id <= 12000;
VACUUM equal;
INSERT INTO equal SELECT i, flat(1, 8) FROM generate_series(13001, 17000) i;
SELECT records, rows FROM spfresh_stats('equal_v');
SELECT pg_relation_size('equal_v') <= :before * 1.5 AS bounded;
SELECT complete('equal_v');

-- kinds of tables, indexes and vacuums

CREATE TEMP TABLE temporary (id int, v halfvec(8));
CREATE INDEX temporary_v ON temporary USING spfresh (v halfvec_cosine_ops) WHERE id % 2 = 0;
INSERT INTO temporary SELECT i, point(i, 8)::halfvec FROM generate_series(1, 2000) i;
DELETE FROM temporary WHERE id % 5 = 0;
VACUUM temporary;
SELECT rows FROM spfresh_stats('temporary_v');
SELECT complete('temporary_v');

CREATE UNLOGGED TABLE unlogged (id int, v vector(8)) WITH (autovacuum_enabled = off);
CREATE INDEX unlogged_v ON unlogged USING spfresh (v);
CREATE INDEX unlogged_ip ON unlogged USING spfresh (v vector_ip_ops);
INSERT INTO unlogged SELECT i, point(i, 8) FROM generate_series(1, 2000) i;
DELETE FROM unlogged WHERE id % 5 = 0;
SET maintenance_work_mem = '1MB';
SET min_parallel_index_scan_size = 0;
VACUUM (PARALLEL 2, INDEX_CLEANUP on) unlogged;
SELECT rows FROM spfresh_stats('unlogged_v');
SELECT rows FROM spfresh_stats('unlogged_ip');
SELECT complete('unlogged_v'), complete('unlogged_ip');
DELETE FROM unlogged WHERE id % 3 = 0;
VACUUM (INDEX_CLEANUP off) unlogged;
SELECT complete('unlogged_v');
VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) unlogged;
SELECT rows FROM spfresh_stats('unlogged_v');
SELECT complete('unlogged_v');

-- rows updated over and over, other columns and the vector
CREATE TABLE updated (id int, n int, v vector(8)) WITH (autovacuum_enabled = off);
CREATE INDEX updated_v ON updated USING spfresh (v);
CREATE INDEX updated_n ON updated (n);
INSERT INTO updated SELECT i, 0, point(i, 8) FROM generate_series(1, 2000) i;
UPDATE updated SET n = n + 1;
VACUUM updated;
UPDATE updated SET n = n + 1, v = point(id + 1000, 8);
VACUUM updated;
SELECT pg_relation_size('updated_v') AS before \gset
UPDATE updated SET n = n + 1;
VACUUM updated;
UPDATE updated SET n = n + 1, v = point(id + 2000, 8);
VACUUM updated;
UPDATE updated SET n = n + 1, v = point(id + 3000, 8);
VACUUM updated;
UPDATE updated SET n = n + 1;
VACUUM updated;
SELECT rows FROM spfresh_stats('updated_v');
SELECT pg_relation_size('updated_v') <= :before * 1.4 AS bounded, complete('updated_v');
