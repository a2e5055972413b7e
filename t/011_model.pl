# Thousands of random steps, each done to a table and to a hash in Perl: after every few of them
# an exhaustive scan of the index gives what is in the hash, and the verifier has nothing to say.
#
# The seed is fixed; SPFRESH_MODEL_SEED and SPFRESH_MODEL_STEPS give others.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use List::Util qw(max min shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SpfreshTest;
use Test::More;

my $seed = $ENV{SPFRESH_MODEL_SEED} // 20261120;
my $steps = $ENV{SPFRESH_MODEL_STEPS} // 1500;
my $batch = 60;

srand($seed);
note("SPFRESH_MODEL_SEED=$seed SPFRESH_MODEL_STEPS=$steps");

my $node = new_server('model');
$node->start;
add_functions($node);

# Every update makes new index entries: n is indexed too.  One index is kept in order by L2,
# one by cosine, with other shapes.  To truncate the table VACUUM would wait for cursors.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE items (id int, n int DEFAULT 0, k int, v vector(8)) WITH (vacuum_truncate = off);
CREATE INDEX items_id ON items (id);
CREATE INDEX items_n ON items (n);
CREATE INDEX items_v ON items USING spfresh (v) WITH (split_limit = 24);
CREATE INDEX items_c ON items USING spfresh (v vector_cosine_ops)
	WITH (split_limit = 40, merge_limit = 12, replicas = 1, reassign_range = 4, code_bits = 1);
SQL
my %operator = (items_v => '<->', items_c => '<=>');

my @modes = qw(inline background vacuum);
my @exhaustive = $SpfreshTest::exhaustive_settings =~ /SET ([^;]+)/g;

# ---------------------------------------------------------------- sessions

my ($writer, $reader, $cursor);
my $mode = $modes[0];

sub connect_all
{
	$writer = open_session($node, @exhaustive, "spfresh.rebalance = $mode");
	$reader = open_session($node, @exhaustive);
	undef $cursor;
}
connect_all();

sub sql { return ask($writer, join '', @_) }

# ---------------------------------------------------------------- the model

my %rows;					# id => the number of its vector
my $next_id = 1;
my $drift = 0;				# where new vectors are: moves on all the time
my %count;
my %reached = (levels => 0, shrunk => 0);
my $crashed = 0;			# since the last vacuum

# A vector that no other row has, mostly; from clusters that come and go.
sub new_k
{
	$drift++;
	return int(rand 40) if rand() < 0.1;
	return 1000 * int($drift / 300) + int(rand 1000);
}

# The clusters of point(), 40 of them, are moved along by the drift.
sub vector { return "(point($_[0], 8) + point(-1 - $_[0] / 1000, 8))" }

