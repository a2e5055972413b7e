# What the TAP tests share: servers, data, and the question that all of them end with:
# is every committed row found through the index, once, and nothing else?

package SpfreshTest;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(new_server add_functions index_is_complete index_is_valid start_psql start_pgbench
  finish_pgbench index_size log_has_no_crash log_end await_restart kill_process open_session ask
  try_ask close_session build_logs_little note_files nothing_is_left answers_alike take_over);

# Settings under which a scan finds everything.
our $exhaustive = join ' ',
  map { "SET $_" } 'enable_seqscan = off',
  'enable_sort = off',
  'enable_bitmapscan = off',
  'max_parallel_workers_per_gather = 0',
  "work_mem = '512MB'",
  'spfresh.nprobe = 2000000000',
  'spfresh.iterative_scan = relaxed_order',
  'spfresh.max_scan_tuples = 2000000000',
  'spfresh.expected_rows = 1000000';

our $exhaustive_settings = $exhaustive =~ s/ (?=SET )/; /gr;

# A server, initialised but not started.
sub new_server
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%options);
	$node->append_conf('postgresql.conf', <<'CONF');
fsync = off
shared_buffers = 64MB
max_wal_size = 1GB
jit = off
autovacuum = off
log_statement = none
CONF
	return $node;
}

# Extensions and the functions that the tests use.
sub add_functions
{
	my ($node) = @_;

	$node->safe_psql('postgres', <<"SQL");
CREATE EXTENSION spfresh CASCADE;

-- A number in [-1, 1) that depends on a and b only.
CREATE FUNCTION num(a bigint, b int) RETURNS real LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
\$\$ SELECT ((hashint8extended(a * 100003 + b, 0) & 16777215) / 8388608.0 - 1)::real \$\$;

-- The i-th of clustered points; their clusters are 40 of the i.
CREATE FUNCTION point(i bigint, dim int DEFAULT 16) RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
\$\$ SELECT array_agg((num(-1 - i % 40, d) + 0.3 * num(i, d))::real ORDER BY d)::vector
   FROM generate_series(1, dim) d \$\$;

-- The ids that an exhaustive scan of the index on v gives, as one snapshot sees them.
CREATE FUNCTION ids_of_index(tab regclass, q vector) RETURNS bigint[] LANGUAGE plpgsql STABLE
$exhaustive AS
\$\$
DECLARE
	ids bigint[];
BEGIN
	EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (SELECT id FROM %s ORDER BY v <-> %L) x', tab, q) INTO ids;
	RETURN ids;
END
\$\$;

CREATE FUNCTION ids_of_table(tab regclass) RETURNS bigint[] LANGUAGE plpgsql STABLE
SET enable_indexscan = off SET enable_indexonlyscan = off AS
\$\$
DECLARE
	ids bigint[];
BEGIN
	EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM %s WHERE v IS NOT NULL', tab) INTO ids;
	RETURN ids;
END
\$\$;

-- What is wrong with the index on v, compared with the table; nothing, hopefully.
CREATE FUNCTION differences(tab regclass, q vector) RETURNS text LANGUAGE sql STABLE AS
\$\$
WITH i AS MATERIALIZED (SELECT id FROM unnest(ids_of_index(tab, q)) id),
	t AS MATERIALIZED (SELECT id FROM unnest(ids_of_table(tab)) id),
	missing AS (SELECT id FROM t EXCEPT SELECT id FROM i),
	extra AS (SELECT id FROM i EXCEPT SELECT id FROM t),
	twice AS (SELECT id FROM i GROUP BY id HAVING count(*) > 1)
SELECT concat_ws('; ',
	(SELECT count(*) || ' rows missing: ' || min(id) || '..' || max(id) FROM missing HAVING count(*) > 0),
	(SELECT count(*) || ' rows too many: ' || min(id) || '..' || max(id) FROM extra HAVING count(*) > 0),
	(SELECT count(*) || ' rows twice: ' || min(id) || '..' || max(id) FROM twice HAVING count(*) > 0))
\$\$;

-- The same as an error.
CREATE FUNCTION compare(tab regclass, q vector) RETURNS void LANGUAGE plpgsql STABLE AS
\$\$
DECLARE
	found text := differences(tab, q);
BEGIN
	IF found <> '' THEN
		RAISE EXCEPTION 'index and table % differ: %', tab, found;
	END IF;
END
\$\$;

-- Wait until a CREATE INDEX is in such a phase: its process id and the phase, NULL when it ended before, be
-- it before anybody could look (on a busy machine a build of a second is soon missed).
CREATE FUNCTION phase_reached(pattern text) RETURNS text LANGUAGE plpgsql AS
\$\$
DECLARE
	reached text;
	begun boolean := false;
BEGIN
	FOR i IN 1 .. 5000 LOOP
		PERFORM pg_stat_clear_snapshot();
		SELECT pid || ' ' || phase INTO reached FROM pg_stat_progress_create_index
		WHERE phase ~ pattern;
		IF reached IS NOT NULL OR
			(begun AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index)) THEN
			RETURN reached;
		END IF;
		begun := begun OR EXISTS (SELECT FROM pg_stat_progress_create_index);
		PERFORM pg_sleep(0.001);
	END LOOP;
	IF begun THEN
		RAISE EXCEPTION 'no CREATE INDEX reached phase %', pattern;
	END IF;
	RETURN NULL;
