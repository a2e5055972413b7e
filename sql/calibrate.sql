CREATE SCHEMA calibrate;
SET search_path = calibrate, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
LOAD 'spfresh';
\i :common

CREATE TABLE items (id int, v vector(16)) WITH (autovacuum_enabled = off);
INSERT INTO items SELECT i, point(i, 16, 40) FROM generate_series(1, 4000) i;
CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 32);

-- how often rows are found that are among the nearest, and what it takes; queries are not rows
CREATE FUNCTION found(target float8, k int, OUT recall float8, OUT entries float8)
LANGUAGE plpgsql SET enable_sort = off AS
$$
DECLARE
	q record;
	mine int[];
	n int := 0;
	more bigint;
BEGIN
	PERFORM set_config('spfresh.target_recall', target::text, true);
	recall := 0;
	entries := 0;
	FOR q IN SELECT query, ids FROM truth LOOP
		mine := ARRAY(SELECT id FROM items ORDER BY v <-> q.query LIMIT k);
		SELECT l.entries INTO more FROM spfresh_last_scan() l;
		entries := entries + more;
		recall := recall + (SELECT count(*) FROM unnest(mine) id WHERE id = ANY (q.ids[:k])) / k::float8;
		n := n + 1;
	END LOOP;
	recall := recall / n;
	entries := entries / n;
END
$$;
CREATE TABLE truth (query vector(16), ids int[]);
CREATE PROCEDURE ask() LANGUAGE plpgsql
SET enable_indexscan = off AS
$$
BEGIN
	TRUNCATE truth;
	INSERT INTO truth
	WITH queries AS MATERIALIZED (SELECT point(i, 16, 40) AS query FROM generate_series(1000001, 1000120) i)
	SELECT query, ARRAY(SELECT id FROM items ORDER BY v <-> query LIMIT 100) AS ids FROM queries;
END
$$;
CALL ask();
-- what is asked for is what is found, as far as 120 queries can tell
CREATE VIEW answers AS
SELECT k, target, recall > target - (CASE k WHEN 1 THEN 0.15 ELSE 0.06 END) AS enough,
	k <> 10 OR recall < greatest(target + 0.08, (target + 1) / 2) AS "not too much", entries
FROM unnest('{1,10,100}'::int[]) k, unnest('{0.8,0.9,0.95,0.99}'::float8[]) target, found(target, k);
SELECT k, bool_and(enough) AS enough, bool_and("not too much") AS "not too much",
	array_agg(entries ORDER BY target) = array_agg(entries ORDER BY entries) AS "more takes more"
FROM answers GROUP BY k ORDER BY k;

-- what is stored: as many numbers as recalls, growing with them
CREATE VIEW calibration AS
SELECT calibration_samples AS samples, calibration_postings = postings AS "of now", calibration FROM spfresh_stats('items_v');
SELECT samples >= 64 AS samples, "of now", name, k, array_length(row, 1) AS numbers,
	row = (SELECT array_agg(x ORDER BY x) FROM unnest(row) x) AS growing
FROM calibration, unnest('{probes,margins}'::text[]) name, jsonb_each(calibration -> name) t(k, numbers),
	translate(numbers::text, '[]', '{}') list, CAST(list AS float8[]) row
ORDER BY name, k::int;

-- an index is measured anew by vacuum and spfresh_rebalance when an eighth of it has changed, and not before
CREATE TABLE before AS SELECT * FROM calibration;
DELETE FROM items WHERE id % 100 = 0;
VACUUM items;
SELECT calibration = (SELECT calibration FROM before) AS "as it was" FROM calibration;
DELETE FROM items WHERE id % 3 = 0;
VACUUM items;
SELECT calibration = (SELECT calibration FROM before) AS "as it was", "of now" FROM calibration;
CALL ask();
SELECT k, bool_and(enough) AS enough FROM answers GROUP BY k ORDER BY k;
TRUNCATE before;
INSERT INTO before SELECT * FROM calibration;
INSERT INTO items SELECT i, point(i, 16, 40) FROM generate_series(5001, 8000) i;
SELECT calibration = (SELECT calibration FROM before) AS "as it was", "of now" FROM calibration;
SELECT left_items >= 0 AS done FROM spfresh_rebalance('items_v');
SELECT calibration = (SELECT calibration FROM before) AS "as it was", "of now" FROM calibration;
CALL ask();
SELECT k, bool_and(enough) AS enough FROM answers GROUP BY k ORDER BY k;

-- an index born empty has no calibration until something looks after it; nor needs one of a single level one
CREATE TABLE born (id int, v vector(16)) WITH (autovacuum_enabled = off);
CREATE INDEX born_v ON born USING spfresh (v) WITH (split_limit = 32);
INSERT INTO born SELECT i, point(i, 16) FROM generate_series(1, 10) i;
VACUUM born;
SELECT levels, calibration_samples, calibration FROM spfresh_stats('born_v');
INSERT INTO born SELECT i, point(i, 16) FROM generate_series(11, 1500) i;
SELECT levels > 1 AS levels, calibration_samples, calibration FROM spfresh_stats('born_v');
VACUUM born;
SELECT levels > 1 AS levels, calibration_samples >= 64 AS samples, calibration IS NOT NULL AS calibrated FROM spfresh_stats('born_v');

-- where distances are all nothing, or all the same
CREATE TABLE same (id int, v vector(16)) WITH (autovacuum_enabled = off);
INSERT INTO same SELECT i, flat(i % 2, 16) FROM generate_series(1, 2000) i;
INSERT INTO same SELECT i, (array_fill(0, ARRAY[i % 16]) || ARRAY[1] || array_fill(0, ARRAY[15 - i % 16]))::vector FROM generate_series(2001, 2500) i;
CREATE INDEX same_v ON same USING spfresh (v) WITH (split_limit = 32);
SELECT cardinality(tids), distances[1], distances[50] FROM search('same_v', flat(1, 16)::text, 50);
SELECT cardinality(tids), distances[1], distances[50] FROM search('same_v', flat(0, 16)::text, 50);

SET client_min_messages = warning;
DROP SCHEMA calibrate CASCADE;
