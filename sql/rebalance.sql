CREATE SCHEMA rebalance;
SET search_path = rebalance, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
LOAD 'spfresh';
\i :common

-- settings
SET spfresh.rebalance = inline;
SET spfresh.rebalance = 'VACUUM';
SHOW spfresh.rebalance;
SET spfresh.rebalance = off;
SET spfresh.max_workers = 1;
SET spfresh.naptime = 1;
ALTER SYSTEM SET spfresh.max_workers = -1;
ALTER SYSTEM SET spfresh.max_workers = 1025;
-- 22023; before 16 the message has no units
\set VERBOSITY sqlstate
ALTER SYSTEM SET spfresh.naptime = 0;
\set VERBOSITY default
ALTER SYSTEM SET spfresh.naptime = '1 year';
SET spfresh.rebalance = vacuum;

-- of nothing
CREATE TABLE items (id int, v vector(8)) WITH (autovacuum_enabled = off);
CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 24);
SELECT * FROM spfresh_rebalance('items_v');
INSERT INTO items VALUES (0, NULL);
SELECT * FROM spfresh_rebalance('items_v');
INSERT INTO items VALUES (0, '[1,2,3,4,5,6,7,8]');
SELECT * FROM spfresh_rebalance('items_v');

-- what inserting leaves to do, and that there is nothing afterwards
INSERT INTO items SELECT i, point(i, 8) FROM generate_series(1, 1500) i;
SELECT splits > 50 AS splits, reassigned_vectors, merges, reclustered_regions, queued_items > 10 AS queued,
	oldest_queued > now() - interval '1 hour' AND oldest_queued <= clock_timestamp() + interval '1 second' AS oldest,
	last_error, last_error_at
FROM spfresh_stats('items_v');
SELECT reassigned_vectors > 0 AS reassigned, evaluated_entries > reassigned_vectors AS evaluated FROM spfresh_rebalance('items_v');
CREATE VIEW done AS SELECT splits, reassigned_vectors, evaluated_entries, merges, reclustered_regions, reclustered_entries, postings
FROM spfresh_stats('items_v');
CREATE TABLE before AS SELECT * FROM done;
SELECT reassigned_vectors > 0 AS reassigned, evaluated_entries > 0 AS evaluated FROM before;
SELECT complete('items_v');

-- once all is done nothing more comes of it, however often it is asked for; some of it waits for transactions
-- that may still look where something was before
CREATE PROCEDURE rebalance(index regclass, times int) LANGUAGE plpgsql AS
$$
BEGIN
	FOR i IN 1 .. times LOOP
		PERFORM txid_current();
		COMMIT;
		PERFORM spfresh_rebalance(index);
		COMMIT;
	END LOOP;
END
$$;
CALL rebalance('items_v', 8);
TRUNCATE before;
INSERT INTO before SELECT * FROM done;
CALL rebalance('items_v', 5);
SELECT b.splits = d.splits AS splits, b.merges = d.merges AS merges, b.reclustered_regions = d.reclustered_regions AS reclustered,
	b.postings = d.postings AS postings
FROM before b, done d;

-- rows that go and come again, in the same places: splits and merges do not chase each other
CREATE TABLE rounds (n int, round int, splits int8, merges int8, postings int8);
SELECT unnest(ARRAY[
	format('DELETE FROM items WHERE id > 1000 AND id %% 20 = 7 AND id <= 1000 + %s * 20', n),
	'VACUUM items',
	'DO $$ BEGIN PERFORM txid_current(), spfresh_rebalance(''items_v''); END $$',
	format('INSERT INTO items SELECT i, point(i, 8) FROM generate_series(1007, 1000 + %s * 20, 20) i', n),
	'DO $$ BEGIN PERFORM txid_current(), spfresh_rebalance(''items_v''); END $$',
	format('INSERT INTO rounds SELECT %s, %s, splits, merges, postings FROM spfresh_stats(''items_v'')', n, round)])
FROM unnest('{1,4,16}'::int[]) n, generate_series(1, 10) round
\set ECHO none
\gexec
\set ECHO all
SELECT n, max(splits) - min(splits) <= 6 * n * 0.2 + 2 AS few_splits, max(merges) - min(merges) AS merges FROM rounds WHERE round > 4 GROUP BY n ORDER BY n;
SELECT min(postings) > 0 AND max(postings) < 1.1 * min(postings) AS postings FROM rounds;
SELECT complete('items_v');

-- most rows go, then all of them: postings are merged, levels taken away
DELETE FROM items WHERE id % 20 > 4;
VACUUM items;
SELECT merges > 0 AS merges FROM spfresh_stats('items_v');
SELECT complete('items_v');
DELETE FROM items;
VACUUM items;
CALL rebalance('items_v', 5);
SELECT levels, postings, entries, records, retired_postings, queued_items, oldest_queued, stale_share FROM spfresh_stats('items_v');
SELECT complete('items_v'), unreachable_pages, unreachable_records FROM spfresh_check('items_v');
INSERT INTO items SELECT i, point(i, 8) FROM generate_series(1, 500) i;
SELECT complete('items_v');

