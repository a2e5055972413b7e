CREATE SCHEMA search;
SET search_path = search, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common
SET max_parallel_workers_per_gather = 0;

CREATE TABLE items (id int PRIMARY KEY, part int, v vector(16)) WITH (autovacuum_enabled = off);
INSERT INTO items SELECT i, (num(i, 77) + 1) * 500, point(i, 16, 200) FROM generate_series(1, 12000) i;
CREATE INDEX items_v ON items USING spfresh (v);
CREATE TABLE queries (id int, v vector(16));
INSERT INTO queries SELECT i, point(i, 16, 200) + (SELECT array_agg(0.1 * num(-i, d) ORDER BY d)::vector FROM generate_series(1, 16) d) FROM generate_series(50001, 50040) i;
ANALYZE items;
SET enable_seqscan = off;
SET enable_sort = off;

-- the share of the nearest rows under a condition that are found; and it must be the index that finds them
CREATE FUNCTION found(condition text, k int, n int DEFAULT 20, OUT share float8, OUT full_counts boolean, OUT in_order boolean)
LANGUAGE plpgsql AS $$
DECLARE
	q record;
	ids int[];
	exact int[];
	sorted boolean;
	hits int := 0;
	wanted int := 0;
BEGIN
	full_counts := true;
	in_order := true;
	IF NOT uses('items_v', format('SELECT id FROM items WHERE %s ORDER BY v <-> %L LIMIT %s', condition, flat(0, 16), k)) THEN
		RAISE EXCEPTION 'the index is not used';
	END IF;
	FOR q IN SELECT * FROM queries ORDER BY id LIMIT n LOOP
		EXECUTE format('SELECT array_agg(id), bool_and(d >= before) FROM (SELECT id, d, coalesce(lag(d) OVER (), 0) AS before FROM
			(SELECT id, v <-> $1 AS d FROM items WHERE %s ORDER BY v <-> $1 LIMIT $2) x) y', condition) INTO ids, sorted USING q.v, k;
		EXECUTE format('SELECT array_agg(id) FROM (SELECT id FROM items WHERE %s ORDER BY (v <-> $1) + 0 LIMIT $2) x', condition) INTO exact USING q.v, k;
		full_counts := full_counts AND coalesce(cardinality(ids), 0) = coalesce(cardinality(exact), 0);
		in_order := in_order AND coalesce(sorted, true);
		hits := hits + (SELECT count(*) FROM unnest(ids) i WHERE i = ANY (exact));
		wanted := wanted + coalesce(cardinality(exact), 0);
	END LOOP;
	share := hits::float8 / greatest(wanted, 1);
END $$;

-- filters: as many rows as there are, in order, whatever the filter

SET spfresh.iterative_scan = strict_order;
SELECT condition, share >= 0.9 AS found, full_counts, in_order
FROM unnest('{true,part < 500,part < 100,part < 10,part < 1,id = 7,id < 0}'::text[]) condition, found(condition, 10);
SELECT condition, share >= 0.9 AS found, full_counts, in_order
FROM unnest('{part < 500,part < 100,part < 10}'::text[]) condition, found(condition, 100, 5);
SET spfresh.iterative_scan = relaxed_order;
SELECT condition, share >= 0.9 AS found, full_counts
FROM unnest('{part < 500,part < 100,part < 10,part < 1,id = 7,id < 0}'::text[]) condition, found(condition, 10);
SET spfresh.iterative_scan = strict_order;
-- from the narrowest beginning, and when the planner knows nothing of it
SET spfresh.nprobe = 1;
SELECT condition, full_counts, in_order FROM unnest('{part < 100,part < 10,id % 1000 = 1,id % 6000 = 1}'::text[]) condition, found(condition, 10, 5);
RESET spfresh.nprobe;
-- conditions that the scan cannot evaluate for itself: volatile ones, subqueries
CREATE FUNCTION perhaps(int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN $1 % 10 = 0; END';
SELECT condition, full_counts, in_order FROM unnest('{perhaps(id),id IN (SELECT i * 20 FROM generate_series(1\, 600) i)}'::text[]) condition, found(condition, 10, 5);
-- with an end that the session sets
SET spfresh.max_scan_tuples = 500;
SELECT full_counts FROM found('part < 1', 10, 5);
SELECT rows BETWEEN 500 AND 510 AS bounded, stop FROM spfresh_last_scan();
RESET spfresh.max_scan_tuples;
-- all records, where nothing else helps, in little memory
SET work_mem = '64kB';
SET spfresh.iterative_scan = relaxed_order;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM items WHERE perhaps(id) ORDER BY v <-> flat(0, 16)) x;
SELECT stop FROM spfresh_last_scan();
RESET work_mem;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM items ORDER BY v <-> flat(0, 16)) x;
RESET spfresh.iterative_scan;

