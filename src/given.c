/*-------------------------------------------------------------------------
 *
 * given.c
 *	  Building with centroids that were trained elsewhere: WITH (centroids = 'schema.table').
 *
 * The table (or view, or foreign table) has one column, of vectors in the space of the
 * indexed ones.  It is read with the rights of the index's owner, as all that a build does, and
 * only then: nothing depends on it afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "build_parts.h"
#include "given.h"
#include "insert.h"

/* Rows fetched at a time */
#define FETCH			1000

static const char *
index_name(const SpfBuild *build)
{
	return RelationGetRelationName(build->index->rel);
}

/* What to do when the table cannot be used. */
static int
hint(const SpfBuild *build)
{
	return errhint("Without the storage parameter \"centroids\" (ALTER INDEX ... RESET (centroids)) index \"%s\" is built with centroids of its own.",
				   index_name(build));
}

void
spf_given_validate(const char *value)
{
	char	   *copy;
	List	   *names;

	if (value == NULL)
		return;
	copy = pstrdup(value);
	if (!SplitIdentifierString(copy, '.', &names) || list_length(names) != 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for storage parameter \"centroids\": \"%s\"", value),
				 errhint("It is the name of a table with its schema: \"schema.table\".")));
	list_free(names);
	pfree(copy);
}

/* Find and lock the table; raises if it is not there. */
static Relation
open_table(const SpfBuild *build)
{
	const char *value = spf_option_centroids(build->options);
	char	   *copy = pstrdup(value);
	List	   *names;
	Oid			schema;
	Oid			oid = InvalidOid;

	if (!SplitIdentifierString(copy, '.', &names) || list_length(names) != 2)
		elog(ERROR, "invalid name of a table of centroids: \"%s\"", value);
	schema = LookupExplicitNamespace(linitial(names), true);
	if (OidIsValid(schema))
		oid = get_relname_relid(lsecond(names), schema);
	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s\" with the centroids of index \"%s\" does not exist",
						value, index_name(build)),
				 hint(build)));
	return relation_open(oid, AccessShareLock);
}

/* Is it vector or halfvec, of the extension that the indexed type is of? */
static bool
is_vector_type(Oid type, Oid indexed)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	HeapTuple	other = SearchSysCache1(TYPEOID, ObjectIdGetDatum(indexed));
	Form_pg_type form;
	bool		is;

	if (!HeapTupleIsValid(tuple) || !HeapTupleIsValid(other))
		elog(ERROR, "cache lookup failed for type %u or %u", type, indexed);
	form = (Form_pg_type) GETSTRUCT(tuple);
	is = (strcmp(NameStr(form->typname), "vector") == 0 ||
		  strcmp(NameStr(form->typname), "halfvec") == 0) &&
		form->typnamespace == ((Form_pg_type) GETSTRUCT(other))->typnamespace;
	ReleaseSysCache(tuple);
	ReleaseSysCache(other);
	return is;
}

static bool
has_rows(char kind)
{
	return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE ||
		kind == RELKIND_VIEW || kind == RELKIND_MATVIEW || kind == RELKIND_FOREIGN_TABLE;
}

/* The query for its only column, as the type that is indexed. */
static char *
table_query(const SpfBuild *build, Relation table)
{
	TupleDesc	desc = RelationGetDescr(table);
	Oid			indexed = TupleDescAttr(RelationGetDescr(build->index->rel), 0)->atttypid;
	const char *column = NULL;
	int			columns = 0;
	Oid			type = InvalidOid;

	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		columns++;
		column = NameStr(TupleDescAttr(desc, i)->attname);
		type = TupleDescAttr(desc, i)->atttypid;
	}
	if (!has_rows(table->rd_rel->relkind) || columns != 1 || !is_vector_type(type, indexed))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("relation \"%s\" cannot give the centroids of index \"%s\"",
						spf_option_centroids(build->options), index_name(build)),
				 errdetail("It must be a table or view of one column, of type vector or halfvec."),
				 hint(build)));
	return psprintf("SELECT %s::%s FROM %s", quote_identifier(column),
					format_type_be_qualified(indexed),
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
											   RelationGetRelationName(table)));
}

static void
check_count(const SpfBuild *build, int64 count)
{
	const char *table = spf_option_centroids(build->options);
	double		most = spf_build_most_centroids(build);

	if (count < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("relation \"%s\" has no centroids for index \"%s\"", table,
						index_name(build)),
				 hint(build)));
	if (build->options->initial_postings > 0 && count != build->options->initial_postings)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("relation \"%s\" has " INT64_FORMAT " centroids for index \"%s\", not %d",
						table, count, index_name(build), build->options->initial_postings),
				 errdetail("The storage parameter \"initial_postings\" asks for so many.")));
	if (count > most)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("relation \"%s\" has " INT64_FORMAT " centroids for index \"%s\", too many for maintenance_work_mem",
						table, count, index_name(build)),
				 errdetail("There is memory for %.0f.", most),
				 errhint("Raise maintenance_work_mem.")));
}

int
spf_given_count(SpfBuild *build)
{
	Relation	table = open_table(build);
	char	   *query = psprintf("SELECT count(*) FROM (%s) c", table_query(build, table));
	int64		count;
	bool		isnull;

	/* AccessShareLock stays to the end */
	relation_close(table, NoLock);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute(query, true, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not count the centroids of an index");
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	PopActiveSnapshot();
	SPI_finish();
	check_count(build, count);
	return (int) count;
}

/* One of them, as the index sees its rows. */
static void
take_row(SpfBuild *build, Datum value, bool isnull, float *to)
{
	const char *table = spf_option_centroids(build->options);
	SpfIndex   *index = build->index;
	void	   *datum;
	int			dim;

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("relation \"%s\" has a null among the centroids of index \"%s\"",
						table, index_name(build)),
				 hint(build)));
	datum = PG_DETOAST_DATUM(value);
	dim = index->type->dim(datum);
	if (dim != index->dim)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("relation \"%s\" has a centroid of %d dimensions for index \"%s\", which has %d",
						table, dim, index_name(build), index->dim),
				 hint(build)));
	/* under cosine, a zero vector is as good a centroid as any */
	(void) spf_index_floats(index, datum, dim, to);
	spf_index_rotate(index, to, to);
}

void
spf_given_load(SpfBuild *build, float *to, int count)
{
	Relation	table = open_table(build);
	char	   *query = table_query(build, table);
	Portal		portal;
	int			n = 0;

	relation_close(table, NoLock);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	portal = SPI_cursor_open_with_args(NULL, query, 0, NULL, NULL, NULL, true, 0);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, FETCH);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++, n++)
		{
			bool		isnull;
			Datum		value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
											  &isnull);

			CHECK_FOR_INTERRUPTS();
			if (n >= count)
				break;
			take_row(build, value, isnull, to + (Size) n * build->index->padded);
		}
		SPI_freetuptable(SPI_tuptable);
		if (n >= count)
			break;
	}
	SPI_cursor_close(portal);
	PopActiveSnapshot();
	SPI_finish();
	if (n != count)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" with the centroids of index \"%s\" has changed meanwhile",
						spf_option_centroids(build->options), index_name(build))));
}
