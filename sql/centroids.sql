CREATE SCHEMA centroids;
SET search_path = centroids, public;
\getenv srcdir PG_ABS_SRCDIR
\set common :srcdir '/sql/include/common.sql'
\i :common

-- Centroids that were trained elsewhere, and initial_postings.

CREATE TABLE items (id int, v vector(16), h halfvec(16));
INSERT INTO items SELECT i, p, p::halfvec(16) FROM generate_series(1, 5000) i, point(i, 16) p;
CREATE TABLE given (c vector(16));
INSERT INTO given SELECT v FROM items WHERE id % 50 = 0;

CREATE INDEX v_given ON items USING spfresh (v) WITH (centroids = 'centroids.given');
SELECT recall('v_given', 20, 10) >= 0.85 AS recall, complete('v_given');
SELECT postings BETWEEN 90 AND 130 AS postings FROM spfresh_stats('v_given');
SELECT pg_get_indexdef('v_given'::regclass);
-- it is really these that are used: two far apart part the rows in two, and each goes to both
TRUNCATE given;
INSERT INTO given SELECT flat(x, 16) FROM unnest('{-100,100}'::float8[]) x;
CREATE INDEX v_two ON items USING spfresh (v) WITH (centroids = 'centroids.given', split_limit = 10000, replicas = 1);
SELECT postings, entries FROM spfresh_stats('v_two');
SELECT complete('v_two');
DROP INDEX v_two;

-- every metric, the other type, a view, doubles, by several processes
TRUNCATE given;
INSERT INTO given SELECT v FROM items WHERE id % 50 = 0;
INSERT INTO given SELECT v FROM items WHERE id % 100 = 0;
CREATE VIEW half AS SELECT c::halfvec(16) AS "the centroid" FROM given;
CREATE INDEX v_cosine ON items USING spfresh (v vector_cosine_ops) WITH (centroids = 'centroids.half');
CREATE INDEX h_ip ON items USING spfresh (h halfvec_ip_ops) WITH (centroids = 'centroids.given');
ALTER TABLE items SET (parallel_workers = 2);
CREATE INDEX h_l2 ON items USING spfresh (h) WITH (centroids = 'centroids.half');
ALTER TABLE items RESET (parallel_workers);
SELECT index, recall(index, 20, 10) >= 0.85 AS recall, complete(index), (SELECT postings FROM spfresh_stats(index)) BETWEEN 90 AND 130 AS postings
FROM unnest('{v_cosine,h_ip,h_l2}'::regclass[]) index;
DROP INDEX v_cosine, h_ip, h_l2;
-- a name that needs quotes
CREATE TABLE "The Given" AS SELECT * FROM given;
CREATE INDEX v_quoted ON items USING spfresh (v) WITH (centroids = 'centroids."The Given"');
SELECT complete('v_quoted');
DROP INDEX v_quoted;

-- the names are looked at when they are given
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'given');
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = '');
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'a.b.c');
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'a."b');

-- what is there, when it is read
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'centroids.missing');
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'missing.given');
CREATE TABLE two_columns (c vector(16), d int);
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'centroids.two_columns');
ALTER TABLE two_columns DROP COLUMN c;
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'centroids.two_columns');
CREATE TABLE empty (c vector(16));
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'centroids.empty');
INSERT INTO empty VALUES (NULL);
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'centroids.empty');
CREATE TABLE loose (c vector);
INSERT INTO loose VALUES ('[1,2,3]');
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'centroids.loose');
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'centroids.given', initial_postings = 7);
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'centroids.v_given');
-- more than there is memory for
CREATE TABLE many AS SELECT point(i, 16) AS c FROM generate_series(1, 8000) i;
SET maintenance_work_mem = '1MB';
\set VERBOSITY terse
CREATE INDEX bad ON items USING spfresh (v) WITH (centroids = 'centroids.many', code_bits = 1);
\set VERBOSITY default
RESET maintenance_work_mem;
SELECT to_regclass('bad');

-- the table may go; a rebuild needs it, or the parameter reset
DROP TABLE given CASCADE;
SELECT complete('v_given');
INSERT INTO items SELECT i, point(i, 16) FROM generate_series(5001, 5100) i;
REINDEX INDEX v_given;
SELECT complete('v_given');
ALTER INDEX v_given RESET (centroids);
REINDEX INDEX v_given;
SELECT complete('v_given');
DROP INDEX v_given;

-- it is read with the rights of the table's owner
CREATE ROLE spf_centroids_owner;
GRANT USAGE, CREATE ON SCHEMA centroids TO spf_centroids_owner;
CREATE TABLE theirs AS SELECT id, v FROM items;
ALTER TABLE theirs OWNER TO spf_centroids_owner;
CREATE TABLE secret AS SELECT v AS c FROM items WHERE id % 50 = 0;
CREATE INDEX theirs_v ON theirs USING spfresh (v vector_l2_ops) WITH (centroids = 'centroids.secret');
GRANT SELECT ON secret TO spf_centroids_owner;
CREATE INDEX theirs_v ON theirs USING spfresh (v vector_l2_ops) WITH (centroids = 'centroids.secret');
SELECT complete('theirs_v');
DROP TABLE theirs;
REVOKE ALL ON secret FROM spf_centroids_owner;
REVOKE ALL ON SCHEMA centroids FROM spf_centroids_owner;
DROP ROLE spf_centroids_owner;

-- initial_postings: as many as asked for, more or less, where there are vectors enough
CREATE INDEX v_few ON items USING spfresh (v) WITH (initial_postings = 40, split_limit = 1000);
SELECT complete('v_few'), postings BETWEEN 38 AND 42 AS postings FROM spfresh_stats('v_few');
DROP INDEX v_few;
CREATE INDEX v_many ON items USING spfresh (v) WITH (initial_postings = 700);
SELECT complete('v_many'), postings BETWEEN 650 AND 705 AS postings FROM spfresh_stats('v_many');
