CREATE SCHEMA cost;
SET search_path = cost, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common
SET max_parallel_workers_per_gather = 0;

-- how a query is done: the names of the indexes it scans, and the tables read as a whole
CREATE FUNCTION plan(query text) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	line text;
	found text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		found := concat_ws(' ', nullif(found, ''), substring(line FROM 'Seq Scan|(?:Index Scan using|Index Only Scan using|Bitmap Index Scan on) \w+'));
	END LOOP;
	RETURN found;
END
$$;

-- small tables are quicker read as a whole, larger ones not

CREATE TABLE t100 (id int, v vector(16)) WITH (autovacuum_enabled = off);
CREATE INDEX t100_v ON t100 USING spfresh (v);
INSERT INTO t100 SELECT i, point(i, 16) FROM generate_series(1, 100) i;
ANALYZE t100;
SELECT plan('SELECT id FROM t100 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "100 rows";

CREATE TABLE t2000 (id int, v vector(16)) WITH (autovacuum_enabled = off);
INSERT INTO t2000 SELECT i, point(i, 16) FROM generate_series(1, 2000) i;
CREATE INDEX t2000_v ON t2000 USING spfresh (v);
ANALYZE t2000;
SELECT plan('SELECT id FROM t2000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "2000 rows";
SELECT plan('SELECT id FROM t2000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 1500') AS "most of 2000 rows";
SELECT plan('SELECT id FROM t2000 ORDER BY v <-> (SELECT flat(1, 16))') AS "all of 2000 rows";

CREATE TABLE t20000 (id int PRIMARY KEY, category int, v vector(16), filler text) WITH (autovacuum_enabled = off);
INSERT INTO t20000 SELECT i, i % 1000, point(i, 16), repeat('x', 500) FROM generate_series(1, 20000) i;
CREATE INDEX t20000_v ON t20000 USING spfresh (v);
CREATE INDEX t20000_category ON t20000 (category);
VACUUM ANALYZE t20000;
SELECT plan('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 1') AS "LIMIT 1",
	plan('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "LIMIT 10",
	plan('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 100') AS "LIMIT 100",
	plan('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16))') AS "all";
-- a filter that leaves few rows is better done first, one that leaves many later
SELECT plan('SELECT id FROM t20000 WHERE id = 7 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "one",
	plan('SELECT id FROM t20000 WHERE category = 7 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "few",
	plan('SELECT id FROM t20000 WHERE category < 900 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "many";
-- where no other index helps, the table is read as a whole before nearly all of it is searched
CREATE TABLE filtered (id int, r int, v vector(16)) WITH (autovacuum_enabled = off);
INSERT INTO filtered SELECT i, i * 7919 % 1000, point(i, 16) FROM generate_series(1, 20000) i;
CREATE INDEX filtered_v ON filtered USING spfresh (v);
VACUUM ANALYZE filtered;
SELECT plan('SELECT id FROM filtered WHERE r < 500 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "half",
	plan('SELECT id FROM filtered WHERE r < 2 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "0.2 %",
	plan('SELECT id FROM filtered WHERE r < 30 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 1') AS "3 %, LIMIT 1",
	plan('SELECT id FROM filtered WHERE r < 30 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "3 %, LIMIT 10";
-- what does not need order does not need it
SELECT uses('t20000_v', 'SELECT count(*) FROM t20000'), uses('t20000_v', 'SELECT id FROM t20000 WHERE filler = ''y'' LIMIT 1');
-- the more is to be probed, the more it costs
CREATE FUNCTION costs(query text) RETURNS float8 LANGUAGE plpgsql AS
$$
DECLARE
	j json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO j;
	RETURN j->0->'Plan'->>'Total Cost';
END
$$;
SELECT costs('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS normal \gset
SET enable_seqscan = off;
SET spfresh.nprobe = 1;
SELECT costs('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') < :normal AS cheaper;
SET spfresh.nprobe = 300;
SELECT costs('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') > :normal AS dearer;
RESET spfresh.nprobe;
SET spfresh.target_recall = 0.999;
SELECT costs('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') > :normal AS dearer;
RESET spfresh.target_recall;
RESET enable_seqscan;

-- a million rows, or so the catalogs say

BEGIN;
UPDATE pg_class SET reltuples = 1000000 WHERE relname IN ('t20000', 't20000_v', 't20000_pkey', 't20000_category');
SELECT plan('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "LIMIT 10",
	plan('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 1000') AS "LIMIT 1000",
	plan('SELECT id FROM t20000 ORDER BY v <-> (SELECT flat(1, 16))') AS "all",
	plan('SELECT id FROM t20000 WHERE category < 500 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "many",
	plan('SELECT id FROM t20000 WHERE id = 7 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "one";
ROLLBACK;

-- a partial index, where it does
CREATE INDEX t20000_part ON t20000 USING spfresh (v) WHERE category < 300;
ANALYZE t20000;
SELECT plan('SELECT id FROM t20000 WHERE category < 300 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "within",
	plan('SELECT id FROM t20000 WHERE category < 400 ORDER BY v <-> (SELECT flat(1, 16)) LIMIT 10') AS "beyond",
	uses('t20000_part', 'SELECT id FROM t20000 WHERE category < 300') AS "no order";