-- within a distance

CREATE FUNCTION within(op text, radius text, rest text DEFAULT '', OUT share float8, OUT ended boolean) LANGUAGE plpgsql AS $$
DECLARE
	q record;
	n int;
	hits int := 0;
	wanted int := 0;
	s record;
BEGIN
	ended := true;
	FOR q IN SELECT v FROM queries ORDER BY id LIMIT 20 LOOP
		EXECUTE format('SELECT count(*) FROM (SELECT id FROM items WHERE (v %1$s $1) %2$s ORDER BY v %1$s $1 %3$s) x', op, radius, rest) INTO n USING q.v;
		hits := hits + n;
		SELECT * INTO s FROM spfresh_last_scan();
		ended := ended AND s.stop IN ('target recall', 'nprobe', 'all postings') AND s.rows < 6000;
		EXECUTE format('SELECT count(*) FROM (SELECT id FROM items WHERE (v %1$s $1) + 0 %2$s %3$s) x', op, radius, rest) INTO n USING q.v;
		wanted := wanted + n;
	END LOOP;
	share := hits::float8 / greatest(wanted, 1);
END $$;
SELECT radius, share >= 0.9 AND share <= 1 AS found, ended FROM unnest('{< 1,<= 1.2}'::text[]) radius, within('<->', radius);
SELECT radius, share AS found, ended FROM unnest('{< 0.00001,< -1}'::text[]) radius, within('<->', radius);
SELECT share = 1 AS found, ended FROM within('<->', '< 1.2', 'LIMIT 5');
SELECT share >= 0.9 AS found, ended FROM within('<->', '< 1.2', 'LIMIT 50');
CREATE INDEX items_cosine ON items USING spfresh (v vector_cosine_ops);
CREATE INDEX items_ip ON items USING spfresh (v vector_ip_ops);
SELECT share >= 0.9 AS found, ended FROM within('<=>', '< 0.1');
SELECT share >= 0.9 AS found FROM within('<#>', '< -5');
-- turned round, a parameter, from another table; and what is none
SELECT v AS q FROM queries ORDER BY id LIMIT 1 \gset
SELECT count(*) FROM items WHERE (v <-> :'q') + 0 < 1.1 \gset all_
SELECT count(*) >= 0.8 * :all_count AS found FROM (SELECT id FROM items WHERE 1.1 > v <-> :'q' ORDER BY v <-> :'q') x;
SELECT rows < 6000 AS ended FROM spfresh_last_scan();
PREPARE around(vector, float8) AS SELECT count(*) FROM (SELECT id FROM items WHERE v <-> $1 < $2 ORDER BY v <-> $1) x;
SET plan_cache_mode = force_generic_plan;
EXECUTE around(:'q', 0);
EXECUTE around(:'q', NULL);
EXECUTE around(NULL, 1);
SET spfresh.iterative_scan = relaxed_order;
EXECUTE around(:'q', 'infinity');
EXECUTE around(:'q', 'nan');
RESET spfresh.iterative_scan;
RESET plan_cache_mode;
SELECT sum(n) BETWEEN 1 AND 3000 AS some FROM (VALUES (0.9), (1.0)) r (r), LATERAL (SELECT count(*) AS n FROM (SELECT id FROM items WHERE v <-> :'q' < r.r ORDER BY v <-> :'q') x) y;
SELECT rows < 6000 AS ended FROM spfresh_last_scan();
SELECT count(*) FROM (SELECT id FROM items WHERE v <-> flat(9, 16) < 1.1 ORDER BY v <-> :'q') x;
SELECT count(*) FROM (SELECT id FROM items WHERE v <-> :'q' > 1.1 OR id < 10 ORDER BY v <-> :'q' LIMIT 10) x;

-- bounds

