# The background worker: when it is there, what it leaves alone, and what it survives.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SpfreshTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_server('worker');
# workers are slow, so that there is something to get in the way of
$node->append_conf('postgresql.conf', <<'CONF');
restart_after_crash = on
autovacuum_vacuum_cost_delay = 5ms
autovacuum_vacuum_cost_limit = 100
CONF
$node->start;
add_functions($node);

sub sql { return $node->safe_psql('postgres', join '', @_) }

sub set_workers
{
	my ($n) = @_;
	$node->append_conf('postgresql.conf', "spfresh.max_workers = $n\n");
	$node->reload;
	$node->poll_query_until('postgres', 'SHOW spfresh.max_workers', $n) or die;
}

sub wait_until
{
	my ($query, $name, $db) = @_;
	ok($node->poll_query_until($db // 'postgres', $query), $name);
}

# Workers that have their place: others start, see that they are not needed, and go.
my $workers = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 5 AND granted";

sub make_table
{
	my ($name, $db) = @_;
	$node->safe_psql($db // 'postgres', <<"SQL");
CREATE TABLE $name (id int, v vector(8));
CREATE INDEX ${name}_v ON $name USING spfresh (v) WITH (split_limit = 12);
SQL
}

sub insert
{
	my ($table, $from, $to, $mode, $db) = @_;
	$node->safe_psql($db // 'postgres',
		"SET spfresh.rebalance = $mode; INSERT INTO $table SELECT i, point(i, 8) FROM generate_series($from, $to) i");
}

sub queued { return sql("SELECT queued_items FROM spfresh_stats('$_[0]_v')") }

# All done?  What was retired goes when a later transaction has ended: each question is one.
sub done { return "SELECT txid_current() > 0 AND queued_items = 0 FROM spfresh_stats('$_[0]_v')" }

# A table with work for a while, and a worker that is at it.
sub make_busy
{
	my ($table, $db) = @_;

	make_table($table, $db);
	insert($table, 1, 800, 'vacuum', $db);
	insert($table, 801, 900, 'background', $db);
	$node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'spfresh worker' AND query ~ 'index \"${table}_v\"'")
	  or die "no worker came for $table";
}

# ---------------------------------------------------------------- on demand

make_table('a');
is(sql($workers), 0, 'no index has changed: there is no worker');
insert('a', 1, 600, 'vacuum');
cmp_ok(queued('a'), '>', 0, 'mode vacuum: work is listed');
usleep(300_000);
is(sql($workers), 0, 'and no worker comes');
sql('SET spfresh.rebalance = vacuum; VACUUM a');
is(sql($workers), 0, 'nor from VACUUM in that mode');
is(sql("SELECT count(*) FROM spfresh_postings('a_v') WHERE NOT retired") > 50, 1, 'there are many postings');
cmp_ok(sql("SELECT reassigned_vectors FROM spfresh_stats('a_v')"), '>', 0, 'VACUUM has done the work itself');

insert('a', 601, 900, 'background');
wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'spfresh worker' AND datname = 'postgres'",
	'mode background: there is one worker, for all to see');
wait_until(done('a'), 'it does all there is to do');
is(sql("SELECT last_error IS NULL FROM spfresh_stats('a_v')"), 't', 'without an error');
wait_until("SELECT calibration_samples > 0 AND calibration_postings BETWEEN postings * 0.75 AND postings * 1.25
	FROM spfresh_stats('a_v')", 'and measures the index');
index_is_complete($node, 'a', 'a_v', 'by a worker');
wait_until("SELECT state = 'idle' FROM pg_stat_activity WHERE backend_type = 'spfresh worker'",
	'it waits for more')
  if sql($workers) > 0;

# ---------------------------------------------------------------- one per index, a cap for all

make_table("b$_") foreach 1 .. 4;
my $bench = start_pgbench($node, 4, 2,
	map { [ 1, "\\set i random(1, 1000000)\nINSERT INTO b$_ SELECT :i + i, point(:i + i, 8) FROM generate_series(1, 20) i;\n" ] } 1 .. 4);
my ($most, $double, $seen) = (0, 0, 0);
while ($bench->{run}->pumpable)
{
	my ($n, $same) = split /\|/, sql(<<'SQL');
SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 5 AND granted),
	(SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM pg_stat_activity
		WHERE backend_type = 'spfresh worker' AND query <> '' GROUP BY substring(query FROM 'index "(.*)"')) x)
SQL
	$most = $n if $n > $most;
	$double = $same if $same > $double;
	$seen++;
	eval { $bench->{run}->pump_nb };
	last if $bench->{out} =~ /latency average/;
	usleep(20_000);
}
is(finish_pgbench($bench), '', 'clients insert into four tables at once');
is($most, 2, 'with never more than spfresh.max_workers workers');
is($double, 1, 'and never two for an index');

set_workers(8);

# ---------------------------------------------------------------- killed

make_busy('c');
my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'spfresh worker' AND query ~ 'c_v'");
sql("SELECT pg_terminate_backend($pid)");
wait_until("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'a worker goes when told to');
index_is_complete($node, 'c', 'c_v', 'worker terminated');
cmp_ok(queued('c'), '>', 0, 'what it did not do is still listed');
insert('c', 1601, 1700, 'background');
wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'spfresh worker' AND query ~ 'c_v'",
	'another one comes when there is more to do');

$pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'spfresh worker' AND query ~ 'c_v'");
my $before = queued('c');
ok(kill_process($node, $pid), 'worker killed');
index_is_complete($node, 'c', 'c_v', 'worker killed');
cmp_ok(queued('c'), '>', 0, "what was listed outlives a crash ($before, " . queued('c') . ')');
insert('c', 1701, 1800, 'background');
wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'spfresh worker' AND query ~ 'c_v'",
	'after a crash as well another one comes');

