# Many clients at once: what they do to each other, and to the index.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SpfreshTest;
use Test::More;

my $node = new_server('load');
$node->start;
add_functions($node);

sub sql { return $node->safe_psql('postgres', join '', @_) }

# Compares index and table in one snapshot, again and again.
my $comparing = "SELECT compare('%s', point(:client_id + 1));\n\\sleep 50 ms\n";

# ---------------------------------------------------------------- a mix

sql(<<'SQL');
CREATE TABLE mix (id bigserial PRIMARY KEY, n int DEFAULT 0, v vector(16));
INSERT INTO mix (v) SELECT point(i) FROM generate_series(1, 3000) i;
CREATE INDEX mix_v ON mix USING spfresh (v) WITH (split_limit = 12);
SQL

my $clients = start_pgbench($node, 8, 12,
	[ 3, "\\set i random(1, 1000000)\nSELECT id FROM mix ORDER BY v <-> point(:i) LIMIT 10;\n" ],
	[ 4, "\\set i random(1, 1000000)\nINSERT INTO mix (v) VALUES (point(:i)), (point(:i + 1));\n" ],
	[ 2, "\\set i random(1, 6000)\nUPDATE mix SET v = point(:i * 7) WHERE id = :i;\n" ],
	[ 2, "\\set i random(1, 6000)\nUPDATE mix SET n = n + 1 WHERE id = :i;\n" ],
	[ 2, "\\set i random(1, 6000)\nDELETE FROM mix WHERE id BETWEEN :i AND :i + 2;\n" ],
	[ 1, "\\set i random(1, 1000000)\nBEGIN;\nINSERT INTO mix (v) VALUES (point(:i));\nROLLBACK;\n" ]);
my $vacuum = start_pgbench($node, 1, 12, [ 1, "VACUUM mix;\n\\sleep 20 ms\n" ]);
my $compare = start_pgbench($node, 1, 12, [ 1, sprintf($comparing, 'mix') ]);
is(finish_pgbench($clients), '', 'mix: clients without errors');
is(finish_pgbench($vacuum), '', 'mix: VACUUM without errors');
is(finish_pgbench($compare), '', 'mix: index and table agree all the time');
note("mix: $clients->{transactions} transactions, $vacuum->{transactions} vacuums, "
	  . "$compare->{transactions} comparisons");
index_is_complete($node, 'mix', 'mix_v', 'mix');

# nothing is kept for good: vacuum twice, as pages are freed by one and used again after the next
sql('VACUUM mix');
index_is_complete($node, 'mix', 'mix_v', 'mix, vacuumed');
my $size = index_size($node, 'mix_v');
sql('REINDEX INDEX mix_v');
my $fresh = index_size($node, 'mix_v');
cmp_ok($size, '<', 4 * $fresh + 100 * 8192, "mix: $size bytes, $fresh after REINDEX");
index_is_complete($node, 'mix', 'mix_v', 'mix, reindexed');

# ---------------------------------------------------------------- born empty

sql(<<'SQL');
CREATE TABLE born (id bigserial PRIMARY KEY, v vector(16));
CREATE INDEX born_v ON born USING spfresh (v) WITH (split_limit = 8, replicas = 3);
SQL
$clients = start_pgbench($node, 8, 8,
	[ 1, "\\set i random(1, 1000000)\nINSERT INTO born (v) VALUES (point(:i));\n" ]);
$compare = start_pgbench($node, 2, 8, [ 1, sprintf($comparing, 'born') ]);
is(finish_pgbench($clients), '', 'born empty: clients without errors');
is(finish_pgbench($compare), '', 'born empty: index and table agree all the time');
note("born: $clients->{transactions} transactions, $compare->{transactions} comparisons");
index_is_complete($node, 'born', 'born_v', 'born empty');

# ---------------------------------------------------------------- long postings, wide vectors

sql(<<'SQL');
CREATE TABLE wide (id bigserial PRIMARY KEY, v vector(300));
CREATE INDEX wide_v ON wide USING spfresh (v) WITH (split_limit = 120, code_bits = 4);
SQL
$clients = start_pgbench($node, 8, 6,
	[ 6, "\\set i random(1, 1000000)\nINSERT INTO wide (v) VALUES (point(:i, 300));\n" ],
	[ 1, "\\set i random(1, 2000)\nDELETE FROM wide WHERE id = :i;\n" ]);
$vacuum = start_pgbench($node, 1, 6, [ 1, "VACUUM wide;\n\\sleep 100 ms\n" ]);
$compare = start_pgbench($node, 1, 6,
	[ 1, "SELECT compare('wide', point(:client_id + 1, 300));\n\\sleep 50 ms\n" ]);
