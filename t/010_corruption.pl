# Damaged indexes: whatever bytes a page holds, statements give ERRCODE_INDEX_CORRUPTED or a
# smaller answer; never a crash, an endless loop, or a wrong row.
#
# Indexes over copies of one table are each damaged in one way while the server is down. Then
# each is searched, verified, written to and vacuumed.  The random numbers are the same each time:
# SPFRESH_SEED gives others, SPFRESH_ROUNDS more of them.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{SPFRESH_SEED} || 1;
my $rounds = $ENV{SPFRESH_ROUNDS} || 2;
my $per_round = 33;
my $block_size = 8192;

# A generator of our own: Perl's differs between versions
my $state = $seed * 2654435761 % 2147483647 || 1;

sub random
{
	my ($n) = @_;
	$state = $state * 48271 % 2147483647;
	return $state % $n;
}

# What is done to the file of an index: page by page, in memory
my %damage = (
	'a bit flipped' => sub {
		my ($pages) = @_;
		my $page = random(scalar @$pages);
		my $at = random($block_size);
		substr($pages->[$page], $at, 1) ^= chr(1 << random(8));
		return "block $page byte $at";
	},
	'a bit flipped near the front' => sub {
		my ($pages) = @_;
		my $page = random(scalar @$pages);
		my $at = 12 + random(80);
		substr($pages->[$page], $at, 1) ^= chr(1 << random(8));
		return "block $page byte $at";
	},
	'a bit flipped in the meta page' => sub {
		my ($pages) = @_;
		my $at = 24 + random(400);
		substr($pages->[0], $at, 1) ^= chr(1 << random(8));
		return "byte $at";
	},
	'a bit flipped at the end' => sub {
		my ($pages) = @_;
		my $page = random(scalar @$pages);
		my $at = $block_size - 1 - random(300);
		substr($pages->[$page], $at, 1) ^= chr(1 << random(8));
		return "block $page byte $at";
	},
	'bytes overwritten' => sub {
		my ($pages) = @_;
		my $page = random(scalar @$pages);
		my $length = 1 + random(16);
		my $at = 24 + random($block_size - 24 - $length);
		substr($pages->[$page], $at, $length) =
		  random(2) ? "\xff" x $length : join('', map { chr(random(256)) } 1 .. $length);
		return "block $page byte $at, $length of them";
	},
	'a number replaced' => sub {
		my ($pages) = @_;
		my $page = random(scalar @$pages);
		my $size = random(2) ? 4 : 2;
		# the front of what is on the page, or anywhere
		my $at = 24 + $size * random((random(2) ? 80 : $block_size - 40) / $size);
		my @numbers = (0, 1, 2, 7, $page, random(scalar @$pages), 0x1fff, 0x7fff, 0xfffffffe);
		my $number = $numbers[ random(scalar @numbers) ];
		substr($pages->[$page], $at, $size) = substr(pack('V', $number), 0, $size);
		return "block $page byte $at: $size bytes of $number";
	},
	'a stretch overwritten' => sub {
		my ($pages) = @_;
		my $page = random(scalar @$pages);
		my $length = 100 + random(4000);
		my $at = 24 + random($block_size - 40 - $length);
		substr($pages->[$page], $at, $length) = join('', map { chr(random(256)) } 1 .. $length);
		return "block $page byte $at, $length of them";
	},
	'a page zeroed' => sub {
		my ($pages) = @_;
		my $page = random(scalar @$pages);
		$pages->[$page] = "\0" x $block_size;
		return "block $page";
	},
	'pages swapped' => sub {
		my ($pages) = @_;
		my ($a, $b) = (random(scalar @$pages), random(scalar @$pages));
		@$pages[$a, $b] = @$pages[$b, $a];
		return "blocks $a and $b";
	},
	'a page copied over another' => sub {
		my ($pages) = @_;
		my ($a, $b) = (random(scalar @$pages), random(scalar @$pages));
		$pages->[$b] = $pages->[$a];
		return "block $a to $b";
	},
	'pages lost at the end' => sub {
		my ($pages) = @_;
		my $keep = 1 + random(scalar(@$pages) - 1);
		splice(@$pages, $keep);
		return "from $keep on";
	});

sub damage_file
{
	my ($path, $kind) = @_;
	open(my $file, '+<:raw', $path) or die "$path: $!";
	my $content = do { local $/; <$file> };
	my @pages = unpack("(a$block_size)*", $content);
	my $what = $damage{$kind}->(\@pages);
	seek($file, 0, 0);
	truncate($file, 0);
	print $file join('', @pages);
	close($file) or die "$path: $!";
	return "$kind: $what";
}