# ---------------------------------------------------------------- in the way of nobody

foreach my $ddl (
	[ 'DROP TABLE', 'DROP TABLE d' ],
	[ 'TRUNCATE', 'TRUNCATE d' ],
	[ 'REINDEX', 'REINDEX INDEX d_v' ],
	[ 'REINDEX CONCURRENTLY', 'REINDEX INDEX CONCURRENTLY d_v' ],
	[ 'rewriting ALTER TABLE', 'ALTER TABLE d ADD COLUMN r float8 DEFAULT random()' ],
	[ 'DROP INDEX CONCURRENTLY', 'DROP INDEX CONCURRENTLY d_v' ],
	[ 'VACUUM FULL', 'VACUUM FULL d' ])
{
	my ($name, $command) = @$ddl;
	my $err = '';

	make_busy('d');
	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
			'-c', "SET lock_timeout = '20s'", '-c', $command ], '<', \undef, '>', \my $out, '2>', \$err);
	is($err, '', "$name beside a worker");
	if ($name !~ /DROP/)
	{
		insert('d', 2001, 2100, 'background');
		index_is_complete($node, 'd', 'd_v', "after $name");
	}
	sql('DROP TABLE IF EXISTS d');
}

sql('CREATE DATABASE one TEMPLATE postgres');
make_busy('e', 'one');

foreach my $command ('CREATE DATABASE two TEMPLATE one', 'DROP DATABASE one')
{
	my $err = '';

	$node->psql('postgres', $command, stderr => \$err);
	is($err, '', "$command beside a worker in it");
	insert('e', 3001, 3300, 'background', 'one') if $command =~ /CREATE/;
	if ($command =~ /CREATE/)
	{
		my ($out, $wrong) = ('', '');
		$node->psql('two', "SELECT differences('e', point(1, 8)); SELECT 'valid' FROM spfresh_check('e_v')",
			stdout => \$out, stderr => \$wrong);
		is("$out$wrong", "\nvalid", 'the copy is sound');
	}
}
sql('DROP DATABASE two');

