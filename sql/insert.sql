CREATE SCHEMA insert;
SET search_path = insert, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common

-- an index born empty grows by itself, level upon level

CREATE TABLE grown (id int, v vector(8)) WITH (autovacuum_enabled = off);
CREATE INDEX grown_v ON grown USING spfresh (v) WITH (split_limit = 16);
SELECT levels, postings, records, rows FROM spfresh_stats('grown_v');
INSERT INTO grown VALUES (0, flat(0, 8));
SELECT levels, postings, records, rows FROM spfresh_stats('grown_v');
INSERT INTO grown SELECT i, point(i, 8) FROM generate_series(1, 6000) i;
SELECT levels >= 3 AS levels, postings > 500 AS postings, records, rows FROM spfresh_stats('grown_v');
SELECT recall('grown_v', 20, 10) >= 0.85 AS recall, complete('grown_v');
-- each vector is in two postings
SELECT (entries - stale_entries)::float8 / records BETWEEN 1.8 AND 2.2 AS replicas FROM spfresh_stats('grown_v');
-- as good as one built of the same rows
SET spfresh.target_recall = 0.99;
SELECT recall('grown_v', 20, 10) >= 0.93 AS recall;
RESET spfresh.target_recall;

-- other sizes, types and metrics; one cluster after the other
CREATE TABLE drift (id int, v vector(100), h halfvec(24)) WITH (autovacuum_enabled = off);
CREATE INDEX drift_v ON drift USING spfresh (v vector_cosine_ops) WITH (replicas = 1);
CREATE INDEX drift_h ON drift USING spfresh (h halfvec_ip_ops) WITH (code_bits = 4);
INSERT INTO drift SELECT i, point(i / 150, 100, 10) + point(-i, 100, 1) * flat(0.3, 100), point(i / 150, 24, 10)::halfvec + point(-i, 24, 1)::halfvec * flat(0.3, 24)::halfvec
FROM generate_series(1, 1500) i;
SELECT index, recall(index, 20, 10) >= 0.85 AS recall, complete(index) FROM unnest('{drift_v,drift_h}'::regclass[]) index;
SELECT records, (entries - stale_entries)::float8 / records BETWEEN 1 AND 1.1 AS replicas, code_bits FROM spfresh_stats('drift_v');
SELECT records, (entries - stale_entries)::float8 / records BETWEEN 1 AND 2.2 AS replicas, code_bits FROM spfresh_stats('drift_h');

-- equal vectors share one record

CREATE TABLE equal (id int, v vector(8)) WITH (autovacuum_enabled = off);
CREATE INDEX equal_v ON equal USING spfresh (v);
INSERT INTO equal SELECT i, point(i, 8) FROM generate_series(1, 1000) i;
SELECT pg_relation_size('equal_v') AS before \gset
INSERT INTO equal SELECT 1000 + i, flat(0.5, 8) FROM generate_series(1, 10000) i;
SELECT records, rows FROM spfresh_stats('equal_v');
SELECT pg_relation_size('equal_v') - :before < 10000 * 6 * 1.2 + 3 * 8192 AS hardly;
SELECT complete('equal_v');
SELECT cardinality(tids), distances[50] FROM search('equal_v', flat(0.5, 8)::text, 50);
-- several different ones, again and again
TRUNCATE equal;
INSERT INTO equal SELECT i, flat(i % 50, 8) FROM generate_series(1, 5000) i;
SELECT records, rows FROM spfresh_stats('equal_v');
SELECT complete('equal_v');
-- nearly equal is not equal
TRUNCATE equal;
INSERT INTO equal SELECT i, (ARRAY[1, 1, 1, 1, 1, 1, 1, 1 + i * 1e-6])::vector FROM generate_series(1, 500) i;
SELECT id FROM (SELECT id FROM search('equal_v', '[1,1,1,1,1,1,1,1.0002]', 1) s JOIN equal ON ctid = s.tids[1]) x;
SELECT complete('equal_v');

-- updates

