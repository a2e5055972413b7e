# Crashes in the midst of everything: what was committed is found, by the index as by the table.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SpfreshTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_server('crash');
# short cycles, so that what is replayed begins at different places
$node->append_conf('postgresql.conf', <<'CONF');
restart_after_crash = on
max_wal_size = 64MB
checkpoint_timeout = 30s
CONF
$node->start;
add_functions($node);

sub sql { return $node->safe_psql('postgres', join '', @_) }

# End the server at once, or one of its processes, and have it back.  Returns whether there
# was such a process.
sub crash
{
	my ($how, $pattern) = @_;

	if ($how eq 'server')
	{
		$node->stop('immediate');
		$node->start;
		return 1;
	}
	my $pid = sql(<<"SQL");
SELECT pid FROM pg_stat_activity
WHERE query ~ '$pattern' AND state = 'active' AND pid <> pg_backend_pid() LIMIT 1
SQL
	return $pid ? kill_process($node, $pid) : 0;
}

# ---------------------------------------------------------------- changes

sql(<<'SQL');
CREATE TABLE items (id bigserial PRIMARY KEY, n int DEFAULT 0, v vector(16));
CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 12);
CREATE TABLE equal (id bigserial PRIMARY KEY, v vector(16));
CREATE INDEX equal_v ON equal USING spfresh (v);
CREATE UNLOGGED TABLE fast (id bigserial PRIMARY KEY, v vector(16));
CREATE INDEX fast_v ON fast USING spfresh (v) WITH (split_limit = 12);
SQL

my @rounds = (
	[ 'server', 300 ],
	[ 'backend', 500, 'INSERT INTO items' ],
	[ 'server', 700 ],
	[ 'backend', 1100, '^VACUUM' ],
	[ 'server', 900 ],
	[ 'backend', 1600, 'INSERT INTO items' ],
	[ 'server', 1300 ]);

foreach my $number (1 .. @rounds)
{
	my ($how, $delay, $pattern) = @{ $rounds[ $number - 1 ] };
	my $name = "round $number (" . ($pattern // 'server') . ')';

	sql('INSERT INTO fast (v) SELECT point(i) FROM generate_series(1, 300) i');
	my $clients = start_pgbench($node, 4, 60,
		[ 6, "\\set i random(1, 1000000)\nINSERT INTO items (v) SELECT point(:i + i) FROM generate_series(1, 5) i;\n" ],
		[ 1, "\\set i random(1, 20000)\nDELETE FROM items WHERE id BETWEEN :i AND :i + 10;\n" ],
		[ 1, "\\set i random(1, 20000)\nUPDATE items SET v = point(:i * 3) WHERE id BETWEEN :i AND :i + 5;\n" ],
		[ 1, "\\set i random(0, 4)\nINSERT INTO equal (v) SELECT point(:i) FROM generate_series(1, 200);\n" ],
		[ 1, "DELETE FROM equal WHERE id IN (SELECT id FROM equal ORDER BY id LIMIT 150 FOR UPDATE SKIP LOCKED);\n" ],
		[ 1, "INSERT INTO fast (v) SELECT point(i) FROM generate_series(1, 5) i;\n" ]);
	my $vacuum =
	  start_pgbench($node, 1, 60, [ 1, "VACUUM items;\nVACUUM equal;\n\\sleep 30 ms\n" ]);

	usleep($delay * 1000);
	# what is hit depends on the moment: another one if it was not there, as long as there are clients
	my ($hit, $tries) = (0, 0);
	my $end = time + 50;
	until ($hit || time > $end)
	{
		# far more than it takes, so what they are at may be worth knowing
		note(sql(<<'SQL')) if ++$tries % 100 == 0;
SELECT pid, state, wait_event_type, wait_event, now() - query_start, left(query, 70) FROM pg_stat_activity
WHERE state IS NOT NULL
SQL
		$hit = crash($how, $pattern) or usleep(17_000);
	}
	ok($hit, "$name: crashed");
	finish_pgbench($_) foreach $clients, $vacuum;

	index_is_complete($node, 'items', 'items_v', $name);
	index_is_complete($node, 'equal', 'equal_v', "$name, equal vectors") if $number % 2;
	is(sql("SELECT count(*), ids_of_index('fast', point(1)) FROM fast"),
		'0|{}', "$name: the unlogged table is empty, and so is its index");

	# it goes on from there
	if ($number % 2 == 0)
	{
		sql('VACUUM items, equal');
		sql('INSERT INTO items (v) SELECT point(i) FROM generate_series(1, 500) i');
		index_is_complete($node, 'items', 'items_v', "$name, vacuumed");
	}
}

sql('INSERT INTO fast (v) SELECT point(i) FROM generate_series(1, 2000) i');
index_is_complete($node, 'fast', 'fast_v', 'unlogged, filled again');

# what crashed splits left behind is found by vacuum
sql('VACUUM items') for 1 .. 3;
is(sql("SELECT unreachable_pages FROM spfresh_check('items_v')"),
	0, 'vacuum freed what no way led to');
note('centroids that no way leads to: '
	  . sql("SELECT unreachable_records FROM spfresh_check('items_v')"));
note('rows: ' . sql('SELECT count(*) FROM items'));

# ---------------------------------------------------------------- CREATE INDEX

sql(<<'SQL');
CREATE TABLE big (id bigserial PRIMARY KEY, v vector(64));
INSERT INTO big (v) SELECT point(i, 64) FROM generate_series(1, 12000) i;
SQL

foreach my $round (
	[ 'backend', 'training' ],
	[ 'server', 'assigning' ],
	[ 'backend', 'writing records' ],
	[ 'server', 'writing postings|upper levels' ],
	[ 'backend', 'calibrating' ])
{
	my ($how, $pattern) = @$round;
	my $build = start_psql($node, "SET maintenance_work_mem = '2MB'",
		'CREATE INDEX big_v ON big USING spfresh (v) WITH (split_limit = 16)');
	my ($pid, $phase) = split ' ', sql("SELECT phase_reached('$pattern')"), 2;

	if ($how eq 'server')
	{
		$node->stop('immediate');
		$node->start;
	}
	elsif ($pid)
	{
		kill_process($node, $pid);
	}
	$build->{run}->finish;
  SKIP:
	{
		skip 'the index was built before the crash', 2
		  if sql("SELECT to_regclass('big_v') IS NOT NULL") eq 't';
		is(sql("SELECT count(*) FROM pg_class WHERE relname ~ '^big_v'"),
			0, "no index is left by a crash during CREATE INDEX ($how, $phase)");
		is(sql("SELECT count(*) FROM pg_ls_tmpdir()"), 0, 'no temporary files either');
	}
	sql('DROP INDEX IF EXISTS big_v');
}
sql('CREATE INDEX big_v ON big USING spfresh (v)');
$node->stop('immediate');
$node->start;
index_is_complete($node, 'big', 'big_v', 'built, then crashed');

my $log = slurp_file($node->logfile);
my @bad = grep { /TRAP: |PANIC: / } split /\n/, $log;
is(scalar(@bad), 0, 'nothing but what was killed crashed') or diag(join "\n", @bad);

$node->stop;
done_testing();
