# A streaming standby: it answers while everything changes, in the end like its primary, and
# takes over.

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
# Whatever is compared must stand still: no background worker (014_standby.pl has them)
$primary->append_conf('postgresql.conf', <<'CONF');
spfresh.rebalance = vacuum
wal_consistency_checking = 'generic'
checkpoint_timeout = 30s
CONF
$primary->start;
add_functions($primary);
$primary->safe_psql('postgres', <<'SQL');
CREATE TABLE items (id bigserial PRIMARY KEY, n int DEFAULT 0, v vector(16), filler char(2000) DEFAULT '');
-- its vectors lie in TOAST
ALTER TABLE items ALTER filler SET STORAGE plain, ALTER v SET STORAGE external, SET (toast_tuple_target = 128);
INSERT INTO items (v) SELECT point(i) FROM generate_series(1, 1000) i;
CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 12);
CREATE TABLE born (id bigserial PRIMARY KEY, v vector(16));
CREATE INDEX born_v ON born USING spfresh (v) WITH (split_limit = 12);
CREATE TABLE equal (id bigserial PRIMARY KEY, v vector(16));
CREATE INDEX equal_v ON equal USING spfresh (v);
SQL

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
# replay waits for nobody for long
$standby->append_conf('postgresql.conf', 'max_standby_streaming_delay = 500ms');
$standby->start;

# ---------------------------------------------------------------- all at once

my $seconds = 12;
my $clients = start_pgbench($primary, 3, $seconds,
	[ 4, "\\set i random(1, 1000000)\nINSERT INTO items (v) VALUES (point(:i)), (point(:i + 1));\n" ],
	[ 2, "\\set i random(1, 1000000)\nINSERT INTO born (v) VALUES (point(:i));\n" ],
	[ 1, "\\set i random(1, 3000)\nUPDATE items SET v = point(:i * 7) WHERE id = :i;\n" ],
	[ 1, "\\set i random(1, 3000)\nUPDATE items SET n = n + 1 WHERE id = :i;\n" ],
	[ 1, "\\set i random(1, 3000)\nDELETE FROM items WHERE id BETWEEN :i AND :i + 3;\n" ],
	[ 1, "\\set i random(0, 4)\nINSERT INTO equal (v) SELECT point(:i) FROM generate_series(1, 60);\n" ],
	[ 1, "DELETE FROM equal WHERE id IN (SELECT id FROM equal ORDER BY id LIMIT 55 FOR UPDATE SKIP LOCKED);\n" ]);
my $vacuum = start_pgbench($primary, 1, $seconds,
	[ 1, "VACUUM items;\nVACUUM equal;\n\\sleep 100 ms\n" ]);

# What is cancelled by a recovery conflict is tried again, and counted.  Before 16 a conflict often
# ends the session: so each comparison has its own.  Others are made by sessions that go on, and remember
# centroids from before.
my @tables = qw(items born equal);
my $select = start_pgbench($standby, 2, $seconds, { tries => 100 },
	map {
		[ 3, "\\set i random(1, 1000000)\nSELECT id FROM $_ ORDER BY v <-> point(:i) LIMIT 10;\n" ],
		  [ 1, "\\set i random(1, 1000000)\nSELECT compare('$_', point(:i));\n" ]
	} @tables);
my ($compared, $conflicts, @differ) = (0, 0);
my $end = time + $seconds;
while (time < $end && !@differ)
{
	my $table = $tables[ $compared % @tables ];
	my $err = '';

	$standby->psql('postgres', "SELECT compare('$table', point($compared))", stderr => \$err);
	if ($err =~ /due to conflict with recovery/) { $conflicts++ }
	elsif ($err ne '') { push @differ, $err }
	$compared++;
}
is(finish_pgbench($clients), '', 'primary: clients without errors');
is(finish_pgbench($vacuum), '', 'primary: VACUUM without errors');
is(finish_pgbench($select, conflicts => 1), '', 'standby: searches without errors');
is(join("\n", @differ), '', 'standby: index and table agree all the time');
note("primary: $clients->{transactions} transactions, $vacuum->{transactions} vacuums; "
	  . "standby: $select->{transactions} searches ($select->{retried} tried again"
	  . ($select->{cut_off} ? ", $select->{cut_off} clients cut off" : '')
	  . "), $compared comparisons ($conflicts cancelled)");
cmp_ok($compared - $conflicts, '>', 5, 'standby: there were comparisons');

# ---------------------------------------------------------------- the same answers

$primary->wait_for_catchup($standby);
answers_alike($primary, $standby, $_, 16,
	$SpfreshTest::exhaustive_settings, 'SET enable_seqscan = off; SET enable_sort = off')
  foreach @tables;

# ---------------------------------------------------------------- taking over

take_over($primary, $standby);
$standby->safe_psql('postgres', <<'SQL');
INSERT INTO items (v) SELECT point(i) FROM generate_series(1, 2000) i;
DELETE FROM items WHERE id % 5 = 0;
VACUUM items, born, equal;
INSERT INTO items (v) SELECT point(i) FROM generate_series(3000, 4000) i;
INSERT INTO born (v) SELECT point(i) FROM generate_series(1, 1000) i;
INSERT INTO equal (v) SELECT point(i % 5) FROM generate_series(1, 1000) i;
SQL
index_is_complete($standby, $_, "${_}_v", "promoted, $_") foreach @tables;

log_has_no_crash($standby, 'standby');
$standby->stop;
done_testing();
