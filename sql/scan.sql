CREATE SCHEMA scan;
SET search_path = scan, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common

-- a line of points, and everything probed: what is expected can be told by heart
CREATE TABLE line (id int PRIMARY KEY, v vector(3), tag text);
INSERT INTO line SELECT i, ARRAY[i, 0, 0]::vector, 'row ' || i FROM generate_series(1, 2000) i;
CREATE INDEX line_v ON line USING spfresh (v);
ANALYZE line;
SET enable_seqscan = off;
SET spfresh.nprobe = 100000;

-- LIMIT, OFFSET, none

EXPLAIN (COSTS OFF) SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 5;
SELECT id, round((v <-> '[1000.3,0,0]')::numeric, 2) AS distance FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 5;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 5 OFFSET 100;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' OFFSET 1997;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 0;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT NULL OFFSET 1999;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT ALL OFFSET 2000;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' FETCH FIRST 2 ROWS WITH TIES;
SELECT id FROM line WHERE v <-> '[1000.3,0,0]' < 1.5 ORDER BY v <-> '[1000.3,0,0]' LIMIT 10;
SELECT id FROM line ORDER BY v <-> '[1000.5,0,0]', id DESC LIMIT 4;
SELECT id, generate_series(1, 2) FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 3;
SELECT id FROM (SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 5) nearest ORDER BY id;
SELECT id FROM line ORDER BY '[1000.3,0,0]' <-> v LIMIT 2;

-- what it cannot do
SELECT uses('line_v', 'SELECT id FROM line ORDER BY v <-> ''[1,0,0]'' LIMIT 5') AS yes,
	uses('line_v', 'SELECT id FROM line ORDER BY v <-> ''[1,0,0]'' DESC LIMIT 5') AS "desc",
	uses('line_v', 'SELECT id FROM line ORDER BY v <=> ''[1,0,0]'' LIMIT 5') AS other_operator,
	uses('line_v', 'SELECT id FROM line ORDER BY v LIMIT 5') AS other_order,
	uses('line_v', 'SELECT id FROM line') AS no_order,
	uses('line_v', 'SELECT id FROM line WHERE v = ''[1,0,0]''') AS equality,
	uses('line_v', 'SELECT id FROM line WHERE v <-> ''[1,0,0]'' < 1') AS distance_only;

-- every operator class gives what a sort gives

CREATE TABLE items (id int PRIMARY KEY, v vector(16), h halfvec(16));
INSERT INTO items SELECT i, p, p::halfvec(16) FROM generate_series(1, 3000) i, point(i, 16) p;
CREATE INDEX v_l2 ON items USING spfresh (v);
CREATE INDEX v_ip ON items USING spfresh (v vector_ip_ops);
CREATE INDEX v_cosine ON items USING spfresh (v vector_cosine_ops);
CREATE INDEX h_l2 ON items USING spfresh (h);
CREATE INDEX h_ip ON items USING spfresh (h halfvec_ip_ops);
CREATE INDEX h_cosine ON items USING spfresh (h halfvec_cosine_ops);
SELECT index, recall(index, 20, 1) >= 0.95 AND recall(index, 20, 10) >= 0.97 AND recall(index, 10, 100) >= 0.97 AS sorted
FROM unnest('{v_l2,v_ip,v_cosine,h_l2,h_ip,h_cosine}'::regclass[]) index;

-- effort

RESET spfresh.nprobe;
SELECT index, recall(index, 20, 10) >= 0.85 AS enough
FROM unnest('{v_l2,v_ip,v_cosine,h_l2,h_ip,h_cosine}'::regclass[]) index;
SET spfresh.target_recall = 0.999;
SELECT recall('v_l2', 20, 10) >= 0.97 AS more;
SET spfresh.nprobe = 1;
SELECT recall('v_l2', 20, 100) < 0.99 AS less;
RESET spfresh.nprobe;
RESET spfresh.target_recall;