CREATE TABLE updated (id int PRIMARY KEY, n int, v vector(8)) WITH (autovacuum_enabled = off, fillfactor = 50);
INSERT INTO updated SELECT i, i, point(i, 8) FROM generate_series(1, 2000) i;
CREATE INDEX updated_v ON updated USING spfresh (v) WITH (fillfactor = 50);
CREATE INDEX updated_n ON updated (n);
SELECT pg_relation_size('updated_v') AS before \gset
-- of another column, indexed, so that they are not HOT: the vector stays where it is, and gets one row more
UPDATE updated SET n = n + 1;
SELECT records < 2100 AS shared, rows FROM spfresh_stats('updated_v');
SELECT pg_relation_size('updated_v') < :before * 1.1 AS hardly, complete('updated_v');
-- of the vector
UPDATE updated SET v = point(id + 100000, 8) WHERE id <= 1000;
SELECT complete('updated_v');
SET enable_seqscan = off;
UPDATE updated SET v = flat(9, 8) WHERE id = 77;
SELECT id FROM updated ORDER BY v <-> flat(9, 8) LIMIT 1;
UPDATE updated SET v = flat(-9, 8) WHERE id = 77;
SELECT id FROM updated ORDER BY v <-> flat(9, 8) LIMIT 1 \gset first_
SELECT :first_id <> 77 AS other;
SELECT id FROM updated ORDER BY v <-> flat(-9, 8) LIMIT 1;
UPDATE updated SET v = NULL WHERE id = 77;
SELECT id FROM updated ORDER BY v <-> flat(-9, 8) LIMIT 1 \gset first_
SELECT :first_id <> 77 AS other;
UPDATE updated SET v = flat(-9, 8) WHERE id = 77;
SELECT id FROM updated ORDER BY v <-> flat(-9, 8) LIMIT 1;
-- by key, and on conflict
INSERT INTO updated VALUES (77, 0, flat(8, 8)) ON CONFLICT DO NOTHING;
INSERT INTO updated VALUES (77, 0, flat(7, 8)), (5000, 0, flat(6, 8)) ON CONFLICT (id) DO UPDATE SET v = excluded.v RETURNING id;
SELECT id FROM updated ORDER BY v <-> flat(7, 8) LIMIT 2;
INSERT INTO updated VALUES (1, 0, flat(5, 8));
SELECT id <> 1 AS other FROM updated ORDER BY v <-> flat(5, 8) LIMIT 1;
RESET enable_seqscan;

-- transactions

BEGIN;
INSERT INTO updated SELECT i, i, point(i, 8) FROM generate_series(10001, 12000) i;
SELECT complete('updated_v');
ROLLBACK;
SELECT complete('updated_v');
DO $$
BEGIN
	FOR i IN 20001..20300 LOOP
		BEGIN
			INSERT INTO updated VALUES (i, i, point(i, 8));
			IF i % 3 = 0 THEN
				RAISE EXCEPTION 'not this one';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT count(*) FROM updated WHERE id > 20000;
SELECT complete('updated_v');

-- ways in

CREATE TABLE ways (id int, v vector(3));
CREATE INDEX ways_v ON ways USING spfresh (v);
COPY ways FROM stdin;
1	[1,0,0]
2	[2,0,0]
3	\N
4	[4,0,0]
\.
INSERT INTO ways SELECT id + 10, v FROM ways;
INSERT INTO ways DEFAULT VALUES;
WITH moved AS (DELETE FROM ways WHERE id = 1 RETURNING *) INSERT INTO ways SELECT 21, v FROM moved;
MERGE INTO ways USING (VALUES (2, '[20,0,0]'::vector), (5, '[5,0,0]')) new (id, v) ON ways.id = new.id
	WHEN MATCHED THEN UPDATE SET v = new.v
	WHEN NOT MATCHED THEN INSERT VALUES (new.id, new.v);
PREPARE put(int, vector) AS INSERT INTO ways VALUES ($1, $2);
EXECUTE put(30, '[30,0,0]');
EXECUTE put(31, NULL);
SET enable_seqscan = off;
SELECT id, v FROM (SELECT id, v, v <-> '[0,0,0]' AS d FROM ways ORDER BY v <-> '[0,0,0]' OFFSET 0) x ORDER BY d, id;
RESET enable_seqscan;
-- what the type refuses never gets there
INSERT INTO ways VALUES (1, '[1,2]');
INSERT INTO ways VALUES (1, '[1,2,nan]');
SELECT complete('ways_v');
