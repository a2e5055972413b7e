# A backend is killed, or fails, between any two changes of a split, a reassignment, a merge, a
# reclustering: nothing committed is lost, the rest is done later, and what was left behind is freed.
#
# The points are in the sources (src/fault.h), in builds with assertions only.  Each of
# them must have been reached: one that is not is a failure, as is one that is not listed here.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SpfreshTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_server('faults');
$node->append_conf('postgresql.conf', <<'CONF');
restart_after_crash = on
spfresh.rebalance = vacuum
CONF
$node->start;
add_functions($node);

if ($node->psql('postgres', "LOAD 'spfresh'; SHOW spfresh.fault_point", on_error_stop => 1) != 0)
{
	$node->stop;
	plan skip_all => 'this server has no assertions, so the library has no fault points';
}

# ---------------------------------------------------------------- what is interrupted

# What there is at first, what is done to it, and the points on the way, after how
# many passages: several where later ones are different.
my %scenarios = (
	# from one posting to three levels, row by row
	insert => {
		base => 'SELECT 1',
		run => [ 'DO $$ BEGIN FOR i IN 1 .. 450 LOOP INSERT INTO items SELECT i, point(i, 4); COMMIT; END LOOP; END $$' ],
		points => {
			'record stored' => [100],
			'insert 0 entry placed' => [ 200, 201 ],
			'insert 1 entry placed' => [ 0, 41 ],
			steps('root split 0', 'part written', 'centroid stored', 'centroid told', 'new root written',
				'switched over', 'done'),
			steps('root split 1', 'part written', 'centroid placed', 'new root written', 'switched over', 'done'),
			steps('split 0', 'part written', 'centroid stored', 'centroid told', 'centroid placed',
				'switched over', 'old centroid superseded', 'done'),
			steps('split 1', 'part written', 'centroid stored', 'centroid told', 'centroid placed',
				'switched over', 'old centroid superseded', 'done'),
			'split 0 part written' => [ 0, 3 ],
			'split 0 centroid told' => [ 0, 3 ],
			'split 0 centroid placed' => [ 0, 3 ] } },

	# everything that is due after many changes: rows went, others came
	vacuum => {
		base => 'INSERT INTO items SELECT i, point(i, 4) FROM generate_series(1, 600) i; '
		  . 'DELETE FROM items WHERE id % 40 < 25 AND id % 7 > 0; '
		  . 'INSERT INTO items SELECT i, point(i / 40 * 40 + i % 10, 4) FROM generate_series(601, 750) i',
		run => [ ('VACUUM items', 'SELECT txid_current()') x 2 ],
		points => {
			'reassign 0 entry moved' => [ 0, 5 ],
			steps('reassign 0', 'entries moved', 'entries superseded'),
			'neighbours looked at' => [ 0, 3 ],
			'item done' => [ 0, 30 ],
			'page swept' => [0],
			'merge 0 member placed' => [ 0, 2 ],
			steps('merge 0', 'switched over', 'old centroid superseded', 'done'),
			steps('recluster 0', 'centroid stored', 'centroid told', 'done'),
			'recluster 0 part written' => [ 0, 1 ],
			'recluster 0 centroid placed' => [ 0, 1 ],
			'recluster 0 switched over' => [ 0, 4 ],
			'recluster 0 old centroid superseded' => [ 0, 4 ] } },

	# what was retired, without vacuum
	free => {
		base => 'INSERT INTO items SELECT i, point(i, 4) FROM generate_series(1, 450) i',
		run => [ 'SELECT txid_current()', "SELECT count(*) FROM spfresh_rebalance('items_v')" ],
		points => { 'centroid forgotten' => [ 0, 7 ] } },

	# levels that are not needed any more
	shrink => {
		base => 'INSERT INTO items SELECT i, point(i, 4) FROM generate_series(1, 450) i; '
		  . 'DELETE FROM items WHERE id % 50 > 0',
		run => [ ('VACUUM items', 'SELECT txid_current()') x 3 ],
		points => {
			steps('union 0', 'part written', 'centroid stored', 'centroid told', 'centroid placed',
				'switched over', 'old centroid superseded', 'done'),
			steps('shrinking 0', 'part written', 'switched over', 'done') } });

sub steps
{
	my ($of, @steps) = @_;
	return map { ("$of $_" => [0]) } @steps;
}

# ---------------------------------------------------------------- how

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE items (id int, v vector(4));
CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 12, merge_limit = 6);
SQL

# Run commands, each a transaction of its own, until one fails: the error, if any.
sub run
{
	my $err = '';

	IPC::Run::run(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), map { ('-c', $_) } @_ ],
		'<', \undef, '>', \my $out, '2>', \$err);
	return $err;
}

