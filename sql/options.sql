CREATE SCHEMA options;
SET search_path = options, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common
LOAD 'spfresh';

-- settings: what they are, and what they are not

SELECT name, vartype, context, min_val, max_val, enumvals, boot_val FROM pg_settings WHERE name LIKE 'spfresh.%' AND name <> 'spfresh.fault_point' ORDER BY name;
SET spfresh.nprobe = -1;
SET spfresh.target_recall = 0.4;
SET spfresh.target_recall = 1;
SET spfresh.expected_rows = 0;
SET spfresh.max_scan_tuples = -1;
SET spfresh.iterative_scan = sometimes;
SET spfresh.rerank = perhaps;
SET spfresh.simd = mmx;
SET spfresh.nonsense = 1;
SHOW spfresh.nprobe;
BEGIN;
SET LOCAL spfresh.nprobe = 7;
SHOW spfresh.nprobe;
ROLLBACK;
SHOW spfresh.nprobe;
-- every extreme works
CREATE TABLE items (id int, v vector(3));
INSERT INTO items SELECT i, point(i, 3) FROM generate_series(1, 2000) i;
CREATE INDEX items_v ON items USING spfresh (v);
SET spfresh.nprobe = 2147483647;
SET spfresh.expected_rows = 1000000;
SET spfresh.max_scan_tuples = 2147483647;
SELECT cardinality(tids) FROM search('items_v', '[0,0,0]', 10);
SELECT complete('items_v');
SET spfresh.nprobe = 1;
SET spfresh.expected_rows = 1;
SET spfresh.max_scan_tuples = 1;
SET spfresh.target_recall = 0.5;
SELECT cardinality(tids) > 0 AS some FROM search('items_v', '[0,0,0]', 10);
RESET spfresh.nprobe;
SELECT cardinality(tids) FROM search('items_v', '[0,0,0]', 1);
SET spfresh.target_recall = 0.999;
SELECT cardinality(tids) FROM search('items_v', '[0,0,0]', 1);
SELECT cardinality(tids) > 0 AS some FROM search('items_v', '[0,0,0]', 2000000000);
RESET ALL;
SET search_path = options, public;

-- storage parameters

CREATE INDEX bad ON items USING spfresh (v) WITH (replicas = 0);
CREATE INDEX bad ON items USING spfresh (v) WITH (replicas = 9);
CREATE INDEX bad ON items USING spfresh (v) WITH (code_bits = -1);
CREATE INDEX bad ON items USING spfresh (v) WITH (code_bits = 5);
CREATE INDEX bad ON items USING spfresh (v) WITH (split_limit = -1);
CREATE INDEX bad ON items USING spfresh (v) WITH (split_limit = 10001);
CREATE INDEX bad ON items USING spfresh (v) WITH (merge_limit = -1);
CREATE INDEX bad ON items USING spfresh (v) WITH (merge_limit = 10001);
CREATE INDEX bad ON items USING spfresh (v) WITH (reassign_range = -1);
CREATE INDEX bad ON items USING spfresh (v) WITH (reassign_range = 1001);
CREATE INDEX bad ON items USING spfresh (v) WITH (initial_postings = -1);
CREATE INDEX bad ON items USING spfresh (v) WITH (initial_postings = 100000001);
CREATE INDEX bad ON items USING spfresh (v) WITH (fillfactor = 49);
CREATE INDEX bad ON items USING spfresh (v) WITH (fillfactor = 101);
CREATE INDEX bad ON items USING spfresh (v) WITH (replicas = many);
CREATE INDEX bad ON items USING spfresh (v) WITH (lists = 100);
SELECT to_regclass('bad');
-- each minimum and each maximum works, on a table and as the index grows by itself
CREATE TABLE least (id int, v vector(3));
CREATE INDEX least_v ON least USING spfresh (v)
	WITH (replicas = 1, code_bits = 1, split_limit = 1, merge_limit = 1, reassign_range = 0, initial_postings = 1, fillfactor = 50);
INSERT INTO least SELECT * FROM items;
SELECT complete('least_v');
REINDEX INDEX least_v;
SELECT complete('least_v');
CREATE TABLE most (id int, v vector(3));
CREATE INDEX most_v ON most USING spfresh (v)
	WITH (replicas = 8, code_bits = 4, split_limit = 10000, merge_limit = 10000, reassign_range = 1000, initial_postings = 100000000, fillfactor = 100);
INSERT INTO most SELECT * FROM items;
SELECT complete('most_v');
REINDEX INDEX most_v;
SELECT complete('most_v');
-- changed later: REINDEX takes it (and fillfactor new rows)
ALTER INDEX items_v SET (replicas = 4, split_limit = 30, fillfactor = 80);
SELECT reloptions FROM pg_class WHERE oid = 'items_v'::regclass;
INSERT INTO items SELECT i, point(i, 3) FROM generate_series(2001, 4000) i;
SELECT complete('items_v');
SELECT pg_relation_size('items_v') AS before \gset
REINDEX INDEX items_v;
SELECT complete('items_v'), pg_relation_size('items_v') > :before * 1.3 AS larger;
ALTER INDEX items_v SET (replicas = 0);
ALTER INDEX items_v SET (lists = 1);
ALTER INDEX items_v RESET (replicas, split_limit, fillfactor);
SELECT reloptions FROM pg_class WHERE oid = 'items_v'::regclass;

