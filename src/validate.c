/*-------------------------------------------------------------------------
 *
 * validate.c
 *	  Checking operator classes.
 *
 * An operator class has one ordering operator and the two support functions
 * of index.h, all for its own type.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/amvalidate.h"
#include "access/htup_details.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type_d.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "index.h"
#include "validate.h"

static bool
complain(const char *opclass, const char *what, int number)
{
	ereport(INFO,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("operator class \"%s\" of access method spfresh contains %s %d, which it cannot use",
					opclass, what, number)));
	return false;
}

static bool
check_functions(Oid family, const char *name, Oid type)
{
	CatCList   *procs = SearchSysCacheList1(AMPROCNUM, ObjectIdGetDatum(family));
	bool		valid = true;
	int			present = 0;

	for (int i = 0; i < procs->n_members; i++)
	{
		Form_pg_amproc proc = (Form_pg_amproc) GETSTRUCT(&procs->members[i]->tuple);
		bool		fits = false;

		if (proc->amprocnum == SPF_DISTANCE_PROC)
			fits = check_amproc_signature(proc->amproc, FLOAT8OID, true, 2, 2,
										  proc->amproclefttype, proc->amprocrighttype);
		else if (proc->amprocnum == SPF_SUPPORT_PROC)
			fits = check_amproc_signature(proc->amproc, INTERNALOID, true, 1, 1, INTERNALOID);
		if (!fits)
			valid = complain(name, "support function", proc->amprocnum);
		else if (proc->amproclefttype == type)
			present |= 1 << proc->amprocnum;
	}
	ReleaseCatCacheList(procs);
	for (int n = 1; n <= SPF_NUM_PROCS; n++)
	{
		if ((present & (1 << n)) == 0)
		{
			ereport(INFO,
					(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
					 errmsg("operator class \"%s\" of access method spfresh lacks support function %d",
							name, n)));
			valid = false;
		}
	}
	return valid;
}

static bool
check_operators(Oid family, const char *name)
{
	CatCList   *operators = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(family));
	bool		valid = true;

	for (int i = 0; i < operators->n_members; i++)
	{
		Form_pg_amop op = (Form_pg_amop) GETSTRUCT(&operators->members[i]->tuple);

		if (op->amopstrategy != 1 || op->amoppurpose != AMOP_ORDER ||
			!check_amop_signature(op->amopopr, FLOAT8OID, op->amoplefttype, op->amoprighttype))
			valid = complain(name, "operator", op->amopstrategy);
	}
	ReleaseCatCacheList(operators);
	return valid;
}

bool
spf_validate(Oid opclass)
{
	HeapTuple	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
	Form_pg_opclass form;
	char	   *name;
	bool		valid;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator class %u", opclass);
	form = (Form_pg_opclass) GETSTRUCT(tuple);
	name = NameStr(form->opcname);
	valid = check_functions(form->opcfamily, name, form->opcintype);
	valid = check_operators(form->opcfamily, name) && valid;
	ReleaseSysCache(tuple);
	return valid;
}