my $node = PostgreSQL::Test::Cluster->new('corruption');
$node->init;
$node->append_conf(
	'postgresql.conf', q(
autovacuum = off
restart_after_crash = on
fsync = off
statement_timeout = 60s
maintenance_work_mem = 16MB
max_parallel_workers_per_gather = 0
));
$node->start;

# Checksums would find all of it before we do.
if ($node->safe_psql('postgres', 'SHOW data_checksums') eq 'on')
{
	$node->stop;
	command_ok([ 'pg_checksums', '--disable', '-D', $node->data_dir ], 'no checksums');
	$node->start;
}

$node->safe_psql(
	'postgres', q(
CREATE EXTENSION spfresh CASCADE;
CREATE TABLE base (id int, v vector(20));
SELECT setseed(0.5);
INSERT INTO base SELECT i, ARRAY(SELECT (i % 25) * sin(d * (i % 25)) + random()
	FROM generate_series(1, 20) d WHERE i > 0)::vector FROM generate_series(1, 2400) i;
-- one vector with so many rows that they need pages of their own
INSERT INTO base SELECT 10000 + i, (SELECT v FROM base WHERE id = 7)
	FROM generate_series(1, 900) i;

-- Is an answer one?  Rows once each, in order, within the predicate.
CREATE FUNCTION judge(query text, ordered bool) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record; last float8 := '-infinity'; n int := 0; seen tid[] := '{}'; ids int[] := '{}';
BEGIN
	FOR r IN EXECUTE query LOOP
		IF ordered AND r.d < last THEN
			RETURN format('WRONG: %s comes after %s', r.d, last);
		END IF;
		IF r.id % 7 = 0 THEN
			RETURN format('WRONG: row %s is not of the index', r.id);
		END IF;
		last := r.d;
		n := n + 1;
		seen := seen || r.ctid;
	END LOOP;
	IF n <> (SELECT count(DISTINCT t) FROM unnest(seen) t) THEN
		RETURN 'WRONG: a row comes twice';
	END IF;
	RETURN 'rows ' || n;
END $$;
));

# All that is done with a damaged index.  Each statement on its own: it may fail.
sub statements
{
	my ($t) = @_;
	my $point = "(SELECT v FROM base WHERE id = 40)";
	my $query =
	  "SELECT ctid, id, v <-> $point AS d FROM $t WHERE id % 7 <> 0 ORDER BY v <-> $point";
	my @reads = (
		"SELECT judge('$query LIMIT 20', true)",
		"SET spfresh.nprobe = 1000",
		"SELECT judge('$query LIMIT 100', true)",
		"RESET spfresh.nprobe",
		"SELECT judge('$query', true)",
		"SET spfresh.iterative_scan = relaxed_order",
		"SELECT judge('$query', false)",
		"SET spfresh.rerank = off",
		"SELECT judge('$query LIMIT 50', false)",
		"RESET spfresh.rerank",
		"RESET spfresh.iterative_scan");
	my $check = "SELECT 'checked', index_rows FROM spfresh_check('${t}_v')";
	return (
		"SET enable_seqscan = off",
		"SET client_min_messages = warning",
		@reads,

		# what passes the check must find every row
		"$check \\gset c_",
		"\\if :{?c_index_rows}",
		"SET spfresh.nprobe = 100000",
		"SET spfresh.max_scan_tuples = 1000000",
		"SELECT 'passed', judge('$query', true) = 'rows ' ||
			(SELECT count(*) FROM base WHERE id % 7 <> 0)",
		"RESET spfresh.nprobe",
		"RESET spfresh.max_scan_tuples",
		"\\endif",
		"SELECT 'stats', entries >= 0 FROM spfresh_stats('${t}_v')",
		"SELECT 'postings', count(*) >= 0 FROM spfresh_postings('${t}_v')",
		"INSERT INTO $t SELECT id + 100000, v FROM base WHERE id % 24 = 1",
		"INSERT INTO $t SELECT id + 200000, v FROM base WHERE id % 12 = 1 AND id < 2000",
		"INSERT INTO $t SELECT id + 300000, v FROM base WHERE id = 7",
		"UPDATE $t SET id = id + 1 WHERE id % 70 = 2",
		"DELETE FROM $t WHERE id % 4 = 3",
		"VACUUM (INDEX_CLEANUP on) $t",
		@reads,
		"$check",
		"INSERT INTO $t SELECT id + 400000, v FROM base WHERE id % 9 = 1",
		"VACUUM (INDEX_CLEANUP on) $t",
		"SELECT judge('$query LIMIT 20', true)",

		# and there is a way out
		"REINDEX INDEX ${t}_v",
		"SELECT 'healed', compared_rows FROM spfresh_check('${t}_v')");
}

my %counted;

