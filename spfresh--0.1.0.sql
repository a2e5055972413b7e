/* spfresh--0.1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION spfresh" to load this file. \quit

CREATE FUNCTION spfresh_handler(internal) RETURNS index_am_handler
	AS 'MODULE_PATHNAME' LANGUAGE C;

CREATE ACCESS METHOD spfresh TYPE INDEX HANDLER spfresh_handler;

COMMENT ON ACCESS METHOD spfresh IS
	'vector index of small clusters that keeps itself balanced';

-- what each operator class stands for

CREATE FUNCTION spfresh_vector_l2_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION spfresh_vector_ip_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION spfresh_vector_cosine_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION spfresh_halfvec_l2_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION spfresh_halfvec_ip_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION spfresh_halfvec_cosine_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- operator classes, under pgvector's names

CREATE OPERATOR CLASS vector_l2_ops
	DEFAULT FOR TYPE vector USING spfresh AS
	OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 vector_l2_squared_distance(vector, vector),
	FUNCTION 2 (vector, vector) spfresh_vector_l2_support(internal);

CREATE OPERATOR CLASS vector_ip_ops
	FOR TYPE vector USING spfresh AS
	OPERATOR 1 <#> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 vector_negative_inner_product(vector, vector),
	FUNCTION 2 (vector, vector) spfresh_vector_ip_support(internal);

CREATE OPERATOR CLASS vector_cosine_ops
	FOR TYPE vector USING spfresh AS
	OPERATOR 1 <=> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 cosine_distance(vector, vector),
	FUNCTION 2 (vector, vector) spfresh_vector_cosine_support(internal);

CREATE OPERATOR CLASS halfvec_l2_ops
	DEFAULT FOR TYPE halfvec USING spfresh AS
	OPERATOR 1 <-> (halfvec, halfvec) FOR ORDER BY float_ops,
	FUNCTION 1 halfvec_l2_squared_distance(halfvec, halfvec),
	FUNCTION 2 (halfvec, halfvec) spfresh_halfvec_l2_support(internal);

CREATE OPERATOR CLASS halfvec_ip_ops
	FOR TYPE halfvec USING spfresh AS
	OPERATOR 1 <#> (halfvec, halfvec) FOR ORDER BY float_ops,
	FUNCTION 1 halfvec_negative_inner_product(halfvec, halfvec),
	FUNCTION 2 (halfvec, halfvec) spfresh_halfvec_ip_support(internal);

CREATE OPERATOR CLASS halfvec_cosine_ops
	FOR TYPE halfvec USING spfresh AS
	OPERATOR 1 <=> (halfvec, halfvec) FOR ORDER BY float_ops,
	FUNCTION 1 cosine_distance(halfvec, halfvec),
	FUNCTION 2 (halfvec, halfvec) spfresh_halfvec_cosine_support(internal);

-- Seeing what an index is like.  These functions themselves see to it that none but an index's
-- owner, and for the first two pg_stat_scan_tables, gets an answer: so owners need no grant.

CREATE FUNCTION spfresh_stats(index regclass,
	OUT format_version int, OUT type text, OUT metric text, OUT dimensions int,
	OUT code_bits int, OUT replicas int, OUT lanes int, OUT split_limit int, OUT merge_limit int,
	OUT levels int, OUT postings int8, OUT postings_by_level int8[],
	OUT posting_max_entries int8, OUT posting_avg_entries float8,
	OUT overflowing_postings int8, OUT retired_postings int8,
	OUT entries int8, OUT stale_entries int8, OUT upper_entries int8,
	OUT records int8, OUT centroids int8, OUT rows int8,
	OUT record_bytes int8, OUT posting_bytes int8, OUT tid_bytes int8, OUT free_bytes int8,
	OUT total_bytes int8, OUT splits int8, OUT swept_entries int8,
	OUT merges int8, OUT evaluated_entries int8, OUT reassigned_vectors int8,
	OUT reclustered_regions int8, OUT reclustered_entries int8,
	OUT stale_share float8, OUT balance_by_level float8[],
	OUT queued_items int, OUT oldest_queued timestamptz,
	OUT last_error text, OUT last_error_at timestamptz,
	OUT calibration_samples int, OUT calibration_postings int8, OUT calibration jsonb)
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION spfresh_stats(regclass) IS
	'figures of a spfresh index, by reading all of it; entries and records are those of level 0';

CREATE FUNCTION spfresh_postings(index regclass,
	OUT level int, OUT block int8, OUT generation int8, OUT pages int8, OUT entries int8,
	OUT stale_entries int8, OUT retired bool,
	OUT centroid_block int8, OUT centroid_offset int, OUT split_at int8,
	OUT min_distance float8, OUT avg_distance float8, OUT max_distance float8)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION spfresh_postings(regclass) IS
	'the postings of a spfresh index, with the distances of their entries to their centroids; reads all of it';

CREATE FUNCTION spfresh_check(index regclass, heapallindexed bool DEFAULT true,
	OUT pages int8, OUT postings int8, OUT entries int8, OUT stale_entries int8,
	OUT records int8, OUT index_rows int8, OUT compared_rows int8, OUT table_rows int8,
	OUT free_pages int8, OUT retired_pages int8,
	OUT unreachable_pages int8, OUT unreachable_records int8)
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION spfresh_check(regclass, bool) IS
	'verify a spfresh index: raises at the first thing that is wrong, else counts what was checked; locks table and index against changes (ShareLock)';

CREATE FUNCTION spfresh_recall(index regclass, samples int DEFAULT 100, k int DEFAULT 10,
	OUT recall float8, OUT min_recall float8, OUT queries int, OUT neighbors int,
	OUT avg_nprobe float8)
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION spfresh_recall(regclass, int, int) IS
	'share of the true nearest neighbors that queries by a spfresh index find with the current settings; random rows are the queries, and each reads the whole table once';

CREATE FUNCTION spfresh_rebalance(index regclass,
	OUT reassigned_vectors int8, OUT merged_postings int8, OUT reclustered_regions int8,
	OUT evaluated_entries int8, OUT swept_entries int8, OUT left_items int8)
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION spfresh_rebalance(regclass) IS
	'do now what background workers or vacuum would do for a spfresh index: reassign, merge, recluster, sweep; left_items could not be done yet';

CREATE FUNCTION spfresh_last_scan(
	OUT index regclass, OUT nprobe int, OUT rounds int, OUT probes_by_level int8[],
	OUT pages int8, OUT entries int8, OUT records int8, OUT rows int8, OUT gone int8,
	OUT emitted int8, OUT skipped int8, OUT stop text)
	AS 'MODULE_PATHNAME' LANGUAGE C PARALLEL RESTRICTED;

COMMENT ON FUNCTION spfresh_last_scan() IS
	'what the last scan of a spfresh index in this session did';