# ---------------------------------------------------------------- none

set_workers(0);
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'spfresh worker'");
wait_until("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'spfresh worker'", 'all workers are gone');
make_table('f');
insert('f', 1, 900, 'background');
my $reassigned = sql("SELECT reassigned_vectors FROM spfresh_stats('f_v')");
cmp_ok(queued('f'), '>', 0, 'without workers, work is listed');
usleep(300_000);
is(sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'spfresh worker'"), 0, 'none comes');
is(sql("SELECT reassigned_vectors FROM spfresh_stats('f_v')"), $reassigned, 'and nobody does it');
sql('VACUUM f');
cmp_ok(sql("SELECT reassigned_vectors FROM spfresh_stats('f_v')"), '>', $reassigned, 'until VACUUM');
# what it has retired goes when a later transaction has ended
for (1 .. 6)
{
	last if queued('f') == 0;
	sql('SELECT txid_current()');
	sql('VACUUM f');
}
is(queued('f'), 0, 'which does it all');

# Splits take the pages that splits before them retired; what else is to be done keeps nobody from that.
make_table('singles');
sql(<<'SQL');
SET spfresh.rebalance = background;
DO $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		INSERT INTO singles VALUES (i, point(i, 8));
		COMMIT;
	END LOOP;
END $$
SQL
cmp_ok(sql("SELECT splits FROM spfresh_stats('singles_v')"), '>', 200, 'rows came one by one, and made many splits');
cmp_ok(queued('singles'), '>', 100, 'work is listed');
cmp_ok(sql("SELECT retired_postings FROM spfresh_stats('singles_v')"), '<', 20, 'few retired postings are left');
index_is_valid($node, 'singles_v', 'pages used again');

# Who asks for all of it at once can be watched.
my $watch = start_psql($node, "SELECT 'seen ' || phase_reached('rebalancing')");
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^SELECT .seen'")
  or die 'nobody watches';
sql("SELECT spfresh_rebalance('singles_v')");
$watch->{run}->finish;
like($watch->{out}, qr/^seen \d+ building index: rebalancing$/m, 'spfresh_rebalance shows its progress');
is(sql('SELECT count(*) FROM pg_stat_progress_create_index'), 0, 'and no longer when it has ended');

# ---------------------------------------------------------------- preloaded

make_table('g');
insert('g', 1, 900, 'vacuum');
$before = queued('g');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'spfresh'\nspfresh.naptime = 1\nspfresh.max_workers = 2\nautovacuum_vacuum_cost_delay = 0\n");
$node->stop('immediate');
$node->start;
wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'spfresh launcher'",
	'preloaded: there is a launcher');
wait_until(done('g'), "it has done what was due before the crash ($before items)");
cmp_ok(sql("SELECT reassigned_vectors FROM spfresh_stats('g_v')"), '>', 0, 'really');
wait_until(done('c'), 'and what was left of other tables');

# it looks again and again, not only when it starts
insert('g', 901, 1500, 'vacuum');
cmp_ok(queued('g'), '>', 0, 'more work');
wait_until(done('g'), 'is done when the launcher comes by');
index_is_complete($node, $_, "${_}_v", "$_ in the end") foreach qw(a c f g);
index_is_valid($node, "b${_}_v", "b$_ in the end") foreach 1 .. 4;
is(sql("SELECT string_agg(last_error, ' ') FROM unnest('{a_v,b1_v,b2_v,b3_v,b4_v,c_v,f_v,g_v}'::regclass[]) i, spfresh_stats(i)"),
	'', 'no worker failed');
wait_until("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'spfresh worker'",
	'with nothing left to do, all workers go');

my @bad = grep { /TRAP: |PANIC: |ERROR: / && !/statement|recovery/ } split /\n/, slurp_file($node->logfile);
is(scalar(@bad), 0, 'no error in the log') or diag(join "\n", @bad);

$node->stop;
done_testing();
