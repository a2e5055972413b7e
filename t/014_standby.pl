# A hot standby that is queried all the while its primary splits, reassigns, merges, reclusters and
# frees: with hot_standby_feedback no query fails, and what its snapshot has is found, all of it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SpfreshTest;
use Test::More;

# Every change is compared, page by page, with what replaying it gives.
my $primary = new_server('primary', allows_streaming => 1);
$primary->append_conf('postgresql.conf', <<'CONF');
wal_consistency_checking = 'generic'
checkpoint_timeout = 30s
CONF
$primary->start;
add_functions($primary);
$primary->safe_psql('postgres', <<'SQL');
CREATE TABLE items (id bigserial PRIMARY KEY, v vector(8)) WITH (vacuum_truncate = off);
CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 16);
INSERT INTO items (v) SELECT point(i, 8) FROM generate_series(1, 1200) i;
CREATE TABLE small (id bigserial PRIMARY KEY, v vector(8)) WITH (vacuum_truncate = off);
CREATE INDEX small_v ON small USING spfresh (v) WITH (split_limit = 12);
SQL
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', <<'CONF');
hot_standby_feedback = on
wal_receiver_status_interval = 1
max_standby_streaming_delay = 5min
CONF
$standby->start;
$primary->wait_for_catchup($standby);

# What a query on the standby still needs the primary must know of: so one of them is always open before the
# first that counts begins.
my $holder = open_session($standby);
ask($holder, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
ask($holder, 'SELECT count(*) FROM items');
$primary->poll_query_until('postgres', 'SELECT backend_xmin IS NOT NULL FROM pg_stat_replication')
  or die 'no feedback came';

# ---------------------------------------------------------------- all at once

# A window that rolls on, with all that is due done at once, by workers, or by VACUUM; and a table that is filled
# and emptied, so that levels come and go.
my $seconds = 12;
my $roll = <<'SQL';
\set i random(1, 1000000)
INSERT INTO items (v) SELECT point(:i + i, 8) FROM generate_series(1, 20) i;
DELETE FROM items WHERE id < (SELECT max(id) - 1200 FROM items);
SQL
my $clients = start_pgbench($primary, 2, $seconds,
	[ 3, "SET spfresh.rebalance = inline;\n$roll" ],
	[ 3, "SET spfresh.rebalance = background;\n$roll" ],
	[ 1, "DELETE FROM small;\nINSERT INTO small (v) SELECT point(i, 8) FROM generate_series(1, 300) i;\n" ],
	[ 1, "DELETE FROM small;\n" ]);
my $maintenance = start_pgbench($primary, 1, $seconds,
	[ 1, "VACUUM items;\nVACUUM small;\n\\sleep 50 ms\n" ],
	[ 1, "SELECT spfresh_rebalance('items_v'), spfresh_rebalance('small_v');\n\\sleep 50 ms\n" ]);
my $select = start_pgbench($standby, 1, $seconds,
	map { [ 1, "\\set i random(1, 1000000)\nSELECT id FROM $_ ORDER BY v <-> point(:i, 8) LIMIT 10;\n" ] } qw(items small));

# Cursors that stay open while all that goes on, and comparisons from beginning to end of which the snapshot is one.
my @tables = qw(items small);
my ($compared, $fetched, @wrong) = (0, 0);
my $session = open_session($standby, $SpfreshTest::exhaustive_settings =~ /SET ([^;]+)/g);
my $end = time + $seconds;
while (time < $end && !@wrong)
{
	my $table = $tables[ $compared % @tables ];

	ask($session, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
	my $ids = ask($session, "SELECT id FROM $table ORDER BY id");
	ask($session, "DECLARE c CURSOR FOR SELECT id FROM $table ORDER BY v <-> point($compared, 8)");
	my $given = ask($session, 'FETCH 5 FROM c');
	ask($session, 'SELECT pg_sleep(0.3)') if $compared % 4 == 0;
	$given .= "\n" . ask($session, 'FETCH ALL FROM c');
	$given = join "\n", sort { $a <=> $b } grep { $_ ne '' } split /\n/, $given;
	push @wrong, "a cursor on $table: " . (() = $given =~ /\d+/g) . ' rows of ' . (() = $ids =~ /\d+/g)
	  if $given ne $ids;
	my $differences = ask($session, "SELECT differences('$table', point($compared, 8))");
	push @wrong, $differences if $differences ne '';
	ask($session, 'COMMIT');
	$compared++;
	# the oldest snapshot moves on, a little later than the others'
	if ($compared % 8 == 0)
	{
		ask($holder, $_) foreach 'COMMIT', 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM items';
	}
}
is(finish_pgbench($clients), '', 'primary: clients without errors');
is(finish_pgbench($maintenance), '', 'primary: maintenance without errors');
is(finish_pgbench($select), '', 'standby: searches without errors');
is(join("\n", @wrong), '', 'standby: every snapshot finds its rows');
cmp_ok($compared, '>', 5, 'standby: there were comparisons');
note("primary: $clients->{transactions} transactions, $maintenance->{transactions} times maintenance; "
	  . "standby: $select->{transactions} searches, $compared comparisons");
close_session($_) foreach $holder, $session;

# all of it has happened
my $stats = $primary->safe_psql('postgres',
	"SELECT splits > 0, reassigned_vectors > 0, merges > 0, reclustered_regions > 0, swept_entries > 0 FROM spfresh_stats('items_v')");
is($stats, 't|t|t|t|t', 'there were splits, reassignments, merges, reclusterings, sweeps');

# ---------------------------------------------------------------- the same answers

# no worker comes in between
$primary->append_conf('postgresql.conf', "spfresh.max_workers = 0\n");
$primary->restart;
$primary->safe_psql('postgres', 'INSERT INTO small (v) SELECT point(i, 8) FROM generate_series(1, 50) i');
$primary->safe_psql('postgres', "SELECT spfresh_rebalance('items_v'), spfresh_rebalance('small_v')");
$primary->wait_for_catchup($standby);
my $err = '';
$standby->psql('postgres', "SELECT spfresh_rebalance('items_v')", stderr => \$err);
like($err, qr/cannot execute spfresh_rebalance\(\) during recovery/, 'no rebalancing on a standby');
answers_alike($primary, $standby, $_, 8, $SpfreshTest::exhaustive_settings) foreach @tables;

# ---------------------------------------------------------------- taking over

take_over($primary, $standby);
$standby->safe_psql('postgres', <<'SQL');
INSERT INTO items (v) SELECT point(i, 8) FROM generate_series(1, 300) i;
DELETE FROM items WHERE id % 3 = 0;
SELECT spfresh_rebalance('items_v');
VACUUM items;
SQL
index_is_complete($standby, $_, "${_}_v", "promoted, $_") foreach @tables;

log_has_no_crash($_->[0], $_->[1]) foreach [ $primary, 'primary' ], [ $standby, 'standby' ];
my @bad = grep { /inconsistent page|conflict with recovery/ } split /\n/, slurp_file($standby->logfile);
is(scalar(@bad), 0, 'no inconsistent page, no conflict') or diag(join "\n", @bad);
$standby->stop;
done_testing();
