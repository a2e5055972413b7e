# Reading ahead: pages that are not in shared buffers, in every mode that this build has; and an
# io_uring that the kernel refuses.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use SpfreshTest;

my $node = PostgreSQL::Test::Cluster->new('io');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_buffers = 1MB
autovacuum = off
jit = off
max_parallel_maintenance_workers = 0
});
$node->start;
$node->safe_psql('postgres', q{
CREATE EXTENSION spfresh CASCADE;
CREATE TABLE items (id int, v vector(64));
ALTER TABLE items ALTER v SET STORAGE PLAIN;
INSERT INTO items SELECT i, array_agg(sin(i % 300 * 7.1 + d * 1.7) + 0.3 * sin(i * 3.3 + d * d * 0.9))::vector
	FROM generate_series(1, 12000) i, generate_series(1, 64) d GROUP BY i;
CREATE INDEX items_v ON items USING spfresh (v);
ANALYZE items;
});

# the buffers hold a fraction of it: nearly every page is read again and again
my $queries = q{
SET enable_seqscan = off;
SELECT string_agg(ids, ' ' ORDER BY q) FROM (SELECT q.id AS q, string_agg(x.id::text, ',') AS ids FROM items q,
	LATERAL (SELECT id FROM items ORDER BY v <-> q.v LIMIT 10) x WHERE q.id % 400 = 7 GROUP BY q.id) y;
};
my $answer = $node->safe_psql('postgres', "LOAD 'spfresh'; SET spfresh.io = sync; $queries");
cmp_ok(length($answer), '>', 1000, 'there are answers');

my %has;
for my $mode (qw(posix io_uring stream auto))
{
	my ($rc, $out, $err) = $node->psql('postgres', "LOAD 'spfresh'; SET spfresh.io = $mode; $queries");
  SKIP:
	{
		skip "this build has no $mode", 1 if $rc != 0 && $err =~ /invalid value for parameter "spfresh.io"/;
		$has{$mode} = 1;
		is($out, $answer, "the same answers by $mode");
	}
}

# Without file descriptors to spare there is no io_uring, and the search does without: said once.
SKIP:
{
	skip 'no io_uring in this build', 3 unless $has{io_uring};
	skip 'no prlimit', 3 if system('prlimit --version > /dev/null 2>&1') != 0;

	my $log = -s $node->logfile;

	# files are open by then; PostgreSQL closes one where it needs another, but nobody does for an io_uring
	my $script = <<"PSQL";
LOAD 'spfresh';
SET spfresh.io = posix;
$queries
SET spfresh.io = io_uring;
SELECT pg_backend_pid() AS pid \\gset
\\setenv PID :pid
\\! n=3; while [ -e /proc/\$PID/fd/\$n ]; do n=\$((n + 1)); done; prlimit --pid=\$PID --nofile=\$n
$queries
$queries
PSQL
	my ($rc, $out, $err) = $node->psql('postgres', $script);
	is($rc, 0, 'searches go on without descriptors') or diag $err;
	is($out, "$answer\n$answer\n$answer", 'the same answers without io_uring');
	my $said = () = slurp_file($node->logfile, $log) =~ /LOG:  spfresh cannot use io_uring: Too many open files/g;
	is($said, 1, 'it is said once');
}

log_has_no_crash($node, 'io');
$node->stop;
done_testing();