-- definitions, as dumps have them

CREATE INDEX defined ON items USING spfresh ((v::halfvec(3)) halfvec_cosine_ops) WITH (replicas = 3, code_bits = 2) WHERE id > 10;
SELECT pg_get_indexdef('defined'::regclass);
SELECT pg_get_indexdef('items_v'::regclass);
\d items

-- the access method and its operator classes

SELECT amname, amtype, amhandler FROM pg_am WHERE amname = 'spfresh';
\dA+ spfresh
SELECT opcname, opcintype::regtype, opcdefault, amvalidate(opc.oid)
FROM pg_opclass opc JOIN pg_am am ON am.oid = opcmethod WHERE amname = 'spfresh' ORDER BY 2, 1;
SELECT property, pg_indexam_has_property(am.oid, property)
FROM pg_am am, unnest('{can_order,can_unique,can_multi_col,can_exclude,can_include}'::text[]) property WHERE amname = 'spfresh';
SELECT property, pg_index_has_property('items_v'::regclass, property)
FROM unnest('{clusterable,index_scan,bitmap_scan,backward_scan}'::text[]) property;
SELECT property, pg_index_column_has_property('items_v'::regclass, 1, property)
FROM unnest('{orderable,distance_orderable,returnable,search_array,search_nulls}'::text[]) property;
CREATE UNIQUE INDEX bad ON items USING spfresh (v);
CREATE INDEX bad ON items USING spfresh (v, v);
CREATE INDEX bad ON items USING spfresh (v) INCLUDE (id);
CREATE INDEX bad ON items USING spfresh (v DESC);
CREATE INDEX bad ON items USING spfresh (id);
CREATE INDEX bad ON items USING spfresh (v bit_hamming_ops);
CREATE INDEX bad ON items USING spfresh (v halfvec_l2_ops);
CLUSTER items USING items_v;
SELECT to_regclass('bad');
-- operator classes that it cannot use
CREATE OPERATOR CLASS lacking FOR TYPE vector USING spfresh AS
	OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 vector_l2_squared_distance(vector, vector);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'lacking';
CREATE INDEX bad ON items USING spfresh (v lacking);
CREATE OPERATOR CLASS searching FOR TYPE vector USING spfresh AS
	OPERATOR 1 = (vector, vector),
	FUNCTION 1 vector_l2_squared_distance(vector, vector),
	FUNCTION 2 (vector, vector) spfresh_vector_l2_support(internal);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'searching';
CREATE OPERATOR CLASS wrong FOR TYPE vector USING spfresh AS
	OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 vector_dims(vector),
	FUNCTION 2 (vector, vector) spfresh_vector_l2_support(internal);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'wrong';
DROP OPERATOR FAMILY lacking USING spfresh;
DROP OPERATOR FAMILY searching USING spfresh;
DROP OPERATOR FAMILY wrong USING spfresh;
-- many dimensions: TOASTed rows, at the limit, and beyond

CREATE FUNCTION wide(i int, dim int) RETURNS vector LANGUAGE sql IMMUTABLE AS
$$ SELECT array_agg(num(i, d) ORDER BY d)::vector FROM generate_series(1, dim) d $$;
CREATE TABLE wide (id int, v2000 vector(2000), h4000 halfvec(4000), v8000 vector(8000), h8000 halfvec(8000));
INSERT INTO wide SELECT i, wide(i, 2000), wide(i, 4000)::halfvec, wide(i, 8000), wide(i, 8000)::halfvec FROM generate_series(1, 60) i;
CREATE INDEX wide_v2000 ON wide USING spfresh (v2000 vector_cosine_ops);
CREATE INDEX wide_h4000 ON wide USING spfresh (h4000);
CREATE INDEX wide_v8000 ON wide USING spfresh (v8000);
CREATE INDEX wide_h8000 ON wide USING spfresh (h8000 halfvec_ip_ops);
INSERT INTO wide SELECT i, wide(i, 2000), wide(i, 4000)::halfvec, wide(i, 8000), wide(i, 8000)::halfvec FROM generate_series(61, 100) i;
SELECT index, complete(index) FROM unnest('{wide_v2000,wide_h4000,wide_v8000,wide_h8000}'::regclass[]) index;
-- more bits than a page has room for: as many as it has
CREATE INDEX wide_bits ON wide USING spfresh (v8000) WITH (code_bits = 4, replicas = 8);
DROP INDEX wide_v8000;
SELECT complete('wide_bits');
INSERT INTO wide (id, v8000) SELECT i, wide(i, 8000) FROM generate_series(101, 110) i;
SELECT complete('wide_bits');
CREATE TABLE wider (v vector(8001), w vector, h halfvec(8001));
CREATE INDEX bad ON wider USING spfresh (v);
CREATE INDEX bad ON wider USING spfresh (h);
CREATE INDEX wider_w ON wider USING spfresh (w);
INSERT INTO wider (w) VALUES (flat(1, 8001));
INSERT INTO wider (w) VALUES (flat(1, 8000));
INSERT INTO wider (w) VALUES (flat(1, 8001));
SELECT cardinality(tids) FROM search('wider_w', flat(1, 8000)::text, 10);
DROP INDEX wider_w;
TRUNCATE wider;
INSERT INTO wider (w) VALUES (flat(1, 8001));
CREATE INDEX bad ON wider USING spfresh (w);
SELECT to_regclass('bad');