SET spfresh.nprobe = 1000;
SET spfresh.max_probe_pages = 6;
SELECT count(*) = 10 AS ten FROM (SELECT id FROM items ORDER BY v <-> :'q' LIMIT 10) x;
SELECT pages <= 6 AS bounded, stop FROM spfresh_last_scan();
SELECT count(*) <= 10 AS some FROM (SELECT id FROM items WHERE part < 10 ORDER BY v <-> :'q' LIMIT 10) x;
SELECT pages <= 6 AS bounded, stop FROM spfresh_last_scan();
SET spfresh.max_probe_pages = 1;
SELECT count(*) FROM (SELECT id FROM items ORDER BY v <-> :'q' LIMIT 10) x;
SELECT pages <= 1 AS bounded FROM spfresh_last_scan();
RESET spfresh.max_probe_pages;
RESET spfresh.nprobe;
-- postings of many pages: of vectors that do not fit one, of equal ones that had no record in common
CREATE TABLE wide (id int, v vector(3000)) WITH (autovacuum_enabled = off);
INSERT INTO wide SELECT i, array_fill(num(i, 1), ARRAY[3000])::vector FROM generate_series(1, 200) i;
CREATE INDEX wide_v ON wide USING spfresh (v) WITH (split_limit = 200, replicas = 1, initial_postings = 1);
SELECT max(pages) >= 4 AS chain FROM spfresh_postings('wide_v');
SET spfresh.nprobe = 1000;
SELECT count(*) FROM (SELECT id FROM wide ORDER BY v <-> array_fill(0.1, ARRAY[3000])::vector LIMIT 200) x;
SET spfresh.page_limit = 2;
SELECT count(*) < 200 AS fewer FROM (SELECT id FROM wide ORDER BY v <-> array_fill(0.1, ARRAY[3000])::vector LIMIT 100) x;
SELECT pages <= 2 * probes_by_level[1] + coalesce(probes_by_level[2], 0) AS bounded, skipped > 0 AS skipped FROM spfresh_last_scan();
RESET spfresh.page_limit;
RESET spfresh.nprobe;
DROP TABLE wide;
-- no time at all: what the first posting gave
SET spfresh.latency_budget_ms = 0.000001;
SELECT count(*) BETWEEN 1 AND 10 AS some FROM (SELECT id FROM items ORDER BY v <-> :'q' LIMIT 10) x;
SELECT stop, probes_by_level[1] <= 1 AS hardly_any FROM spfresh_last_scan();
SELECT share < 0.9 AS less, in_order FROM found('true', 10);
-- and more than enough
SET spfresh.latency_budget_ms = 3600000;
SELECT share >= 0.85 AS enough FROM found('true', 10);
SELECT stop IS DISTINCT FROM 'latency budget' AS in_time FROM spfresh_last_scan();
RESET spfresh.latency_budget_ms;
SET spfresh.latency_budget_ms = -1;
SET spfresh.page_limit = -1;
SET spfresh.max_probe_pages = -1;
SET spfresh.max_scan_tuples = -1;

-- however pages are read: the same answers

