CREATE SCHEMA "check";
SET search_path = "check", public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common

-- what is checked is counted
CREATE TABLE items (id int, v vector(12)) WITH (autovacuum_enabled = off);
CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 24);
SELECT * FROM spfresh_check('items_v') \gx
INSERT INTO items VALUES (-1, NULL);
SELECT pages, index_rows, compared_rows, table_rows FROM spfresh_check('items_v');
INSERT INTO items SELECT i, point(i, 12) FROM generate_series(1, 2000) i;
INSERT INTO items SELECT 10000 + i, point(3, 12) FROM generate_series(1, 1500) i;
CREATE VIEW counts AS SELECT
	c.pages * current_setting('block_size')::int = s.total_bytes AS pages,
	c.postings = (SELECT sum(p) FROM unnest(s.postings_by_level) p) AS postings,
	c.entries = s.entries + s.upper_entries AS entries,
	c.records = s.records AS records, c.index_rows = s.rows AS same_rows,
	c.index_rows, c.compared_rows, c.table_rows, c.unreachable_pages, c.unreachable_records
FROM spfresh_check('items_v') c, spfresh_stats('items_v') s;
SELECT * FROM counts \gx
SELECT index_rows, compared_rows, table_rows FROM spfresh_check('items_v', heapallindexed => false);

-- dead rows, vacuumed or not; rows changed in place and moved
DELETE FROM items WHERE id % 3 = 0;
UPDATE items SET id = id + 1 WHERE id % 3 = 1;
UPDATE items SET v = point(id + 5, 12) WHERE id % 5 = 1;
SELECT index_rows > table_rows AS more, compared_rows, table_rows FROM spfresh_check('items_v');
VACUUM (INDEX_CLEANUP on) items;
SELECT * FROM counts \gx
INSERT INTO items SELECT i, point(i, 12) FROM generate_series(3000, 4000) i;
SELECT * FROM counts \gx
REINDEX INDEX items_v;
SELECT * FROM counts \gx

-- within a transaction: its own rows count, those of subtransactions that failed do not
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM items;
INSERT INTO items SELECT i, point(i, 12) FROM generate_series(5000, 5100) i;
SAVEPOINT a;
INSERT INTO items SELECT i, point(i, 12) FROM generate_series(6000, 6100) i;
ROLLBACK TO a;
SELECT index_rows - table_rows AS more, compared_rows = table_rows - 1 AS compared FROM spfresh_check('items_v');
ROLLBACK;
SELECT compared_rows = table_rows - 1 AS compared FROM spfresh_check('items_v');

-- little memory: one part of the index after the other
SET maintenance_work_mem = '1MB';
SELECT * FROM counts \gx
RESET maintenance_work_mem;

-- expressions, predicates, all metrics, temporary and unlogged tables
CREATE UNLOGGED TABLE kinds (id int, v vector(9), h halfvec(9)) WITH (autovacuum_enabled = off);
INSERT INTO kinds SELECT i, point(i, 9), point(-i, 9)::halfvec FROM generate_series(1, 700) i;
INSERT INTO kinds VALUES (0, flat(0, 9), NULL);
CREATE INDEX kinds_1 ON kinds USING spfresh (v vector_cosine_ops) WITH (replicas = 4, code_bits = 1);
CREATE INDEX kinds_2 ON kinds USING spfresh (v vector_ip_ops) WITH (replicas = 1, code_bits = 4);
CREATE INDEX kinds_3 ON kinds USING spfresh (h) WITH (split_limit = 16) WHERE id % 2 = 0;
CREATE INDEX kinds_4 ON kinds USING spfresh ((v::halfvec(9)) halfvec_cosine_ops) WITH (code_bits = 3);
CREATE INDEX kinds_5 ON kinds USING spfresh (h halfvec_ip_ops);
CREATE INDEX kinds_6 ON kinds USING spfresh ((subvector(v, 1, 3)::vector(3))) WHERE id > 100;
INSERT INTO kinds SELECT i, point(i, 9), point(-i, 9)::halfvec FROM generate_series(701, 1200) i;
SELECT n, index_rows, compared_rows, table_rows
FROM generate_series(1, 6) n, spfresh_check(('kinds_' || n)::regclass);
CREATE TEMP TABLE mine AS SELECT * FROM kinds;
CREATE INDEX mine_v ON mine USING spfresh (v);
SELECT index_rows, compared_rows, table_rows FROM spfresh_check('mine_v');

