-- values wherever they lie: in the row, compressed, in TOAST; and rows found again after all that can become of them
CREATE SCHEMA vals;
SET search_path = vals, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common
SET max_parallel_workers_per_gather = 0;
SET enable_seqscan = off;
SET enable_sort = off;
SET spfresh.nprobe = 1000;

CREATE TABLE queries AS SELECT i AS id, point(50000 + i, 600, 20) AS v FROM generate_series(1, 5) i;

-- Are the rows by the index in order of their distances, as many as a sort finds, and (but for one in twenty: it is an
-- approximate search) the same?  `shown` fetches values in the executor's way as well.
CREATE FUNCTION same(relation regclass, k int, condition text DEFAULT 'true', expression text DEFAULT 'v') RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	q record;
	found int[];
	given float8[];
	shown float8[];
	exact float8[];
BEGIN
	FOR q IN SELECT * FROM queries ORDER BY id LOOP
		EXECUTE format('SELECT array_agg(id) FROM (SELECT id FROM %s WHERE %s ORDER BY %s <-> $1 LIMIT $2) x', relation, condition, expression) INTO found USING q.v, k;
		EXECUTE format('SELECT array_agg(d) FROM (SELECT %3$s <-> $1 AS d FROM %1$s WHERE %2$s ORDER BY %3$s <-> $1 LIMIT $2) x', relation, condition, expression) INTO shown USING q.v, k;
		EXECUTE format('SELECT array_agg(%2$s <-> $1 ORDER BY n) FROM unnest($2) WITH ORDINALITY f (id, n) JOIN %1$s USING (id)', relation, expression) INTO given USING q.v, found;
		EXECUTE format('SELECT array_agg(d ORDER BY d) FROM (SELECT (%3$s <-> $1) + 0 AS d FROM %1$s WHERE %2$s ORDER BY (%3$s <-> $1) + 0 LIMIT $2) x', relation, condition, expression) INTO exact USING q.v, k;
		IF given IS DISTINCT FROM shown OR given IS DISTINCT FROM (SELECT array_agg(d ORDER BY d) FROM unnest(given) d) OR
			coalesce(cardinality(given), 0) <> coalesce(cardinality(exact), 0) OR
			(SELECT count(*) FROM unnest(given) d WHERE d > exact[cardinality(exact)]) > k * 0.05 THEN
			RETURN false;
		END IF;
	END LOOP;
	RETURN true;
END $$;

-- what can be in a row's place of a value
CREATE FUNCTION make(name text, storage text, n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, v vector(600)) WITH (autovacuum_enabled = off)', name);
	EXECUTE format('ALTER TABLE %I ALTER v SET STORAGE %s', name, storage);
	-- every third one has little in it, and is compressed where it may be
	EXECUTE format('INSERT INTO %I SELECT i, CASE WHEN i %% 3 = 0 THEN point(i, 600, 20) * flat((i %% 2)::float4, 600) ELSE point(i, 600, 20) END FROM generate_series(1, %s) i', name, n);
	EXECUTE format('CREATE INDEX %I ON %I USING spfresh (v)', name || '_v', name);
	EXECUTE format('ANALYZE %I', name);
END $$;
SELECT make(s, s, 400) FROM unnest('{plain,external,extended,main}'::text[]) s;
SELECT s AS storage, (SELECT reltoastrelid <> 0 AND pg_relation_size(reltoastrelid) > 0 FROM pg_class WHERE oid = s) AS in_toast
FROM unnest('{plain,external,extended,main}'::regclass[]) s;

-- met for the first time, and known
SELECT s, uses(s || '_v', format('SELECT id FROM %s ORDER BY v <-> %L LIMIT 10', s, flat(0, 600))) FROM unnest('{plain,external,extended,main}'::text[]) s;
SELECT s AS storage, same(s, 10) AS first, same(s, 10) AS again, same(s, 100) AS more, same(s, 400) AS every
FROM unnest('{plain,external,extended,main}'::regclass[]) s;
SELECT same('external', 10, 'id % 7 = 1') AS filtered, same('external', 50, 'id % 7 = 1') AS more;

-- remembered places are not where values are any more
DELETE FROM external WHERE id % 2 = 0;
SELECT same('external', 100);
VACUUM external;
SELECT same('external', 100);
INSERT INTO external SELECT i, point(i, 600, 20) FROM generate_series(1001, 1300) i;
SELECT same('external', 100) AS first, same('external', 100) AS again;
UPDATE external SET v = point(id + 7, 600, 20) WHERE id % 5 = 0;
SELECT same('external', 100) AS updated;
UPDATE external SET id = id + 10000;
SELECT same('external', 100) AS renumbered;
VACUUM (FULL) external;
SELECT same('external', 100) AS full, same('external', 100) AS again;
CLUSTER external USING external_pkey;
SELECT same('external', 100) AS clustered;
TRUNCATE external;
SELECT same('external', 100) AS truncated;
INSERT INTO external SELECT i, point(i * 3, 600, 20) FROM generate_series(1, 300) i;
SELECT same('external', 100) AS refilled;
ALTER TABLE external ALTER v SET STORAGE plain;
UPDATE external SET v = v;
SELECT same('external', 100) AS plain_now;
REINDEX TABLE external;
SELECT same('external', 100) AS reindexed;