END
\$\$;

-- Is it the index that these ids come from?
CREATE FUNCTION scans_index(tab regclass, q vector) RETURNS boolean LANGUAGE plpgsql
$exhaustive AS
\$\$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE format('EXPLAIN SELECT id FROM %s ORDER BY v <-> %L', tab, q) LOOP
		IF line ~ 'Index Scan using' THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END
\$\$;

SQL
}

# Every row of the table, and nothing else, through the index on its column v.
sub index_is_complete
{
	my ($node, $table, $index, $name) = @_;
	my ($out, $err) = ('', '');

	# from one of the rows; where none is left, there may be none in the index either
	my $rc = $node->psql('postgres', <<"SQL", stdout => \$out, stderr => \$err);
SELECT scans_index('$table', q), differences('$table', q)
FROM (SELECT coalesce((SELECT v FROM $table WHERE v IS NOT NULL LIMIT 1),
	array_fill(1::real, ARRAY[(SELECT atttypmod FROM pg_attribute
		WHERE attrelid = '$table'::regclass AND attname = 'v')])::vector) AS q) one
SQL
	ok($rc == 0 && $out eq 't|' && $err eq '', "$name: index and table agree")
	  or diag("$out$err");
	index_is_valid($node, $index, $name);
}

# The verifier has nothing to say.
sub index_is_valid
{
	my ($node, $index, $name) = @_;
	my $err = '';

	my $rc = $node->psql('postgres', "SELECT spfresh_check('$index')", stderr => \$err);
	ok($rc == 0 && $err eq '', "$name: spfresh_check is content") or diag($err);
}

# Where the log of a server ends now.
sub log_end
{
	my ($node) = @_;
	return -s $node->logfile;
}

# Wait until a server whose log ended there has lost a process and is back.  Asking it whether it
# answers would not do: one that goes down still may, and psql itself dies of a pipe that breaks.
sub await_restart
{
	my ($node, $from) = @_;

	for (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if substr(slurp_file($node->logfile), $from) =~
		  /was terminated by signal.*database system is ready to accept connections/s;
		usleep(20_000);
	}
	die 'the server did not restart';
}