-- what a search was made for is known from the plan: one round is enough, and reads little
CREATE TABLE many (id int, side int, v vector(3));
INSERT INTO many SELECT i, i % 2, point(i, 3) FROM generate_series(1, 20000) i;
CREATE INDEX many_v ON many USING spfresh (v);
CREATE FUNCTION last_scan(OUT index regclass, OUT rounds int, OUT emitted int8, OUT few_rows boolean) LANGUAGE sql AS
	'SELECT index, rounds, emitted, rows <= emitted + 20 FROM spfresh_last_scan()';
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0]' LIMIT 1) x;
SELECT * FROM last_scan();
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0]' LIMIT 200) x;
SELECT * FROM last_scan();
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0]' LIMIT 10 OFFSET 190) x;
SELECT * FROM last_scan();
SELECT count(*) FROM (SELECT id FROM (SELECT id, random() AS r FROM many ORDER BY v <-> '[0,0,0]' OFFSET 0) y WHERE r >= 0 LIMIT 200) x;
SELECT * FROM last_scan();
SELECT count(*) FROM (SELECT id FROM many WHERE side = 1 ORDER BY v <-> '[0,0,0]' LIMIT 200) x;
SELECT index, rounds > 1 AS rounds FROM last_scan();
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0]' LIMIT 200 FOR SHARE) x;
SELECT * FROM last_scan();
PREPARE limited(int) AS SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0]' LIMIT $1) x;
SET plan_cache_mode = force_generic_plan;
EXECUTE limited(200);
SELECT * FROM last_scan();
EXECUTE limited(1);
SELECT * FROM last_scan();
PREPARE limited_offset(bigint, smallint) AS SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0]' LIMIT $1 OFFSET $2) x;
EXECUTE limited_offset(150, 50::smallint);
SELECT * FROM last_scan();
RESET plan_cache_mode;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM many ORDER BY v <-> '[0,0,0]';
MOVE 200 IN c;
SELECT index, rounds > 1 AS rounds, emitted >= 200 AS emitted FROM last_scan();
CLOSE c;
SET LOCAL spfresh.expected_rows = 200;
DECLARE c CURSOR FOR SELECT id FROM many ORDER BY v <-> '[0,0,0]';
MOVE 200 IN c;
SELECT * FROM last_scan();
ROLLBACK;
-- effort follows from what is aimed at and what is asked for
CREATE FUNCTION probes(target text, k int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('spfresh.target_recall', target, true);
	PERFORM search('many_v', '[0,0,0]', k);
	RETURN (SELECT nprobe FROM spfresh_last_scan());
END $$;
SELECT probes('0.5', 100) < probes('0.999', 100) AS less, probes('0.95', 10) < probes('0.999', 10) AS more, probes('0.95', 10) < probes('0.95', 100) AS more;
SET spfresh.nprobe = 3;
SELECT probes('0.95', 10);
RESET spfresh.nprobe;
-- without the last word of the rows themselves it is the executor that finds some of them gone
BEGIN;
DELETE FROM many WHERE id IN (SELECT id FROM many ORDER BY v <-> '[0,0,0]' LIMIT 5);
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0]' LIMIT 10) x;
SELECT emitted FROM spfresh_last_scan();
SET LOCAL spfresh.rerank = off;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0]' LIMIT 10) x;
SELECT emitted > 10 AS more FROM spfresh_last_scan();
ROLLBACK;

-- rescans

SET spfresh.nprobe = 100000;
SELECT q, nearest.id FROM generate_series(100, 1900, 600) q,
	LATERAL (SELECT id FROM line ORDER BY v <-> ARRAY[q + 0.3, 0, 0]::vector LIMIT 2) nearest;
SELECT a.id, b.id AS neighbour FROM line a
	JOIN LATERAL (SELECT id FROM line b WHERE b.id <> a.id ORDER BY b.v <-> a.v LIMIT 1) b ON true
WHERE a.id IN (1, 2000);
SELECT (SELECT tag FROM line ORDER BY v <-> ARRAY[q, 0, 0]::vector LIMIT 1) FROM generate_series(1.2, 3.2) q;
-- some that have no query, and one that ends early
SELECT q, count(nearest.id) FROM unnest('{1,NULL,3}'::int[]) q
	LEFT JOIN LATERAL (SELECT id FROM line ORDER BY v <-> CASE WHEN q > 0 THEN ARRAY[q, 0, 0]::vector END LIMIT 3) nearest ON true
GROUP BY q ORDER BY q;
-- a scan within a scan, through functions
CREATE FUNCTION next_to(q vector, n bigint) RETURNS SETOF int LANGUAGE sql STABLE
AS 'SELECT id FROM line ORDER BY v <-> q LIMIT n';
CREATE FUNCTION next_to_pl(q vector, n int) RETURNS int[] LANGUAGE plpgsql STABLE
AS 'BEGIN RETURN ARRAY(SELECT id FROM line ORDER BY v <-> q LIMIT n); END';
SELECT id, ARRAY(SELECT next_to(v + '[0.1,0,0]', 3)) AS next_to, next_to_pl(v + '[0.1,0,0]', 2) FROM line ORDER BY v <-> '[500.1,0,0]' LIMIT 2;