is(finish_pgbench($clients), '', 'wide: clients without errors');
is(finish_pgbench($vacuum), '', 'wide: VACUUM without errors');
is(finish_pgbench($compare), '', 'wide: index and table agree all the time');
note("wide: $clients->{transactions} transactions, $compare->{transactions} comparisons");
index_is_complete($node, 'wide', 'wide_v', 'wide');

# ---------------------------------------------------------------- equal vectors

# Few vectors, many rows each, that come and go in order.
sql(<<'SQL');
CREATE TABLE equal (id bigserial PRIMARY KEY, v vector(16));
CREATE INDEX equal_v ON equal USING spfresh (v) WITH (split_limit = 8);
INSERT INTO equal (v) SELECT point(i % 5) FROM generate_series(1, 15000) i;
SQL
cmp_ok(index_size($node, 'equal_v'), '<', 40 * 8192, 'equal: rows share records');
index_is_complete($node, 'equal', 'equal_v', 'equal');
$clients = start_pgbench($node, 8, 8,
	[ 1, "\\set i random(0, 4)\nINSERT INTO equal (v) SELECT point(:i) FROM generate_series(1, 20);\n" ],
	[ 1, "DELETE FROM equal WHERE id IN (SELECT id FROM equal ORDER BY id LIMIT 20 FOR UPDATE SKIP LOCKED);\n" ]);
$vacuum = start_pgbench($node, 1, 8, [ 1, "VACUUM equal;\n\\sleep 50 ms\n" ]);
$compare = start_pgbench($node, 1, 8, [ 1, sprintf($comparing, 'equal') ]);
is(finish_pgbench($clients), '', 'equal: clients without errors');
is(finish_pgbench($vacuum), '', 'equal: VACUUM without errors');
is(finish_pgbench($compare), '', 'equal: index and table agree all the time');
note("equal: $clients->{transactions} transactions, $vacuum->{transactions} vacuums, "
	  . "$compare->{transactions} comparisons");
index_is_complete($node, 'equal', 'equal_v', 'equal, after load');

# what is empty goes, also from the middle of a chain
$size = index_size($node, 'equal_v');
for my $round (1 .. 8)
{
	sql('INSERT INTO equal (v) SELECT point(i % 5) FROM generate_series(1, 15000) i');
	sql('DELETE FROM equal WHERE id IN (SELECT id FROM equal ORDER BY id LIMIT 15000)');
	sql('VACUUM equal');
}
cmp_ok(index_size($node, 'equal_v'), '<', 2 * $size + 40 * 8192,
	'equal: the size is bounded when rows come and go');
index_is_complete($node, 'equal', 'equal_v', 'equal, after rounds');
sql('DELETE FROM equal');
sql('VACUUM equal') for 1 .. 2;
sql('INSERT INTO equal (v) SELECT point(i % 5) FROM generate_series(1, 1000) i');
index_is_complete($node, 'equal', 'equal_v', 'equal, anew');

# ---------------------------------------------------------------- a scan that outlives splits

# A cursor gives the rows of its snapshot, wherever they have moved since.
my $rows = sql(<<'SQL');
CREATE TABLE moving (id bigserial PRIMARY KEY, v vector(16));
CREATE INDEX moving_v ON moving USING spfresh (v) WITH (split_limit = 8);
INSERT INTO moving (v) SELECT point(i) FROM generate_series(1, 2000) i;
CREATE TABLE given (id bigint);
SET spfresh.iterative_scan = relaxed_order;
SET spfresh.max_scan_tuples = 1000000;
SET work_mem = '256MB';
SET enable_seqscan = off;
SET enable_sort = off;
DO $$
DECLARE
	c CURSOR FOR SELECT id FROM moving ORDER BY v <-> point(1);
	got bigint;
	n int := 0;
BEGIN
	OPEN c;
	LOOP
		FETCH c INTO got;
		EXIT WHEN NOT FOUND;
		INSERT INTO given VALUES (got);
		n := n + 1;
		IF n % 100 = 5 THEN
			INSERT INTO moving (v) SELECT point(n * 1000 + i) FROM generate_series(1, 300) i;
		END IF;
	END LOOP;
END
$$;
SELECT count(DISTINCT id), count(*) FROM given WHERE id <= 2000;
SQL
is($rows, '2000|2000', 'a cursor finds every row, once, over many splits');

log_has_no_crash($node, 'load');
$node->stop;
done_testing();
