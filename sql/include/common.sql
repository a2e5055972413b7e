\set ECHO none
-- What several tests need; each of them starts with
--   CREATE SCHEMA its_name;
--   SET search_path = its_name, public;
--   \getenv srcdir PG_ABS_SRCDIR
--   \set common :srcdir '/sql/include/common.sql'
--   \i :common
SET client_min_messages = warning;

-- no worker comes in between
SET spfresh.rebalance = vacuum;

-- what is not to be done is made dear, and what is dear is compiled first
SET jit = off;

-- A number in [-1, 1) that depends on a and b only, on every server and machine.
CREATE FUNCTION num(a int, b int) RETURNS real
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT ((hashint8extended(a::bigint * 100003 + b, 0) & 16777215) / 8388608.0 - 1)::real $$;

-- The i-th of clustered points.
CREATE FUNCTION point(i int, dim int, clusters int DEFAULT 20) RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT array_agg((num(-1 - i % clusters, d) + 0.3 * num(i, d))::real ORDER BY d)::vector
   FROM generate_series(1, dim) d $$;

-- All components equal: distances between such vectors are easily told.
CREATE FUNCTION flat(x float8, dim int) RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT array_fill(x::real, ARRAY[dim])::vector $$;

-- Does the query scan this index?
CREATE FUNCTION uses(index text, query text) RETURNS boolean
LANGUAGE plpgsql AS
$$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ ('Index Scan using ' || index || ' ') THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END
$$;

-- What there is to know of an index for a search with it.
CREATE FUNCTION search_of(index regclass, OUT rel text, OUT col text, OUT op text,
									 OUT type text, OUT pred text, OUT indexed text)
LANGUAGE sql STABLE AS
$$
	SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid, 1, true), oprname,
		   opcintype::regtype::text, coalesce(pg_get_expr(indpred, indrelid), 'true'),
		   CASE oprname WHEN '<=>' THEN format('vector_norm((%s)::text::vector) > 0', pg_get_indexdef(indexrelid, 1, true))
		   ELSE format('(%s) IS NOT NULL', pg_get_indexdef(indexrelid, 1, true)) END
	FROM pg_index
		JOIN pg_opclass opc ON opc.oid = indclass[0]
		JOIN pg_amop ON amopfamily = opcfamily
		JOIN pg_operator o ON o.oid = amopopr
	WHERE indexrelid = index
$$;

-- Run a search by the index, and complain unless it does use it, in the right order (but under
-- relaxed_order), and gives no row twice.
CREATE FUNCTION search(index regclass, q text, k int, OUT tids tid[], OUT distances float8[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS
$$
DECLARE
	s record;
	query text;
BEGIN
	SELECT * INTO s FROM search_of(index);
	query := format('SELECT ctid AS tid, %s %s %L::%s AS d FROM %s WHERE %s ORDER BY %s %s %L::%s LIMIT %L',
					s.col, s.op, q, s.type, s.rel, s.pred, s.col, s.op, q, s.type, k);
	IF NOT uses(index::text, query) THEN
		RAISE EXCEPTION 'index % is not used', index;
	END IF;
	EXECUTE format('SELECT array_agg(tid), array_agg(d) FROM (%s) x', query) INTO tids, distances;
	IF current_setting('spfresh.iterative_scan') <> 'relaxed_order' AND
		EXISTS (SELECT FROM unnest(distances) WITH ORDINALITY a(d, n)
				JOIN unnest(distances) WITH ORDINALITY b(d, n) ON b.n = a.n + 1 AND b.d < a.d) THEN
		RAISE EXCEPTION 'rows are not in order: %', distances;
	END IF;
	IF (SELECT count(DISTINCT t) < count(*) FROM unnest(tids) t) THEN
		RAISE EXCEPTION 'a row was given twice';
	END IF;
	tids := coalesce(tids, '{}');
	distances := coalesce(distances, '{}');
END
$$;

-- The same by a sequential scan: distances.
CREATE FUNCTION exact(index regclass, q text, k int) RETURNS float8[]
LANGUAGE plpgsql SET enable_indexscan = off SET enable_seqscan = on AS
$$
DECLARE
	s record;
	distances float8[];
BEGIN
	SELECT * INTO s FROM search_of(index);
	EXECUTE format('SELECT array_agg(d) FROM (SELECT %s %s %L::%s AS d FROM %s WHERE %s AND %s ORDER BY 1 LIMIT %L) x',
				   s.col, s.op, q, s.type, s.rel, s.pred, s.indexed, k) INTO distances;
	RETURN coalesce(distances, '{}');
END
$$;

-- Queries near rows, but none of them.
CREATE FUNCTION make_queries(index regclass, n int) RETURNS SETOF text
LANGUAGE plpgsql AS
$$
DECLARE
	s record;
BEGIN
	SELECT * INTO s FROM search_of(index);
	RETURN QUERY EXECUTE format($q$
		WITH rows AS (SELECT x::text::vector AS x, row_number() OVER (ORDER BY ctid) - 1 AS n
					  FROM (SELECT ctid, %s AS x FROM %s WHERE %s AND %s) r)
		SELECT (x + (SELECT array_agg((0.1 * num(1000000 + i, d))::real ORDER BY d)::vector
					 FROM generate_series(1, vector_dims(x)) d))::text
		FROM rows, generate_series(1, %s) i
		WHERE n = i * 7919 %% (SELECT count(*) FROM rows) ORDER BY i $q$,
		s.col, s.rel, s.pred, s.indexed, n);
END
$$;

-- The share of the k nearest rows that the index finds.
CREATE FUNCTION recall(index regclass, queries int, k int) RETURNS float8
LANGUAGE plpgsql AS
$$
DECLARE
	q text;
	truth float8[];
	wanted float8 := 0;
	found float8 := 0;
BEGIN
	FOR q IN SELECT make_queries(index, queries) LOOP
		truth := exact(index, q, k);
		wanted := wanted + cardinality(truth);
		found := found + (SELECT count(*) FROM search(index, q, k) s, unnest(s.distances) d
						  WHERE d <= truth[cardinality(truth)]);
	END LOOP;
	RETURN CASE WHEN wanted > 0 THEN found / wanted END;
END
$$;

-- Is the index sound?  And does an exhaustive search give every indexed row once, with its exact distance?  (Strictly
-- ordered ones may lose some: what is found too late for the order.)
CREATE FUNCTION complete(index regclass) RETURNS boolean
LANGUAGE plpgsql
SET spfresh.nprobe = 2000000000 SET spfresh.iterative_scan = relaxed_order
SET spfresh.max_scan_tuples = 2000000000 SET work_mem = '1GB' AS
$$
DECLARE
	q text;
	truth float8[];
	given float8[];
BEGIN
	PERFORM spfresh_check(index);
	FOR q IN SELECT make_queries(index, 2) LOOP
		truth := exact(index, q, NULL);
		SELECT array_agg(d ORDER BY d) INTO given FROM search(index, q, NULL) s, unnest(s.distances) d;
		IF given <> truth THEN
			RAISE WARNING '% rows of % found', cardinality(given), cardinality(truth);
			RETURN false;
		END IF;
	END LOOP;
	RETURN true;
END
$$;

RESET client_min_messages;
\set ECHO all