SET spfresh.io = fast;
-- what this server or this build does not have is refused
CREATE FUNCTION refused(mode text, OUT refused boolean, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	refused := false;
	PERFORM set_config('spfresh.io', mode, true);
EXCEPTION WHEN invalid_parameter_value THEN
	refused := true;
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;
SELECT refused = (current_setting('server_version_num')::int < 170000) AS before_17,
	NOT refused OR (detail, hint) = ('Read streams came with PostgreSQL 17.', 'Use auto.') AS said FROM refused('stream');
SELECT NOT refused OR (detail, hint) = ('This spfresh was built without liburing.',
	'Build it where liburing''s headers are installed, or use auto.') AS said FROM refused('io_uring');
SELECT mode, refused FROM unnest('{auto,sync,posix}'::text[]) mode, refused(mode);
CREATE TABLE answers (io text, id int, ids int[]);
DO $$
DECLARE
	mode text;
BEGIN
	FOREACH mode IN ARRAY '{sync,posix,io_uring,stream,auto}'::text[] LOOP
		BEGIN
			PERFORM set_config('spfresh.io', mode, false);
		EXCEPTION WHEN invalid_parameter_value THEN
			CONTINUE;
		END;
		INSERT INTO answers SELECT mode, q.id, array_agg(x.id) FROM queries q, LATERAL (SELECT id FROM items ORDER BY v <-> q.v LIMIT 10) x GROUP BY q.id;
	END LOOP;
END $$;
SELECT count(DISTINCT io) >= 3 AS several FROM answers;
SELECT count(*) FROM answers a JOIN answers b USING (id) WHERE a.io = 'sync' AND a.ids <> b.ids;
RESET spfresh.io;

-- many queries in one statement

CREATE TABLE batch AS SELECT q.id, x.id AS found FROM queries q, LATERAL (SELECT id FROM items ORDER BY v <-> q.v LIMIT 10) x;
SELECT count(*) FROM batch;
SELECT count(*) FROM batch b JOIN answers a ON a.io = 'sync' AND a.id = b.id WHERE NOT b.found = ANY (a.ids);
-- in parallel
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SET enable_seqscan = on;
ALTER TABLE queries SET (parallel_workers = 2);
CREATE FUNCTION is_parallel(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	plan text := '';
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		plan := plan || line;
	END LOOP;
	RETURN plan ~ 'Gather.*Parallel Seq Scan on queries.*Index Scan using items_v';
END $$;
SELECT is_parallel('SELECT q.id, x.id AS found FROM queries q, LATERAL (SELECT id FROM items ORDER BY v <-> q.v LIMIT 10) x');
SELECT count(*), count(*) FILTER (WHERE NOT y.found = ANY (a.ids)) AS other
FROM (SELECT q.id, x.id AS found FROM queries q, LATERAL (SELECT id FROM items ORDER BY v <-> q.v LIMIT 10) x OFFSET 0) y JOIN answers a ON a.io = 'sync' AND a.id = y.id;
SELECT count(*) = 400 AS "all" FROM (SELECT q.id, x.id AS found FROM queries q, LATERAL (SELECT id FROM items WHERE part < 100 ORDER BY v <-> q.v LIMIT 10) x OFFSET 0) y;
RESET max_parallel_workers_per_gather;
SET enable_seqscan = off;

-- what EXPLAIN says of it, from 18 on

CREATE FUNCTION says(options text, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	all_lines text := '';
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (' || options || ') ' || query LOOP
		all_lines := all_lines || line;
	END LOOP;
	RETURN all_lines;
END $$;
SELECT says('ANALYZE, BUFFERS', 'SELECT id FROM items ORDER BY v <-> flat(0, 16) LIMIT 10') ~
	'Search: levels=2 probes=\d+,\d+ pages=\d+ entries=\d+ records=\d+ rows=\d+ rounds=1 stop="target recall"' = (current_setting('server_version_num')::int >= 180000) AS text,
	says('ANALYZE, BUFFERS, FORMAT json', 'SELECT id FROM items ORDER BY v <-> flat(0, 16) LIMIT 10')::jsonb @?
	'$.**."Search" ? (@."Levels" == 2 && @."Pages" > 0 && @."Entries" > 0 && @."Records" > 0 && @."Rows" >= 10 && @."Rounds" == 1 && @."Stop" == "target recall" && @."Probes".size() == 2)' =
	(current_setting('server_version_num')::int >= 180000) AS json,
	says('ANALYZE, BUFFERS off', 'SELECT id FROM items ORDER BY v <-> flat(0, 16) LIMIT 10') ~ 'Search:' AS no_buffers,
	says('BUFFERS', 'SELECT id FROM items ORDER BY v <-> flat(0, 16) LIMIT 10') ~ 'Search:' AS not_run;
-- rows that the scan itself found not to pass are counted
SELECT says('ANALYZE', 'SELECT id FROM items WHERE part < 100 ORDER BY v <-> flat(0, 16) LIMIT 10') ~ 'Rows Removed by Filter: [1-9]' AS counted;

-- the planner and filters: scan and sort when few rows pass

RESET enable_sort;
RESET enable_seqscan;
SET parallel_setup_cost = 1000;
CREATE INDEX items_part ON items (part);
UPDATE pg_class SET reltuples = 1000000 WHERE relname IN ('items', 'items_v', 'items_part');
SELECT share, uses('items_v', format('SELECT id FROM items WHERE part < %s ORDER BY v <-> flat(0, 16) LIMIT 10', (share * 1000)::int)) AS by_index
FROM unnest('{0.5,0.1,0.01,0.001}'::numeric[]) share;
