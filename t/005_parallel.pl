# Building by several processes: that they help, that progress only moves forward, the WAL and temporary files
# of all of them, being stopped at any moment, a worker that is ended, a crash, changes meanwhile.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SpfreshTest;
use Test::More;

my $node = new_server('parallel', allows_streaming => 1);
$node->append_conf('postgresql.conf', "max_parallel_maintenance_workers = 2\n");
$node->start;
add_functions($node);

sub sql { return $node->safe_psql('postgres', join '', @_) }

sql(<<'SQL');
CREATE TABLE items (id bigserial PRIMARY KEY, v vector(32)) WITH (parallel_workers = 2);
INSERT INTO items (v) SELECT point(i, 32) FROM generate_series(1, 20000) i;
VACUUM items;

-- What the progress view shows of CREATE INDEX, from when it begins to its end: where it went back.
CREATE FUNCTION watch_progress(OUT looks int, OUT phases int, OUT backwards text) LANGUAGE plpgsql AS
$$
DECLARE
	names text[] := '{initializing,"building index: initializing","building index: sampling rows","building index: training centroids","building index: assigning rows","building index: writing records","building index: writing postings","building index: training centroids","building index: building upper levels","building index: calibrating","building index: logging pages"}';
	now record;
	old_phase text;
	old_done bigint;
	seen text[] := '{}';
BEGIN
	looks := 0;
	FOR i IN 1 .. 20000 LOOP
		PERFORM pg_stat_clear_snapshot();
		SELECT phase, tuples_done AS done, tuples_total AS total INTO now FROM pg_stat_progress_create_index;
		IF NOT FOUND THEN
			EXIT WHEN looks > 0;
		ELSE
			looks := looks + 1;
			-- training comes again for the upper levels
			IF now.phase = old_phase AND now.phase !~ 'training|upper' AND now.done < old_done THEN
				backwards := concat_ws('; ', backwards, format('%s: %s after %s', now.phase, now.done, old_done));
			END IF;
			IF array_position(names, now.phase) IS NULL THEN
				backwards := concat_ws('; ', backwards, 'unknown ' || now.phase);
			ELSIF array_position(names, now.phase) < array_position(names, old_phase) AND now.phase !~ 'training' THEN
				backwards := concat_ws('; ', backwards, format('%s after %s', now.phase, old_phase));
			END IF;
			IF now.total > 0 AND now.done > now.total * 1.3 + 100 THEN
				backwards := concat_ws('; ', backwards, format('%s: %s of %s', now.phase, now.done, now.total));
			END IF;
			IF NOT now.phase = ANY (seen) THEN
				seen := seen || now.phase;
			END IF;
			old_phase := now.phase;
			old_done := now.done;
		END IF;
		PERFORM pg_sleep(0.001);
	END LOOP;
	phases := cardinality(seen);
END
$$;
SQL

# ---------------------------------------------------------------- workers, progress, WAL

my ($out, $err) = ('', '');
my $watch = start_psql($node, 'SELECT * FROM watch_progress()');
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT * FROM watch_progress()'");
$node->psql('postgres',
	"SET client_min_messages = debug1; CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 16)",
	stderr => \$err);
like($err, qr/[12] workers help to build index "items_v"/, 'workers help, though nothing preloads the library');
$watch->{run}->finish;
my ($looks, $phases, $backwards) = split /\|/, $watch->{out} =~ s/\s+$//r, 3;
cmp_ok($phases, '>=', 4, "phases were seen: $phases, in $looks looks");
is($backwards, '', 'progress only moves forward') or diag($watch->{err});
index_is_complete($node, 'items', 'items_v', 'three processes');
sql('DROP INDEX items_v');

build_logs_little($node, 'items_v', 'CREATE INDEX items_v ON items USING spfresh (v)',
	'by three processes');
sql('DROP INDEX items_v');

# ---------------------------------------------------------------- how many workers are planned