-- parameters

PREPARE nearest(vector, int) AS SELECT id FROM line ORDER BY v <-> $1 LIMIT $2;
SET plan_cache_mode = force_generic_plan;
SELECT uses('line_v', 'EXECUTE nearest(''[7.1,0,0]'', 3)');
EXECUTE nearest('[7.1,0,0]', 3);
EXECUTE nearest('[1999.1,0,0]', 2);
SET plan_cache_mode = force_custom_plan;
EXECUTE nearest('[7.1,0,0]', 3);
EXECUTE nearest('[1999.1,0,0]', 2);
RESET plan_cache_mode;

-- a NULL query: any order
SET plan_cache_mode = force_generic_plan;
PREPARE all_nearest(vector) AS SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM line ORDER BY v <-> $1) x;
SELECT uses('line_v', 'EXECUTE all_nearest(NULL)');
SET spfresh.iterative_scan = relaxed_order;
SET spfresh.max_scan_tuples = 1000000;
EXECUTE all_nearest(NULL);
EXECUTE all_nearest('[7,0,0]');
PREPARE some_nearest(vector, int) AS SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM line ORDER BY v <-> $1 LIMIT $2) x;
EXECUTE some_nearest(NULL, 3);
EXECUTE some_nearest('[7,0,0]', 3);
EXECUTE some_nearest('[7,0,0]', NULL);
RESET spfresh.iterative_scan;
RESET spfresh.max_scan_tuples;
RESET plan_cache_mode;

-- a zero query has no direction: under cosine any order
SELECT uses('v_cosine', format('SELECT id FROM items ORDER BY v <=> %L LIMIT 5', flat(0, 16)));
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM items ORDER BY v <=> flat(0, 16) LIMIT 5) x;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM items ORDER BY h <=> flat(0, 16)::halfvec LIMIT 5) x;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM items ORDER BY v <#> flat(0, 16) LIMIT 5) x;

-- a query of other dimensions
SELECT id FROM line ORDER BY v <-> '[1,2]' LIMIT 5;
EXECUTE nearest('[1,2,3,4]', 5);
SELECT id FROM items ORDER BY h <=> '[1,2]' LIMIT 5;
-- of an index without rows any will do
CREATE TABLE empty (v vector);
CREATE INDEX ON empty USING spfresh (v);
SELECT * FROM empty ORDER BY v <-> '[1,2]' LIMIT 5;

-- cursors

BEGIN;
DECLARE c CURSOR FOR SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]';
FETCH 2 FROM c;
MOVE 40 FROM c;
FETCH 3 FROM c;
DECLARE d SCROLL CURSOR FOR SELECT id FROM line ORDER BY v <-> '[3.3,0,0]' LIMIT 4;
FETCH ALL FROM d;
FETCH BACKWARD 2 FROM d;
FETCH FIRST FROM d;
FETCH 2 FROM c;
SAVEPOINT s;
DECLARE e CURSOR FOR SELECT id FROM line ORDER BY v <-> '[3.3,0,0]' LIMIT 4;
FETCH 1 FROM e;
ROLLBACK TO s;
FETCH 1 FROM c;
-- it does not see what comes after it was opened, nor misses what goes
INSERT INTO line SELECT 10000 + i, ARRAY[1000.3, 0, 0]::vector, 'new' FROM generate_series(1, 300) i;
DELETE FROM line WHERE id BETWEEN 970 AND 1030;
FETCH 6 FROM c;
CLOSE c;
DECLARE c CURSOR WITH HOLD FOR SELECT tag FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 1;
FETCH 1 FROM c;
ROLLBACK;

-- filters: the search goes on where it stopped