# Kill a process of a server, and wait until all others have restarted.  Returns whether there was
# one to kill: it may have ended by itself.
sub kill_process
{
	my ($node, $pid) = @_;
	my $from = log_end($node);

	return 0 if !kill 'KILL', $pid;
	# what was ending already takes the signal, and ends as if there had been none
	for (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if substr(slurp_file($node->logfile), $from) =~ /was terminated by signal/;
		return 0 if $_ > 500 && !kill 0, $pid;
		usleep(20_000);
	}
	await_restart($node, $from);
	return 1;
}

# Build an index; what that logs is little more than the index itself.
sub build_logs_little
{
	my ($node, $index, $create, $name) = @_;
	my ($wal, $size) = split /\|/, $node->safe_psql('postgres', <<"SQL");
CHECKPOINT;
SELECT pg_current_wal_insert_lsn() AS before \\gset
$create;
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), :'before')::bigint, pg_relation_size('$index');
SQL

	cmp_ok($wal, '<', 1.3 * $size + 500_000, "WAL of a build: $wal bytes for $size $name");
}

# The files of the database with something in them.
my $files_before;

sub data_files
{
	my ($node) = @_;

	$node->safe_psql('postgres', 'CHECKPOINT');
	return $node->safe_psql('postgres', <<'SQL');
SELECT string_agg(f, ' ' ORDER BY f)
FROM pg_database, pg_ls_dir('base/' || oid) f
WHERE datname = current_database() AND f ~ '^[0-9]+$' AND (pg_stat_file('base/' || oid || '/' || f)).size > 0
SQL
}

sub note_files
{
	$files_before = data_files(@_);
}

# Of a build of this index that was stopped, some time after note_files.  Four tests.
sub nothing_is_left
{
	my ($node, $index, $name) = @_;
	my $sql = sub { $node->safe_psql('postgres', "SELECT count(*) FROM $_[0]") };

	is($sql->("pg_class WHERE relname ~ '^$index'"), 0, "$name: no index");
	is($sql->('pg_ls_tmpdir()'), 0, "$name: no temporary files");
	is(data_files($node), $files_before, "$name: no other files");
	is($sql->("pg_stat_activity WHERE backend_type = 'parallel worker'"), 0, "$name: no workers");
}

# A standby that has caught up answers as the primary does, with any of these settings.
sub answers_alike
{
	my ($primary, $standby, $table, $dim, @settings) = @_;

	foreach my $settings (@settings)
	{
		my $query = join "\n", "$settings;", map {
			"SELECT string_agg(id::text, ' ') FROM (SELECT id FROM $table ORDER BY v <-> point($_ * 12345, $dim) LIMIT 50) x;"
		} 1 .. 10;
		my $name = "$table: the same answers on both" . ($settings =~ /nprobe/ ? ', exhaustive' : '');

		is($standby->safe_psql('postgres', $query), $primary->safe_psql('postgres', $query), $name);
	}
	is( $standby->safe_psql(
			'postgres',
			"SELECT scans_index('$table', point(7, $dim)), differences('$table', point(7, $dim))"),
		't|', "$table: index and table agree on the standby");
	index_is_complete($primary, $table, "${table}_v", "primary, $table");
}

# The primary is lost, and the standby takes its place.
sub take_over
{
	my ($primary, $standby) = @_;

	$primary->stop('immediate');
	$standby->promote;
	$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
}

sub index_size
{
	my ($node, $index) = @_;
	return $node->safe_psql('postgres', "SELECT pg_relation_size('$index')");
}

# Run SQL in the background; { run => harness, out, err }.
sub start_psql
{
	my ($node, @commands) = @_;
	my $psql = { out => '', err => '' };

	$psql->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), map { ('-c', $_) } @commands ],
		'<', \undef, '>', \$psql->{out}, '2>', \$psql->{err});
	return $psql;
}

# A session that is asked one thing after the other.
my $questions = 0;

sub open_session
{
	my ($node, @settings) = @_;
	my $session = { in => '', out => '', err => '' };

	$session->{timer} = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	$session->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
		'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err}, $session->{timer});
	ask($session, "SET client_min_messages = warning; SET $_") foreach @settings;
	return $session;
}

