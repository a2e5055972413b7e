CREATE SCHEMA parallel;
SET search_path = parallel, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common

-- Builds by several processes.  The table says how many workers, the setting how many at most.

SET max_parallel_maintenance_workers = 4;
CREATE TABLE items (id int, v vector(16)) WITH (parallel_workers = 2);
INSERT INTO items SELECT i, point(i, 16) FROM generate_series(1, 10000) i;
DELETE FROM items WHERE id % 10 = 3;

-- every number of workers

CREATE TABLE built AS SELECT 'none' AS name, pg_relation_size('items') AS size, 0::bigint AS postings, 0::bigint AS rows LIMIT 0;
SET max_parallel_maintenance_workers = 0;
CREATE INDEX items_v ON items USING spfresh (v);
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');
INSERT INTO built SELECT 'none', pg_relation_size('items_v'), postings, rows FROM spfresh_stats('items_v');
DROP INDEX items_v;
SET max_parallel_maintenance_workers = 1;
CREATE INDEX items_v ON items USING spfresh (v);
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');
INSERT INTO built SELECT 'one', pg_relation_size('items_v'), postings, rows FROM spfresh_stats('items_v');
DROP INDEX items_v;
SET max_parallel_maintenance_workers = 4;
ALTER TABLE items SET (parallel_workers = 4);
CREATE INDEX items_v ON items USING spfresh (v vector_cosine_ops);
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');
INSERT INTO built SELECT 'four', pg_relation_size('items_v'), postings, rows FROM spfresh_stats('items_v');
DROP INDEX items_v;
ALTER TABLE items SET (parallel_workers = 2);
CREATE INDEX items_v ON items USING spfresh (v);
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');
INSERT INTO built SELECT 'two', pg_relation_size('items_v'), postings, rows FROM spfresh_stats('items_v');
-- the sizes are those of one process, but for the pages that each leaves unfilled
SELECT b.name, abs(b.size - n.size) < 0.1 * n.size AS size, abs(b.postings - n.postings) < 0.1 * n.postings AS postings, b.rows
FROM built b, built n WHERE n.name = 'none' ORDER BY b.name;
-- (18 leaves them alone where autovacuum is off)
SELECT reltuples IN (-1, 9000) AS reltuples FROM pg_class WHERE oid IN ('items_v'::regclass, 'items'::regclass);

INSERT INTO items SELECT i, point(i, 16) FROM generate_series(20001, 20500) i;
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');
REINDEX INDEX items_v;
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');
REINDEX INDEX CONCURRENTLY items_v;
SELECT recall('items_v', 20, 10) >= 0.85 AS recall, complete('items_v');
DROP INDEX items_v;

-- in little memory the processes sort in files

SET maintenance_work_mem = '1MB';
CREATE INDEX little ON items USING spfresh (v) WITH (split_limit = 16);
RESET maintenance_work_mem;
SELECT recall('little', 20, 10) >= 0.85 AS recall, complete('little');
SELECT levels > 2 AS levels FROM spfresh_stats('little');
DROP INDEX little;

-- partial, expression, concurrently

CREATE INDEX part ON items USING spfresh (v) WHERE id % 3 = 0;
SELECT recall('part', 20, 10) >= 0.85 AS recall, complete('part');
CREATE INDEX expr ON items USING spfresh ((subvector(v, 1, 8)::halfvec(8)) halfvec_cosine_ops);
SELECT recall('expr', 20, 10) >= 0.85 AS recall, complete('expr');
CREATE INDEX CONCURRENTLY conc ON items USING spfresh (v vector_ip_ops);
SELECT indisvalid FROM pg_index WHERE indexrelid = 'conc'::regclass;
SELECT recall('conc', 20, 10) >= 0.85 AS recall, complete('conc');
DROP INDEX part, expr, conc;
-- an expression that must not be computed in parallel
CREATE FUNCTION unsafe(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE AS
$$ BEGIN RETURN v; END $$;
CREATE INDEX expr ON items USING spfresh ((unsafe(v)::vector(16)));
SELECT complete('expr');
DROP INDEX expr;
-- one that fails, in whichever process
CREATE FUNCTION failing(id int, v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
$$ BEGIN IF id = 9990 THEN RAISE EXCEPTION 'this row fails'; END IF; RETURN v; END $$;
\set VERBOSITY terse
CREATE INDEX fails ON items USING spfresh ((failing(id, v)::vector(16)));
\set VERBOSITY default
SELECT to_regclass('fails');

-- nothing, nulls, few different vectors, all in one posting

CREATE TABLE odd (v vector(8)) WITH (parallel_workers = 3);
CREATE INDEX odd_v ON odd USING spfresh (v);
SELECT complete('odd_v');
INSERT INTO odd SELECT NULL FROM generate_series(1, 1000);
REINDEX INDEX odd_v;
SELECT complete('odd_v');
INSERT INTO odd SELECT flat(1, 8) FROM generate_series(1, 5000);
REINDEX INDEX odd_v;
SELECT complete('odd_v');
SELECT records, rows FROM spfresh_stats('odd_v');
INSERT INTO odd SELECT flat(i % 7, 8) FROM generate_series(1, 5000) i;
REINDEX INDEX odd_v;
SELECT complete('odd_v');
SELECT records, rows FROM spfresh_stats('odd_v');

-- unlogged, temporary, rows and the table itself of this transaction

CREATE UNLOGGED TABLE unlogged WITH (parallel_workers = 2) AS SELECT id, v FROM items WHERE id < 3000;
CREATE INDEX ON unlogged USING spfresh (v vector_l2_ops);
SELECT complete('unlogged_v_idx');
CREATE TEMP TABLE temporary (id int, v vector(16)) WITH (parallel_workers = 2);
INSERT INTO temporary SELECT id, v FROM items WHERE id < 3000;
CREATE INDEX ON temporary USING spfresh (v);
SELECT complete('temporary_v_idx');
BEGIN;
CREATE TABLE own (id int, v vector(16)) WITH (parallel_workers = 2);
INSERT INTO own SELECT id, v FROM items WHERE id < 3000;
DELETE FROM own WHERE id < 1000;
SAVEPOINT a;
INSERT INTO own SELECT id, v FROM items WHERE id < 100;
ROLLBACK TO a;
CREATE INDEX ON own USING spfresh (v);
SELECT complete('own_v_idx');
COMMIT;
SELECT complete('own_v_idx');

-- HOT chains that old snapshots would see differently
CREATE TABLE hot (id int, v vector(16)) WITH (parallel_workers = 2, fillfactor = 50);
INSERT INTO hot SELECT i, point(i, 16) FROM generate_series(1, 3000) i;
UPDATE hot SET v = point(-id, 16) WHERE id % 3 = 0;
CREATE INDEX ON hot USING spfresh (v);
SELECT complete('hot_v_idx');