# By the pages to be read, which are mostly those of the TOAST table
sql(<<'SQL');
CREATE TABLE wide (id int, v vector(1000));
INSERT INTO wide SELECT i, point(i, 1000) FROM generate_series(1, 600) i;
CREATE FUNCTION unsafe(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE AS
$$ BEGIN RETURN v; END $$;
SQL
cmp_ok(sql("SELECT pg_relation_size('wide')"), '<', 500_000, 'the table itself is small');

# planned SETTINGS, COLUMN: how many workers help
sub planned
{
	my ($settings, $column) = @_;

	$err = '';
	$node->psql('postgres',
		"$settings; SET client_min_messages = debug1; CREATE INDEX wide_v ON wide USING spfresh (" . ($column // 'v') . ')',
		stderr => \$err);
	sql('DROP INDEX wide_v');
	return $err =~ /(\d+) workers help/ ? $1 : 0;
}

is(planned("SET min_parallel_table_scan_size = '2MB'"), 1, 'what is in TOAST counts');
is(planned("SET min_parallel_table_scan_size = '256kB'; SET maintenance_work_mem = '96MB'"), 2, 'more of it, more workers');
is(planned("SET min_parallel_table_scan_size = '8MB'"), 0, 'too little of it');
is(planned("SET min_parallel_table_scan_size = '256kB'; SET maintenance_work_mem = '64MB'"), 1,
	'each process has 32 MB');
is(planned("SET min_parallel_table_scan_size = '256kB'; SET max_parallel_maintenance_workers = 0"), 0,
	'max_parallel_maintenance_workers = 0');
is(planned("SET min_parallel_table_scan_size = '256kB'", '(unsafe(v)::vector(1000))'), 0,
	'an expression that is not parallel safe');
sql('ALTER TABLE wide SET (parallel_workers = 0)');
is(planned("SET min_parallel_table_scan_size = '256kB'"), 0, 'parallel_workers = 0');
sql('ALTER TABLE wide SET (parallel_workers = 1)');
is(planned("SET maintenance_work_mem = '1MB'"), 1, 'parallel_workers = 1');
sql('DROP TABLE wide');

# ---------------------------------------------------------------- more rows than expected

# The first look underestimates the rows, which all lie in few of the blocks: what is kept of them is not all
sql(<<'SQL');
CREATE TABLE clump (id int, filler text, v vector(8)) WITH (parallel_workers = 2);
ALTER TABLE clump ALTER filler SET STORAGE PLAIN;
INSERT INTO clump SELECT i, repeat('x', 3900) FROM generate_series(1, 3000) i;
INSERT INTO clump SELECT i, NULL, point(i, 8) FROM generate_series(1, 8000) i;
INSERT INTO clump SELECT i, repeat('x', 3900) FROM generate_series(1, 9000) i;
SQL
foreach my $workers (0, 2)
{
	$err = '';
	$node->psql('postgres',
		"SET client_min_messages = debug1; SET max_parallel_maintenance_workers = $workers; CREATE INDEX clump_v ON clump USING spfresh (v)",
		stderr => \$err);
	like($err, qr/more rows than expected, table is scanned again/, "$workers workers: scanned again");
	index_is_complete($node, 'clump', 'clump_v', "$workers workers: scanned again");
	is(sql("SELECT reltuples FROM pg_class WHERE relname = 'clump_v'"), 8000, "$workers workers: rows counted once");
	sql('DROP INDEX clump_v');
}
sql('DROP TABLE clump');

# ---------------------------------------------------------------- stopped

note_files($node);
$err = '';
$node->psql('postgres',
	"SET temp_file_limit = '100kB'; CREATE INDEX items_v ON items USING spfresh (v)", stderr => \$err);
like($err, qr/temporary file size exceeds "?temp_file_limit"?/, 'a full disk is an error that says so');
nothing_is_left($node, 'items_v', 'temp_file_limit');

foreach my $how ('pg_cancel_backend(pid)', 'worker')
{
	foreach my $phase ('sampling', 'training', 'assigning', 'writing records', 'writing postings', 'calibrating')
	{
		my $build = start_psql($node, 'CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 16)');
		my $reached = sql("SELECT phase_reached('$phase')");
		my $leader = $reached =~ /^(\d+)/ ? $1 : 0;
		sql($how eq 'worker'
			? "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE leader_pid = $leader"
			: "SELECT pg_cancel_backend($leader)");
		$build->{run}->finish;
	  SKIP:
		{
			# it may be over before, the last phases above all
			skip "build was too fast to be stopped while $phase", 4
			  unless $build->{err} =~ /canceling statement due to user request|due to administrator command|lost connection to parallel worker/;
			nothing_is_left($node, 'items_v', "$how when $reached");
		}
		sql('DROP INDEX IF EXISTS items_v');
	}
}

# ---------------------------------------------------------------- a crash

my $build = start_psql($node, 'CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 16)');
my $crashed = sql("SELECT phase_reached('writing postings')");
$node->stop('immediate');
eval { $build->{run}->finish };
$node->start;
SKIP:
{
	skip 'build was too fast to crash amid it', 1 if $crashed eq '' || $build->{err} eq '';
	is(sql("SELECT count(*) FROM pg_class WHERE relname ~ '^items_v'"), 0, 'crash: no index');
}
sql('DROP INDEX IF EXISTS items_v');
is(sql('SELECT count(*) FROM pg_ls_tmpdir()'), 0, 'crash: no temporary files');
sql('CREATE INDEX items_v ON items USING spfresh (v)');
index_is_complete($node, 'items', 'items_v', 'built after a crash');
$node->stop('immediate');
$node->start;
index_is_complete($node, 'items', 'items_v', 'a crash after it was built');
sql('DROP INDEX items_v');

# ---------------------------------------------------------------- changes meanwhile

my $changes = start_pgbench($node, 3, 5,
	[ 3, "\\set i random(1, 1000000)\nINSERT INTO items (v) VALUES (point(:i, 32));\n" ],
	[ 1, "\\set i random(1, 20000)\nUPDATE items SET v = point(:i * 3, 32) WHERE id = :i;\n" ],
	[ 1, "\\set i random(1, 20000)\nDELETE FROM items WHERE id = :i;\n" ]);
sql('CREATE INDEX CONCURRENTLY items_v ON items USING spfresh (v)');
sql('REINDEX INDEX CONCURRENTLY items_v');
is(finish_pgbench($changes), '', 'changes during CREATE INDEX CONCURRENTLY');
index_is_complete($node, 'items', 'items_v', 'built concurrently');

log_has_no_crash($node, 'parallel builds');
$node->stop;
done_testing();