# Its answer; what went wrong is left in $session->{err}.  Undefined where the session has ended.
sub try_ask
{
	my ($session, $sql) = @_;
	my $mark = 'answered ' . ++$questions;

	$session->{out} = $session->{err} = '';
	$session->{in} .= "$sql;\n\\echo $mark\n\\warn $mark\n";
	$session->{timer}->start($PostgreSQL::Test::Utils::timeout_default);
	eval {
		$session->{run}->pump
		  while $session->{run}->pumpable
		  && !($session->{out} =~ /^\Q$mark\E\n/m && $session->{err} =~ /^\Q$mark\E\n/m);
	};
	die $@ if $@ =~ /timeout/;
	return undef if $session->{err} !~ s/^\Q$mark\E\n//m;
	$session->{out} =~ s/\n?\Q$mark\E\n//;
	return $session->{out};
}

# The same where nothing may go wrong.
sub ask
{
	my ($session, $sql) = @_;
	my $answer = try_ask($session, $sql);

	die "$sql: $session->{err}" if !defined $answer || $session->{err} ne '';
	return $answer;
}

# End it, whether it is still there or not.
sub close_session
{
	my ($session) = @_;

	$session->{in} .= "\\q\n";
	eval { $session->{run}->finish };
}

# Run pgbench in the background: scripts is a list of [weight, text], after { tries => n } where
# a transaction is to be tried more than once.
my $scripts_made = 0;

sub start_pgbench
{
	my ($node, $clients, $seconds, @scripts) = @_;
	my $options = ref $scripts[0] eq 'HASH' ? shift @scripts : {};
	my $tries = $options->{tries} // 1;
	my @files;

	foreach my $script (@scripts)
	{
		my $file = PostgreSQL::Test::Utils::tempdir_short() . '/s' . ++$scripts_made . '.sql';
		append_to_file($file, $script->[1]);
		push @files, '-f', "$file\@$script->[0]";
	}
	my $bench = { out => '', err => '' };
	my @command = (
		'pgbench', '-n', '-c', $clients, '-j', ($clients > 1 ? 2 : 1),
		'-T', $seconds, "--max-tries=$tries", '-h', $node->host, '-p', $node->port, @files,
		'postgres');
	local $ENV{PGOPTIONS} = '-c client_min_messages=warning';
	$bench->{run} =
	  IPC::Run::start(\@command, '<', \undef, '>', \$bench->{out}, '2>', \$bench->{err});
	return $bench;
}

# Wait for it; returns its error output if something went wrong.  On a standby a client can be
# cut off by a recovery conflict: that is counted, and no error.
sub finish_pgbench
{
	my ($bench, %options) = @_;

	$bench->{run}->finish;
	my $rc = $bench->{run}->result(0);
	$bench->{transactions} = $1 if $bench->{out} =~ /transactions actually processed: (\d+)/;
	$bench->{retried} = $bench->{out} =~ /transactions retried: (\d+)/ ? $1 : 0;
	if ($options{conflicts})
	{
		$bench->{cut_off} = () = $bench->{err} =~ /due to conflict with recovery/g;
		return ''
		  if $bench->{cut_off} > 0
		  && !grep { !/conflict with recovery|^DETAIL|^HINT|aborted|perhaps the backend died|^ *$/ } split /\n/, $bench->{err};
	}
	return '' if $rc == 0 && $bench->{err} !~ /error|ERROR|aborted/;
	return "pgbench returned $rc: $bench->{err}";
}

# No assertion failed, nothing crashed (in tests that do not crash servers themselves).
sub log_has_no_crash
{
	my ($node, $name) = @_;
	my $log = slurp_file($node->logfile);
	my @bad = grep { /TRAP: |PANIC: |was terminated by signal/ } split /\n/, $log;

	is(scalar(@bad), 0, "$name: no crash") or diag(join "\n", @bad);
}

1;