# Damage, use, judge one table
sub try_table
{
	my ($t, $what) = @_;
	my ($out, $err) = ('', '');
	my $script = join(";\n", statements($t)) . ";\n";
	$script =~ s/^(\\[ei]\w+.*);$/$1/mg;
	$script =~ s/(\\gset c_);$/$1/mg;
	my $rc = $node->psql('postgres', "\\set VERBOSITY verbose\n$script",
		stdout => \$out, stderr => \$err, on_error_stop => 0, timeout => 180);

	my @bad;
	push @bad, "psql ended with $rc" if $rc != 0;
	push @bad, $1 while $out =~ /(WRONG.*)/g;
	push @bad, "passed the check, but does not find every row" if $out =~ /^passed\|f/m;
	while ($err =~ /(?:ERROR|FATAL|PANIC|WARNING): +(\w{5}): (.*)/g)
	{
		my ($code, $message) = ($1, $2);
		# PostgreSQL's own look at a page header comes before ours
		next if $code eq 'XX001' && $message =~ /^invalid page in block/;
		if ($code eq 'XX002') { $counted{errors}++; next; }
		push @bad, "$code: $message";
	}
	push @bad, "not healed by REINDEX" if $out !~ /^healed\|/m;
	push @bad, $1 if $err =~ /(server closed the connection.*)/;
	$counted{passed}++ if $out =~ /^passed\|t/m;
	ok(!@bad, "$t: $what") or diag(join("\n", @bad), "\n$err");
	return !@bad;
}

my @kinds = sort keys %damage;
my $done = 0;
my $started = time;
foreach my $round (1 .. $rounds)
{
	my %path;

	# on a slow machine one round must do
	last if $round > 1 && time - $started > 40 && !$ENV{SPFRESH_ROUNDS};
	foreach my $i (1 .. $per_round)
	{
		my $t = "t${round}_$i";
		# every third has a history: free and retired pages, stale entries
		my $history = $i % 3 ? '' : "
			INSERT INTO $t SELECT id + 50000, v FROM base WHERE id % 3 = 1;
			DELETE FROM $t WHERE id > 50000 AND id < 60000 OR id > 60000;
			VACUUM (INDEX_CLEANUP on) $t;
			INSERT INTO $t SELECT id + 50000, v FROM base WHERE id % 5 = 1;
			DELETE FROM $t WHERE id > 50000;";
		$node->safe_psql(
			'postgres', "
			CREATE TABLE $t WITH (autovacuum_enabled = off) AS SELECT * FROM base;
			CREATE INDEX ${t}_v ON $t USING spfresh (v) WITH (split_limit = 24) WHERE id % 7 <> 0;
			$history");
		$path{$t} = $node->data_dir . '/'
		  . $node->safe_psql('postgres', "SELECT pg_relation_filepath('${t}_v')");
	}
	$node->stop;
	my %what;
	foreach my $i (1 .. $per_round)
	{
		my $t = "t${round}_$i";
		$what{$t} = damage_file($path{$t}, $kinds[ $done++ % @kinds ]);
	}
	$node->start;
	foreach my $i (1 .. $per_round)
	{
		my $t = "t${round}_$i";
		next if try_table($t, $what{$t});
		# after a crash the others are still to be seen
		$node->poll_query_until('postgres', 'SELECT true');
	}
}

# An index of another version, or one that is none: what to do about it is said.
my $path = $node->data_dir . '/'
  . $node->safe_psql('postgres', "SELECT pg_relation_filepath('t1_1_v')");
foreach my $case ([ 28, pack('L', 99), qr/index "t1_1_v" has format version 99/ ],
	[ 24, pack('L', 99), qr/The meta page is not one of spfresh/ ],
	[ 40, pack('S', 21), qr/The meta page's checksum is wrong/ ])
{
	my ($at, $bytes, $expected) = @$case;
	my ($err, $before) = ('', '');
	$node->stop;
	open(my $file, '+<:raw', $path) or die "$path: $!";
	sysseek($file, $at, 0);
	sysread($file, $before, length $bytes);
	sysseek($file, $at, 0);
	syswrite($file, $bytes);
	close($file);
	$node->start;
	$node->psql('postgres',
		"\\set VERBOSITY verbose
		SELECT id FROM t1_1 WHERE id % 7 <> 0 ORDER BY v <-> (SELECT v FROM base LIMIT 1)",
		stderr => \$err);
	ok($err =~ /XX002/ && $err =~ $expected && $err =~ /HINT:  Please REINDEX it/,
		"meta page: $expected")
	  or diag($err);
	$node->stop;
	open($file, '+<:raw', $path) or die "$path: $!";
	sysseek($file, $at, 0);
	syswrite($file, $before);
	close($file);
	$node->start;
}

note("$counted{errors} times index corruption was reported, "
	  . ($counted{passed} || 0) . " indexes passed the check");
ok($counted{errors} > $done, 'damage was found');

$node->stop;
done_testing();