-- extreme values
CREATE TABLE extreme (v vector(3));
CREATE INDEX extreme_v ON extreme USING spfresh (v);
INSERT INTO extreme VALUES ('[0,0,0]'), ('[3e38,-3e38,3e38]'), ('[1e-45,0,0]'), ('[1e30,1,1e-30]'), ('[1e19,1e19,1e19]');
SELECT index_rows, compared_rows, table_rows FROM spfresh_check('extreme_v');
REINDEX INDEX extreme_v;
SELECT index_rows, compared_rows, table_rows FROM spfresh_check('extreme_v');

-- What is wrong is found.  Functions that are not what they say make indexes that are not, either; what
-- damaged pages give is for t/010_corruption.pl.
CREATE FUNCTION lie(id int) RETURNS bool LANGUAGE sql IMMUTABLE AS
$$ SELECT id % 10 <> coalesce(nullif(current_setting('chk.lie', true), '')::int, -1) $$;
CREATE FUNCTION lie(id int, v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE AS
$$ BEGIN
	IF id <> 7 THEN RETURN v; END IF;
	RETURN CASE current_setting('chk.lie', true)
		WHEN 'null' THEN NULL WHEN 'other' THEN '[9,9,9]' WHEN 'long' THEN '[1,2,3,4]'
		WHEN 'close' THEN '[1.1,2,3]' ELSE '[1,2,3]' END::public.vector;
END $$;
-- what is said, but for addresses within the index, which depend on the processor
CREATE FUNCTION complaint(index regclass) RETURNS text LANGUAGE plpgsql AS
$$ DECLARE what text;
BEGIN
	RETURN format('sound, %s rows', compared_rows) FROM spfresh_check(index);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS what = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' / ', SQLSTATE, regexp_replace(SQLERRM, 'block \d+', 'block N'),
		regexp_replace(what, 'record at \(\d+,\d+\)', 'record at (B,O)'));
END $$;
CREATE TABLE lies (id int, v vector(3));
INSERT INTO lies SELECT i, point(i, 3) FROM generate_series(1, 20) i;
SET chk.lie = 3;
CREATE INDEX lies_part ON lies USING spfresh (v) WHERE lie(id);
SELECT complaint('lies_part');
SET chk.lie = 4;
SELECT complaint('lies_part');
SET chk.lie = -2;
SELECT complaint('lies_part');
SELECT index_rows FROM spfresh_check('lies_part', false);
SET chk.lie = '';
CREATE INDEX lies_v ON lies USING spfresh (lie(id, v));
SELECT complaint('lies_v');
SET chk.lie = 'other';
SELECT complaint('lies_v');
SET chk.lie = 'close';
SELECT complaint('lies_v');
SET chk.lie = 'null';
SELECT complaint('lies_v');
SET chk.lie = 'long';
SELECT complaint('lies_v');
RESET chk.lie;

-- what cannot be checked, and who cannot check
CREATE INDEX items_id ON items (id);
SELECT spfresh_check('items');
SELECT spfresh_check('items_id');
SELECT spfresh_check(1);
SELECT spfresh_check(NULL) IS NULL AS nothing;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'lies_v'::regclass;
SELECT spfresh_check('lies_v');
CREATE ROLE regress_spfresh_check IN ROLE pg_stat_scan_tables;
GRANT USAGE ON SCHEMA "check" TO regress_spfresh_check;
SET ROLE regress_spfresh_check;
SELECT spfresh_check('extreme_v');
RESET ROLE;
ALTER TABLE extreme OWNER TO regress_spfresh_check;
SET ROLE regress_spfresh_check;
SELECT compared_rows FROM spfresh_check('extreme_v');
RESET ROLE;
-- an index's own code runs as its owner, with no more rights than that
CREATE TABLE secret (x int);
CREATE FUNCTION curious(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v; END';
CREATE INDEX extreme_curious ON extreme USING spfresh (curious(v));
CREATE OR REPLACE FUNCTION curious(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE AS
$$ BEGIN PERFORM x FROM "check".secret; RETURN v; END $$;
\set VERBOSITY terse
SELECT spfresh_check('extreme_curious');
SELECT spfresh_recall('extreme_curious');
SET client_min_messages = warning;
DROP SCHEMA "check" CASCADE;
DROP ROLE regress_spfresh_check;