-- a transaction's own, taken back, with a cursor on the way
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM extended ORDER BY v <-> (SELECT v FROM queries WHERE id = 1);
FETCH 2 FROM c \g /dev/null
SAVEPOINT s;
DELETE FROM extended;
INSERT INTO extended SELECT i, point(-i, 600, 20) FROM generate_series(1, 50) i;
SELECT same('extended', 50) AS inside;
MOVE 30 IN c;
ROLLBACK TO s;
MOVE 100 IN c;
SELECT same('extended', 50) AS back;
CLOSE c;
COMMIT;
SELECT same('extended', 50) AS after;

-- temporary tables, and values of many pieces
CREATE TEMP TABLE passing AS SELECT * FROM extended;
CREATE INDEX passing_v ON passing USING spfresh (v);
ANALYZE passing;
SELECT same('passing', 50) AS first, same('passing', 50) AS again;
CREATE TABLE wide (id int, v vector(3000));
ALTER TABLE wide ALTER v SET STORAGE extended;
INSERT INTO wide SELECT i, point(i, 3000, 5) * (array_fill((i % 2)::real, ARRAY[1500]) || array_fill(1::real, ARRAY[1500]))::vector FROM generate_series(1, 40) i;
CREATE INDEX wide_v ON wide USING spfresh (v);
DO $$
DECLARE
	ids int[];
	exact int[];
BEGIN
	FOR i IN 1..6 LOOP
		SELECT array_agg(id) FROM (SELECT id FROM wide ORDER BY v <-> (SELECT v FROM wide w WHERE w.id = i) LIMIT 20) x INTO ids;
		SELECT array_agg(id) FROM (SELECT id FROM wide ORDER BY (v <-> (SELECT v FROM wide w WHERE w.id = i)) + 0 LIMIT 20) x INTO exact;
		IF ids <> exact THEN
			RAISE EXCEPTION 'query %: % instead of %', i, ids, exact;
		END IF;
	END LOOP;
END $$;

-- an index on an expression, and one for some of the rows
CREATE INDEX halves ON extended USING spfresh ((v::halfvec(600)) halfvec_l2_ops) WHERE id % 2 = 0;
SELECT uses('halves', 'SELECT id FROM extended WHERE id % 2 = 0 ORDER BY v::halfvec(600) <-> (SELECT v::halfvec(600) FROM queries WHERE id = 1) LIMIT 10');
SELECT same('extended', 20, 'id % 2 = 0', 'v::halfvec(600)');

-- the distance is computed where somebody reads it, and only there
CREATE FUNCTION outputs(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	scan boolean := false;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || query LOOP
		IF scan AND line ~ 'Output' THEN
			RETURN NEXT trim(line);
		END IF;
		scan := line ~ 'Index Scan';
	END LOOP;
END $$;
CREATE TABLE few (id int, v vector(3));
INSERT INTO few VALUES (1, '[0,0,1]'), (2, '[0,0,2]'), (3, '[0,0,3]'), (4, '[0,0,2]');
CREATE INDEX few_v ON few USING spfresh (v);
SELECT * FROM outputs($$SELECT id FROM few ORDER BY v <-> '[0,0,0]' LIMIT 2$$);
SELECT * FROM outputs($$SELECT id FROM few ORDER BY v <-> '[0,0,0]'$$);
SELECT * FROM outputs($$SELECT id, v <-> '[0,0,0]' FROM few ORDER BY v <-> '[0,0,0]' LIMIT 2$$);
SELECT * FROM outputs($$SELECT id FROM few ORDER BY v <-> '[0,0,0]' FETCH FIRST 2 ROWS WITH TIES$$);
SELECT * FROM outputs($$SELECT q.id, n.id FROM queries q, LATERAL (SELECT id FROM few ORDER BY v <-> ARRAY[q.id, 0, 0]::vector LIMIT 2) n$$);
SELECT * FROM outputs($$SELECT ARRAY(SELECT id FROM few ORDER BY v <-> '[0,0,0]' LIMIT 2)$$);
SELECT * FROM outputs($$SELECT id FROM few ORDER BY v <-> '[0,0,0]' LIMIT 2 FOR UPDATE$$);
SELECT * FROM outputs($$(SELECT id FROM few ORDER BY v <-> '[0,0,0]' LIMIT 2) UNION ALL (SELECT id FROM few ORDER BY v <-> '[0,0,9]' LIMIT 1)$$);
SELECT id FROM few ORDER BY v <-> '[0,0,0]' LIMIT 1;
SELECT id, v <-> '[0,0,0]' AS d FROM few ORDER BY v <-> '[0,0,0]' LIMIT 1;
SELECT count(*), max(d) FROM (SELECT v <-> '[0,0,0]' AS d FROM few ORDER BY v <-> '[0,0,0]' FETCH FIRST 2 ROWS WITH TIES) x;
SELECT q.id, array_agg(n.id ORDER BY n.id) FROM queries q, LATERAL (SELECT id FROM few ORDER BY v <-> ARRAY[0, 0, q.id]::vector LIMIT 1) n WHERE q.id IN (1, 3) GROUP BY 1 ORDER BY 1;