sub some_ids
{
	my ($n) = @_;
	my @ids = keys %rows;

	return () if !@ids;
	@ids = sort { $a <=> $b } @ids;
	# neighbours in age, or just any
	if (rand() < 0.5)
	{
		my $at = int rand @ids;
		return @ids[ $at .. min($at + $n - 1, $#ids) ];
	}
	my %chosen = map { $ids[ int rand @ids ] => 1 } 1 .. $n;
	return sort { $a <=> $b } keys %chosen;
}

# One change: its SQL, and what it does to the rows given.
sub change
{
	my ($rows) = @_;
	my $dice = rand;
	my $full = keys %rows > 1800;

	if ($dice < ($full ? 0.2 : 0.45))
	{
		my $n = rand() < 0.6 ? 1 : 1 + int rand 60;
		my @new = map { [ $next_id++, new_k() ] } 1 .. $n;

		$count{insert}++;
		$rows->{ $_->[0] } = $_->[1] foreach @new;
		return 'INSERT INTO items (id, k, v) SELECT id, k, ' . vector('k') . ' FROM (VALUES '
		  . join(', ', map { "($_->[0], $_->[1])" } @new) . ') x (id, k)';
	}
	my @ids = grep { exists $rows->{$_} } some_ids($dice < 0.8 ? 1 + int rand 12 : 1 + int rand 60);
	my $list = join ', ', @ids, 0;

	if ($dice < 0.6)
	{
		my $k = new_k();

		$count{'update of the vector'}++;
		$rows->{$_} = $k + $_ % 3 foreach @ids;
		return "UPDATE items SET k = $k + id % 3, v = " . vector("($k + id % 3)") . " WHERE id IN ($list)";
	}
	if ($dice < 0.7)
	{
		$count{'update of another column'}++;
		return "UPDATE items SET n = n + 1 WHERE id IN ($list)";
	}
	if ($dice < 0.985)
	{
		$count{delete}++;
		delete @$rows{@ids};
		return "DELETE FROM items WHERE id IN ($list)";
	}

	# a region is emptied
	my @gone = grep { $rows->{$_} % 40 < 8 } keys %$rows;
	$count{'delete of a region'}++;
	delete @$rows{@gone};
	return 'DELETE FROM items WHERE k % 40 < 8';
}

# ---------------------------------------------------------------- steps

sub plain
{
	my %new = %rows;

	sql(change(\%new));
	%rows = %new;
}

sub transaction
{
	my %new = %rows;

	sql('BEGIN');
	sql(change(\%new)) for 1 .. 1 + int rand 3;
	if (rand() < 0.6)
	{
		my %inner = %new;

		$count{'rollback to savepoint'}++;
		sql('SAVEPOINT s');
		sql(change(\%inner)) for 1 .. 2;
		sql('ROLLBACK TO s');
		sql(change(\%new));
	}
	if (rand() < 0.4)
	{
		$count{rollback}++;
		sql('ROLLBACK');
		return;
	}
	sql('COMMIT');
	%rows = %new;
}

sub vacuum
{
	$count{vacuum}++;
	sql('VACUUM items');
}

sub rebalance
{
	my $index = rand() < 0.5 ? 'items_v' : 'items_c';
	my %done;

	$count{spfresh_rebalance}++;
	@done{qw(reassigned merged reclustered)} = split /\|/,
	  sql("SELECT reassigned_vectors, merged_postings, reclustered_regions FROM spfresh_rebalance('$index')");
	$reached{$_} += $done{$_} foreach keys %done;
}

# A scan that begins now gives what there is now, however late it is read.
sub scan
{
	if ($cursor)
	{
		my $given = ask($reader, 'FETCH ALL FROM c');
		my %given = map { split /\|/ } split(/\n/, $cursor->{begun}), split(/\n/, $given);

		ask($reader, 'COMMIT');
		is_model(\%given, $cursor->{rows}, "a cursor of $cursor->{index}");
		undef $cursor;
		return;
	}
	my $index = rand() < 0.5 ? 'items_v' : 'items_c';
	my $q = new_k();

	$count{cursor}++;
	ask($reader, 'BEGIN ISOLATION LEVEL ' . (rand() < 0.5 ? 'REPEATABLE READ' : 'READ COMMITTED'));
	ask($reader, "DECLARE c CURSOR FOR SELECT id, k FROM items ORDER BY v $operator{$index} point($q, 8)");
	$cursor = {
		rows => {%rows},
		index => $index,
		begun => ask($reader, 'FETCH ' . int(rand 30) . ' FROM c') };
}

sub restart
{
	$node->stop('immediate') if $node->{_pid};
	$node->start;
	close_session($_) foreach $writer, $reader;
	connect_all();
	$crashed = 1;
}

sub crash
{
	my $how = rand;

	if ($how < 0.5)
	{
		$count{crash}++;
	}
	else
	{
		# amid a transaction
		my %lost = %rows;

		$count{'crash in a transaction'}++;
		sql('BEGIN');
		sql(change(\%lost)) for 1 .. 3;
	}
	restart();
}

sub step
{
	my $dice = rand;

	if ($dice < 0.75) { plain() }
	elsif ($dice < 0.88) { transaction() }
	elsif ($dice < 0.915) { vacuum() }
	elsif ($dice < 0.945) { rebalance() }
	elsif ($dice < 0.995) { scan() }
	else { crash() }
}

# ---------------------------------------------------------------- comparing

my $wrong = 0;

sub is_model
{
	my ($given, $rows, $name) = @_;
	my @missing = grep { !exists $given->{$_} } keys %$rows;
	my @extra = grep { !exists $rows->{$_} } keys %$given;
	my @other = grep { exists $given->{$_} && $given->{$_} != $rows->{$_} } keys %$rows;

	return if !@missing && !@extra && !@other;
	$wrong++;
	diag("$name: missing @missing[0 .. min(9, $#missing)]; too many @extra[0 .. min(9, $#extra)]; "
		  . "other vectors @other[0 .. min(9, $#other)] (of " . @missing . ', ' . @extra . ', ' . @other . ')');
}

sub compare
{
	my ($at) = @_;

	foreach my $index (sort keys %operator)
	{
		my $q = new_k();
		my @given = split /\n/,
		  sql("SELECT id, k FROM items ORDER BY v $operator{$index} point($q, 8)");
		my %given = map { split /\|/ } @given;

		if (@given != keys %given)
		{
			$wrong++;
			diag("step $at: rows twice by $index");
		}
		is_model(\%given, \%rows, "step $at: $index");

		my ($pages, $records) = split /\|/,
		  sql("SELECT unreachable_pages, unreachable_records FROM spfresh_check('$index')");
		if (!$crashed && ($pages || $records))
		{
			$wrong++;
			diag("step $at: $index has $pages pages and $records records that nothing leads to");
		}
	}
	my $levels = sql("SELECT levels FROM spfresh_stats('items_v')");
	$reached{levels} = max($reached{levels}, $levels);
	$reached{shrunk}++ if $levels < $reached{last_levels} // 0;
	$reached{last_levels} = $levels;
}

# What a crash left is gone after vacuum: what nobody leads to is retired by one, and freed by another.
sub clean_up
{
	my ($at) = @_;

	sql('VACUUM items') for 1 .. 3;
	$crashed = 0;
	compare("$at (vacuumed)");
}

ok( sql("EXPLAIN SELECT id FROM items ORDER BY v $operator{$_} point(1, 8)") =~ /Index Scan using $_/,
	"$_ is what is compared") foreach sort keys %operator;

my $at = 0;
eval {
	while ($at < $steps && !$wrong)
	{
		# now and then all goes, and comes again
		if ($at % 700 == 600)
		{
			sql('DELETE FROM items');
			%rows = ();
		}
		if ($at % 200 == 0)
		{
			$mode = $modes[ $at / 200 % @modes ];
			sql("SET spfresh.rebalance = $mode");
			clean_up($at) if $crashed;
		}
		step();
		compare($at) if ++$at % $batch == 0;
	}
	1;
} or do {
	$wrong++;
	diag("step $at ($mode): $@");
};
is($wrong, 0, "$at steps: indexes and model agree");
note(join ', ', map { "$_: $count{$_}" } sort keys %count);
note(keys(%rows) . ' rows');

# ---------------------------------------------------------------- the end of it

SKIP:
{
	skip 'it went wrong before', 1 if $wrong;

	if ($cursor) { scan() }
	clean_up('last');
	my $stats = sql("SELECT to_jsonb(s) FROM spfresh_stats('items_v') s");
	note($stats);

	# all of it happened
	cmp_ok($reached{levels}, '>=', 3, 'the index grew to three levels');
	cmp_ok($reached{shrunk}, '>', 0, 'it lost levels, too');
	cmp_ok(sql("SELECT splits FROM spfresh_stats('items_v')"), '>', 100, 'there were splits');
	cmp_ok($reached{$_}, '>', 0, "there was something $_") foreach qw(reassigned merged reclustered);

	sql('DELETE FROM items');
	%rows = ();
	foreach my $index (sort keys %operator)
	{
		my ($levels, $left);

		for (1 .. 6)
		{
			# what was retired goes when a transaction that began later has ended
			sql('SELECT txid_current()');
			sql('VACUUM items');
			$left = sql("SELECT left_items FROM spfresh_rebalance('$index')");
			$levels = sql("SELECT levels FROM spfresh_stats('$index')");
			last if $levels == 1 && $left == 0;
		}
		is("$levels $left", '1 0', "$index: one level is left when all rows are gone, and nothing to do");
		is(sql("SELECT postings, entries, records, retired_postings FROM spfresh_stats('$index')"),
			'1|0|0|0', "$index: one empty posting");
	}
	compare('empty');

	# and it is as good as new
	sql('INSERT INTO items (id, k, v) SELECT i, i, ' . vector('i') . ' FROM generate_series(1, 500) i');
	%rows = map { $_ => $_ } 1 .. 500;
	compare('filled again');
	is($wrong, 0, 'indexes and model agree in the end');
}

log_has_no_crash($node, 'model');
$node->stop;
done_testing();
