# Building: the WAL it writes, the memory it gets, being stopped at any moment, dump and restore.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SpfreshTest;
use Test::More;

my $node = new_server('build', allows_streaming => 1);
$node->start;
add_functions($node);

sub sql { return $node->safe_psql('postgres', join '', @_) }

sql(<<'SQL');
CREATE TABLE items (id bigserial PRIMARY KEY, v vector(32));
INSERT INTO items (v) SELECT point(i, 32) FROM generate_series(1, 20000) i;
VACUUM items;
SQL

# ---------------------------------------------------------------- WAL

foreach my $options ('', 'WITH (split_limit = 16)', 'WITH (code_bits = 4, replicas = 1)')
{
	build_logs_little($node, 'items_v',
		"CREATE INDEX items_v ON items USING spfresh (v) $options", "($options)");
	sql('DROP INDEX items_v');
}

# ---------------------------------------------------------------- little memory

foreach my $memory ('1MB', '64kB')
{
	sql("SET maintenance_work_mem = '$memory'; CREATE INDEX items_v ON items USING spfresh (v)")
	  if $memory eq '1MB' || $node->pg_version >= 18;
	next unless sql("SELECT to_regclass('items_v') IS NOT NULL") eq 't';
	index_is_complete($node, 'items', 'items_v', "maintenance_work_mem = $memory");
	sql('DROP INDEX items_v');
}

# Centroids are as good as with plenty: postings are as dense.  Trained on what fits, they were 4 % wider.
sql(<<'SQL');
CREATE TABLE smooth AS
SELECT i AS id, (SELECT array_agg(x) FROM
	(SELECT (SELECT sum(num(i, k) * num(-j, k)) FROM generate_series(1, 8) k)::real x
	 FROM generate_series(1, 32) j) s)::vector(32) AS v
FROM generate_series(1, 20000) i;
SQL
my %width;
foreach my $memory ('64MB', '1MB')
{
	foreach my $workers (0, 1)
	{
		my $messages = '';
		$node->psql('postgres', <<"SQL", stderr => \$messages);
ALTER TABLE smooth SET (parallel_workers = $workers);
SET maintenance_work_mem = '$memory';
SET client_min_messages = debug1;
CREATE INDEX smooth_v ON smooth USING spfresh (v) WITH (split_limit = 32);
SQL
		if ($memory eq '1MB')
		{
			like($messages, qr/centroids are trained in \d+ cells/, "$memory, $workers workers: in cells");
		}
		else
		{
			unlike($messages, qr/cells/, "$memory, $workers workers: as a whole");
		}
		$width{"$memory $workers"} = sql(<<'SQL');
SELECT sum(entries * avg_distance) / sum(entries) FROM spfresh_postings('smooth_v') WHERE level = 0
SQL
		index_is_complete($node, 'smooth', 'smooth_v', "$memory, $workers workers");
		is(sql("SELECT rows FROM spfresh_stats('smooth_v')"), 20000, "$memory, $workers workers: all rows");
		sql('DROP INDEX smooth_v');
	}
}
cmp_ok($width{"1MB $_"}, '<', $width{'64MB 0'} * 1.02, "little memory, $_ workers: postings are as dense")
  foreach 0, 1;

# nothing to index, in pieces: nulls, and few different vectors
sql(<<'SQL');
CREATE TABLE poor (id bigint, v vector(32));
INSERT INTO poor SELECT i, CASE WHEN i % 3 = 0 THEN point(i % 5, 32) END FROM generate_series(1, 30000) i;
SQL
sql("SET maintenance_work_mem = '1MB'; CREATE INDEX poor_v ON poor USING spfresh (v) WITH (split_limit = 16)");
is(sql("SELECT rows FROM spfresh_stats('poor_v')"), 10000, 'little memory, few different vectors: all rows');
is(sql("SELECT count(*) FROM spfresh_check('poor_v')"), 1, 'little memory, few different vectors: spfresh_check is content');
sql('DROP TABLE smooth, poor');

# ---------------------------------------------------------------- no room for temporary files

note_files($node);
my $err = '';
$node->psql('postgres',
	"SET maintenance_work_mem = '1MB'; SET temp_file_limit = '100kB'; CREATE INDEX items_v ON items USING spfresh (v)",
	stderr => \$err);
like($err, qr/temporary file size exceeds "?temp_file_limit"?/, 'a full disk is an error that says so');
nothing_is_left($node, 'items_v', 'temp_file_limit');

# ---------------------------------------------------------------- cancelled in every phase

foreach my $phase (
	'sampling', 'training', 'assigning', 'writing records', 'writing postings', 'upper levels',
	'calibrating', 'logging')
{
	my $build = start_psql($node, "SET maintenance_work_mem = '2MB'",
		'CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 16)');
	my $reached = sql("SELECT phase_reached('$phase')");
	sql('SELECT pg_cancel_backend(' . $1 . ')') if $reached =~ /^(\d+)/;
	$build->{run}->finish;
  SKIP:
	{
		# it may be over before it is cancelled, the last phases above all
		skip "build was too fast to be cancelled while $phase", 4
		  unless $build->{err} =~ /canceling statement due to user request/;
		nothing_is_left($node, 'items_v', "cancelled when $reached");
	}
	sql('DROP INDEX IF EXISTS items_v');
}

# a REINDEX that is cancelled leaves the old index as it was
sql('CREATE INDEX items_v ON items USING spfresh (v)');
my $reindex = start_psql($node, 'REINDEX INDEX items_v');
$err = sql("SELECT phase_reached('assigning')");
sql("SELECT pg_cancel_backend($1)") if $err =~ /^(\d+)/;
$reindex->{run}->finish;
index_is_complete($node, 'items', 'items_v', 'after a cancelled REINDEX');
sql('DROP INDEX items_v');