CREATE TABLE sides (id int, side int, v vector(3));
INSERT INTO sides SELECT i, i % 10, ARRAY[i % 10 * 1000, i, 0]::vector FROM generate_series(1, 5000) i;
CREATE INDEX sides_v ON sides USING spfresh (v);
SET spfresh.nprobe = 1;
SET spfresh.iterative_scan = off;
SELECT count(*) FROM (SELECT id FROM sides WHERE side = 5 ORDER BY v <-> '[0,0,0]' LIMIT 5) x;
SET spfresh.iterative_scan = strict_order;
SELECT uses('sides_v', 'SELECT id FROM sides WHERE side = 5 ORDER BY v <-> ''[0,0,0]'' LIMIT 5');
SELECT count(*), min(side) FROM (SELECT id, side FROM sides WHERE side = 5 ORDER BY v <-> '[0,0,0]' LIMIT 5) x;
SET spfresh.iterative_scan = relaxed_order;
SELECT count(*), min(side) FROM (SELECT id, side FROM sides WHERE side = 5 ORDER BY v <-> '[0,0,0]' LIMIT 5) x;
SET spfresh.max_scan_tuples = 100;
SELECT count(*) FROM (SELECT id FROM sides WHERE side = 5 ORDER BY v <-> '[0,0,0]' LIMIT 5) x;
SET spfresh.iterative_scan = strict_order;
SELECT count(*) FROM (SELECT id FROM sides WHERE side = 5 ORDER BY v <-> '[0,0,0]' LIMIT 5) x;
RESET spfresh.max_scan_tuples;
-- all rows, however little memory there is
SET spfresh.iterative_scan = relaxed_order;
SET work_mem = '64kB';
SELECT count(*) FROM (SELECT id FROM sides ORDER BY v <-> '[0,0,0]') x;
RESET work_mem;
SELECT count(*) AS "all" FROM (SELECT id FROM sides ORDER BY v <-> '[0,0,0]') x;
SET spfresh.iterative_scan = strict_order;
-- nothing to be found at all
SELECT count(*) FROM (SELECT id FROM sides WHERE side = 77 ORDER BY v <-> '[0,0,0]' LIMIT 5) x;
-- all of it, without a LIMIT
SET spfresh.iterative_scan = relaxed_order;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM sides ORDER BY v <-> '[0,0,0]') x;
-- what strict order leaves out is little, and what it gives is in order
SET spfresh.iterative_scan = strict_order;
SELECT cardinality(distances) BETWEEN 100 AND 5000 AS some FROM search('sides_v', '[0,0,0]', NULL);
-- without: what the first search found
SET spfresh.iterative_scan = off;
SELECT count(*) BETWEEN 10 AND 1000 AS some FROM (SELECT id FROM sides ORDER BY v <-> '[0,0,0]') x;
RESET spfresh.iterative_scan;
-- the search is made for what is expected, where there is no LIMIT
SET spfresh.expected_rows = 1000000;
RESET spfresh.nprobe;
SET spfresh.iterative_scan = off;
SELECT count(*) > 300 AS many FROM (SELECT id FROM sides ORDER BY v <-> '[0,0,0]') x;
RESET spfresh.iterative_scan;
RESET spfresh.expected_rows;

-- by the index's own numbers

SET spfresh.nprobe = 100000;
SET spfresh.rerank = off;
SELECT id / 100 AS about FROM line ORDER BY v <-> '[1055.3,0,0]' LIMIT 3;
SELECT count(*) > 80 AS near FROM (SELECT id FROM items ORDER BY v <-> point(7, 16) LIMIT 100) a
	JOIN (SELECT id FROM (SELECT id FROM items ORDER BY (v <-> point(7, 16)) + 0 LIMIT 100) x) b USING (id);