-- without reassignment
CREATE TABLE still (id int, v vector(8)) WITH (autovacuum_enabled = off);
CREATE INDEX still_v ON still USING spfresh (v) WITH (split_limit = 24, reassign_range = 0);
INSERT INTO still SELECT i, point(i, 8) FROM generate_series(1, 800) i;
SELECT reassigned_vectors, evaluated_entries FROM spfresh_rebalance('still_v');
SELECT splits > 20 AS splits, reassigned_vectors FROM spfresh_stats('still_v');
SELECT complete('still_v');

-- what nobody else can see, the inserting backend does itself, by default
SET spfresh.rebalance = background;
CREATE TEMP TABLE own (id int, v vector(8));
CREATE INDEX own_v ON own USING spfresh (v) WITH (split_limit = 24);
INSERT INTO own SELECT i, point(i, 8) FROM generate_series(1, 800) i;
SELECT reassigned_vectors > 0 AS reassigned FROM spfresh_stats('own_v');
SELECT complete('own_v');
SET spfresh.rebalance = vacuum;
BEGIN;
CREATE TABLE fresh (id int, v vector(8));
CREATE INDEX fresh_v ON fresh USING spfresh (v) WITH (split_limit = 24);
SET LOCAL spfresh.rebalance = background;
INSERT INTO fresh SELECT i, point(i, 8) FROM generate_series(1, 800) i;
SELECT reassigned_vectors > 0 AS reassigned FROM spfresh_stats('fresh_v');
COMMIT;
SELECT complete('fresh_v');
-- inline: so does whoever inserts
CREATE UNLOGGED TABLE inlined (id int, v vector(8));
CREATE INDEX inlined_v ON inlined USING spfresh (v) WITH (split_limit = 24);
SET spfresh.rebalance = inline;
INSERT INTO inlined SELECT i, point(i, 8) FROM generate_series(1, 800) i;
SELECT reassigned_vectors > 0 AS reassigned FROM spfresh_stats('inlined_v');
SET spfresh.rebalance = vacuum;
SELECT complete('inlined_v');

-- all metrics
CREATE TABLE kinds (id int, v vector(8), h halfvec(8)) WITH (autovacuum_enabled = off);
CREATE INDEX kinds_ip ON kinds USING spfresh (v vector_ip_ops) WITH (split_limit = 24);
CREATE INDEX kinds_cosine ON kinds USING spfresh (v vector_cosine_ops) WITH (split_limit = 24, replicas = 1);
CREATE INDEX kinds_h ON kinds USING spfresh (h halfvec_cosine_ops) WITH (split_limit = 24, replicas = 4);
INSERT INTO kinds SELECT i, point(i, 8), point(i, 8)::halfvec FROM generate_series(1, 600) i;
DELETE FROM kinds WHERE id % 20 > 10;
VACUUM kinds;
SELECT index, reassigned_vectors > 0 AS reassigned, complete(index)
FROM unnest('{kinds_ip,kinds_cosine,kinds_h}'::regclass[]) index, spfresh_stats(index);

-- what is no such index
CREATE INDEX items_id ON items (id);
CREATE TABLE parted (v vector(3)) PARTITION BY RANGE (v);
CREATE INDEX parted_v ON parted USING spfresh (v);
SELECT spfresh_rebalance('items');
SELECT spfresh_rebalance('items_id');
SELECT spfresh_rebalance('parted_v');
SELECT spfresh_rebalance(1);
SELECT spfresh_rebalance(NULL);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'still_v'::regclass;
SELECT spfresh_rebalance('still_v');
UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'still_v'::regclass;

-- who may
CREATE ROLE regress_spfresh_nobody;
CREATE ROLE regress_spfresh_monitor IN ROLE pg_stat_scan_tables;
CREATE ROLE regress_spfresh_owner;
GRANT USAGE ON SCHEMA rebalance TO PUBLIC;
ALTER TABLE still OWNER TO regress_spfresh_owner;
SET ROLE regress_spfresh_nobody;
SELECT spfresh_rebalance('still_v');
SET ROLE regress_spfresh_monitor;
SELECT spfresh_rebalance('still_v');
SET ROLE regress_spfresh_owner;
SELECT reassigned_vectors FROM spfresh_rebalance('still_v');
SELECT spfresh_rebalance('items_v');
RESET ROLE;
ALTER TABLE still OWNER TO CURRENT_USER;
REVOKE USAGE ON SCHEMA rebalance FROM PUBLIC;
DROP ROLE regress_spfresh_nobody, regress_spfresh_monitor, regress_spfresh_owner;