my $look = <<'SQL';
SELECT (SELECT coalesce(d, '') FROM differences('items', point(1, 4)) d),
	unreachable_pages || ' ' || unreachable_records FROM spfresh_check('items_v')
SQL

# Is all of the table in the index, and only that?  What is wrong, and what nothing leads to.
sub look
{
	my ($out, $err) = ('', '');

	$node->psql('postgres', $look, stdout => \$out, stderr => \$err);
	my ($differences, $unreachable) = split /\|/, $out;
	return ($err . ($differences // ''), $unreachable // 'none');
}

sub go_on
{
	my ($what) = @_;
	my ($fault, $left) = look();
	my $unreachable = $left;
	my @faults;

	push @faults, "at once: $fault" if $fault ne '';
	$fault = run("SELECT count(*) FROM spfresh_rebalance('items_v')");
	($fault, $left) = look() if $fault eq '';
	push @faults, "rebalanced: $fault" if $fault ne '';

	# it is worked on as before; one vacuum retires what nothing leads to, another frees it
	$fault = run(
		'INSERT INTO items SELECT -i, point(i * 3, 4) FROM generate_series(1, 50) i',
		'DELETE FROM items WHERE id % 3 = 0',
		('VACUUM items', 'SELECT txid_current()') x 2);
	($fault, $left) = look() if $fault eq '';
	push @faults, "vacuumed: $fault" if $fault ne '';
	push @faults, "after vacuum, pages and records that nothing leads to: $left" if $left ne '0 0';
	is(join("\n", @faults), '', "$what: nothing lost");
	note("pages and records that nothing led to: $unreachable") if $unreachable ne '0 0';
}

my %reached;

sub interrupt
{
	my ($name, $point, $passages, $how) = @_;
	my $what = "$name, $how at \"$point\" ($passages)";
	my $from = log_end($node);
	my $err = run('TRUNCATE items', $scenarios{$name}{base}, "SET spfresh.fault_point = '$point:$passages:$how'",
		@{ $scenarios{$name}{run} });

	$reached{$point} = 1;
	if ($how eq 'kill' && $err =~ /server closed the connection|connection to server was lost/)
	{
		await_restart($node, $from);
	}
	elsif ($how eq 'kill' || $err !~ /fault point "\Q$point\E" was reached/)
	{
		fail("$what: was reached");
		diag($err) if $err ne '';
		return;
	}
	go_on($what);
}

foreach my $name (sort keys %scenarios)
{
	my $points = $scenarios{$name}{points};

	foreach my $point (sort keys %$points)
	{
		foreach my $passages (@{ $points->{$point} })
		{
			interrupt($name, $point, $passages, 'kill');
			interrupt($name, $point, $passages, 'error') if $passages == $points->{$point}[0];
		}
	}
}

# ---------------------------------------------------------------- a background worker

foreach my $how ('error', 'kill')
{
	my $from = log_end($node);
	my $sign = $how eq 'kill' ? qr/was terminated by signal 9/ : qr/fault point "worker step" was reached/;
	my $log = '';

	run('TRUNCATE items', "ALTER DATABASE postgres SET spfresh.fault_point = 'worker step:5:$how'");
	run('SET spfresh.rebalance = background',
		'INSERT INTO items SELECT i, point(i, 4) FROM generate_series(1, 450) i');
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$log = substr(slurp_file($node->logfile), $from);
		last if $log =~ $sign;
		usleep(100_000);
	}
	await_restart($node, $from) if $how eq 'kill';
	run('ALTER DATABASE postgres RESET spfresh.fault_point');
	like($log, $sign, "worker, $how: was reached");
	go_on("worker, $how");
}
$reached{'worker step'} = 1;

# ---------------------------------------------------------------- none was forgotten

my $sources = "$FindBin::RealBin/../src";
SKIP:
{
	skip 'the sources are elsewhere', 1 if !-d $sources;
	my @missing;

	foreach my $file (glob "$sources/*.c")
	{
		my $text = slurp_file($file);

		push @missing, grep { !$reached{$_} } $text =~ /spf_fault_point\("([^"]+)"\)/g;
		foreach my $step ($text =~ /spf_fault_point_of\([^;]*"([^"]+)"\);/g)
		{
			push @missing, $step if !grep { /\d \Q$step\E$/ } keys %reached;
		}
	}
	is(join(', ', @missing), '', 'every fault point there is was reached');
}

my @bad = grep { /TRAP: |PANIC: / } split /\n/, slurp_file($node->logfile);
is(scalar(@bad), 0, 'nothing but what was killed crashed') or diag(join "\n", @bad);

$node->stop;
done_testing();