SELECT count(*) > 80 AS near FROM (SELECT id FROM items ORDER BY h <#> point(7, 16)::halfvec LIMIT 100) a
	JOIN (SELECT id FROM (SELECT id FROM items ORDER BY (h <#> point(7, 16)::halfvec) + 0 LIMIT 100) x) b USING (id);
RESET spfresh.rerank;

-- whatever the instruction set

CREATE TABLE answers (simd text, index regclass, n int, tids tid[]);
DO $$
DECLARE
	name text;
	q text;
	i regclass;
BEGIN
	FOREACH name IN ARRAY '{portable,avx512,avx2,sse,neon,auto}'::text[] LOOP
		BEGIN
			PERFORM set_config('spfresh.simd', name, false);
		EXCEPTION WHEN invalid_parameter_value THEN
			CONTINUE;
		END;
		IF name <> 'auto' AND current_setting('spfresh.simd') <> name THEN
			RAISE EXCEPTION '% is not in use', name;
		END IF;
		FOREACH i IN ARRAY '{v_l2,v_ip,v_cosine,h_l2,h_ip,h_cosine}'::regclass[] LOOP
			INSERT INTO answers SELECT name, i, n, (search(i, q1, 20)).tids FROM make_queries(i, 5) WITH ORDINALITY x(q1, n);
		END LOOP;
	END LOOP;
END $$;
SELECT count(DISTINCT simd) >= 2 AS several FROM answers;
SELECT count(*) FROM answers a JOIN answers b USING (index, n) WHERE a.simd = 'portable' AND a.tids <> b.tids;
SET spfresh.simd = portable;
SHOW spfresh.simd;
RESET spfresh.simd;
SET spfresh.simd = mmx;

-- changes within a transaction

BEGIN;
UPDATE line SET v = '[1000.4,0,0]' WHERE id = 5;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2;
SAVEPOINT a;
DELETE FROM line WHERE id = 1000;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2;
SAVEPOINT b;
INSERT INTO line VALUES (3000, '[1000.3,0,0]', 'new');
UPDATE line SET tag = 'changed' WHERE id = 5;
SELECT id, tag FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2;
ROLLBACK TO b;
SELECT id, tag FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2;
ROLLBACK TO a;
SELECT id, tag FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2;
ROLLBACK;
SELECT id, tag FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2;

-- locking, and changing what was found
BEGIN;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2 FOR UPDATE;
UPDATE line SET tag = 'found' WHERE id IN (SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2 FOR NO KEY UPDATE) RETURNING id;
DELETE FROM line USING (SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2) x WHERE line.id = x.id;
SELECT id FROM line ORDER BY v <-> '[1000.3,0,0]' LIMIT 2;
ROLLBACK;

-- a table that feeds itself
BEGIN;
SET LOCAL spfresh.iterative_scan = relaxed_order;
INSERT INTO line SELECT id + 10000, v, tag FROM line ORDER BY v <-> '[0,0,0]';
SELECT count(*) FROM line;
ROLLBACK;

-- joins

SELECT line.id, other.id AS other FROM line JOIN (VALUES (1000, 1), (1001, 2), (1002, 3)) other (line, id) ON other.line = line.id
ORDER BY line.v <-> '[1001.2,0,0]' LIMIT 2;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT a.id, b.tag FROM line a JOIN line b ON b.id = a.id + 1 ORDER BY a.v <-> '[1001.2,0,0]' LIMIT 2;
RESET enable_hashjoin;
RESET enable_mergejoin;
(SELECT id FROM line ORDER BY v <-> '[1.2,0,0]' LIMIT 1) UNION ALL (SELECT id FROM line ORDER BY v <-> '[2.9,0,0]' LIMIT 1);
WITH near AS MATERIALIZED (SELECT id, v <-> '[1.2,0,0]' AS d FROM line ORDER BY v <-> '[1.2,0,0]' LIMIT 5)
SELECT id FROM near WHERE d > 1 ORDER BY d;

-- partitions

CREATE TABLE parts (id int, v vector(3)) PARTITION BY RANGE (id);
CREATE INDEX parts_v ON parts USING spfresh (v);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (1000);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (2000);
CREATE TABLE parts_3 (id int, v vector(3));
INSERT INTO parts_3 SELECT i, ARRAY[i % 1000, 0, 0.5]::vector FROM generate_series(2000, 2999) i;
CREATE INDEX parts_3_v_idx ON parts_3 USING spfresh (v);
ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES FROM (2000) TO (3000);
INSERT INTO parts SELECT i, ARRAY[i % 1000, 0, i / 1000 * 0.25]::vector FROM generate_series(1, 1999) i;
EXPLAIN (COSTS OFF) SELECT id FROM parts ORDER BY v <-> '[500.2,0,0]' LIMIT 5;
SELECT id FROM parts ORDER BY v <-> '[500.2,0,0.1]' LIMIT 5;
SELECT id FROM parts WHERE id > 1000 ORDER BY v <-> '[500.2,0,0.1]' LIMIT 5;
UPDATE parts SET id = id + 1000 WHERE id = 500;
SELECT id FROM parts ORDER BY v <-> '[500.2,0,0.1]' LIMIT 2 OFFSET 1;

-- inheritance, views, security barriers
CREATE VIEW nearby WITH (security_barrier) AS SELECT id, v FROM line WHERE id % 2 = 0;
SELECT id FROM nearby ORDER BY v <-> '[1000.3,0,0]' LIMIT 2;