# one that is cancelled while built concurrently is invalid, nobody minds it, and it can be rebuilt
my $concurrent = start_psql($node, 'CREATE INDEX CONCURRENTLY items_v ON items USING spfresh (v)');
$err = sql("SELECT phase_reached('training|assigning')");
sql("SELECT pg_cancel_backend($1)") if $err =~ /^(\d+)/;
$concurrent->{run}->finish;
sql('INSERT INTO items (v) SELECT point(i, 32) FROM generate_series(1, 100) i');
sql('DELETE FROM items WHERE id % 10 = 1; VACUUM items');
sql('REINDEX INDEX CONCURRENTLY items_v');
is(sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'items_v'::regclass"), 't',
	'an index left invalid is valid after REINDEX CONCURRENTLY');
index_is_complete($node, 'items', 'items_v', 'after REINDEX CONCURRENTLY');
sql('DROP INDEX items_v');

# ---------------------------------------------------------------- concurrently with changes

my $changes = start_pgbench($node, 4, 6,
	[ 3, "\\set i random(1, 1000000)\nINSERT INTO items (v) VALUES (point(:i, 32));\n" ],
	[ 1, "\\set i random(1, 20000)\nUPDATE items SET v = point(:i * 3, 32) WHERE id = :i;\n" ],
	[ 1, "\\set i random(1, 20000)\nDELETE FROM items WHERE id = :i;\n" ]);
sql('CREATE INDEX CONCURRENTLY items_v ON items USING spfresh (v)');
sql('REINDEX INDEX CONCURRENTLY items_v');
is(finish_pgbench($changes), '', 'changes during CREATE INDEX CONCURRENTLY');
index_is_complete($node, 'items', 'items_v', 'built concurrently');
sql('DROP INDEX items_v');

# ---------------------------------------------------------------- insertions cut off

# Whatever a statement was doing, a split above all, when its time was up
sql(<<'SQL');
CREATE TABLE cut (id bigserial PRIMARY KEY, v vector(32));
CREATE INDEX cut_v ON cut USING spfresh (v) WITH (split_limit = 16);
SQL
my @cut = map {
	my $client = $_;
	start_psql($node, map {
		my ($from, $limit, $rows) = ($client * 1000000 + $_ * 100, 2 + $_ * 7 % 58, $_ % 5 ? 30 : 3);
		("SET statement_timeout = $limit",
			"INSERT INTO cut (v) SELECT point($from + j, 32) FROM generate_series(1, $rows) j");
	} 1 .. 200);
} 1 .. 6;
my $compare = start_pgbench($node, 1, 8, [ 1, "SELECT compare('cut', point(:client_id + 1, 32));\n" ]);
my $vacuum = start_pgbench($node, 1, 8, [ 1, "VACUUM cut;\n\\sleep 100 ms\n" ]);
my ($stopped, @errors) = (0);
# a limit that passes as the statement ends may stop the next, as if a user had asked for it
my $limited = qr/canceling statement due to (?:statement timeout|user request)/;
foreach my $psql (@cut)
{
	$psql->{run}->finish;
	$stopped += () = $psql->{err} =~ /$limited/g;
	push @errors, grep { /ERROR|FATAL|server/ && !/$limited/ } split /\n/, $psql->{err};
}
is(join("\n", @errors), '', "cut off: no other errors ($stopped statements were)");
is(finish_pgbench($compare), '', 'cut off: index and table agree all the time');
is(finish_pgbench($vacuum), '', 'cut off: VACUUM without errors');
index_is_complete($node, 'cut', 'cut_v', 'cut off');
sql('VACUUM cut') for 1 .. 2;
note('left unreachable: '
	  . sql("SELECT unreachable_pages, unreachable_records FROM spfresh_check('cut_v')"));
is(sql("SELECT unreachable_pages FROM spfresh_check('cut_v')"),
	0, 'cut off: vacuum freed what no way led to');
index_is_complete($node, 'cut', 'cut_v', 'cut off, vacuumed');

# ---------------------------------------------------------------- dump and restore

sql(<<'SQL');
CREATE TABLE docs (id bigserial PRIMARY KEY, kind int, v vector(32), h halfvec(32));
INSERT INTO docs (kind, v, h) SELECT i % 3, p, p::halfvec(32) FROM generate_series(1, 2000) i, point(i, 32) p;
CREATE INDEX docs_v ON docs USING spfresh (v) WITH (replicas = 3, code_bits = 3, split_limit = 40, fillfactor = 80);
CREATE INDEX docs_h ON docs USING spfresh (h halfvec_cosine_ops) WHERE kind = 1;
CREATE INDEX docs_x ON docs USING spfresh ((v + v) vector_ip_ops) WITH (initial_postings = 50);
DROP TABLE cut, items;
SQL
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
sql('CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ],
	'pg_restore');
my $definitions = "SELECT string_agg(indexdef, E'\\n' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'docs'";
is($node->safe_psql('restored', $definitions), sql($definitions), 'the same indexes');
is($node->safe_psql('restored', "SELECT differences('docs', point(1, 32))"), '', 'the same rows in them');
is($node->safe_psql('restored', "SELECT count(*) FROM pg_class c, spfresh_check(c.oid) WHERE relname IN ('docs_v', 'docs_h', 'docs_x')"),
	3, 'spfresh_check is content');

log_has_no_crash($node, 'build');
$node->stop;
done_testing();
