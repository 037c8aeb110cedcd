#!/usr/bin/perl
# A job for the benchmark: builds a concordance (each word, the places where
# it stands) of a text made on the spot, sorts it and throws half of it away
# again. Many small strings, hashes and arrays that grow, as scripts do.
# usage: perl words.pl [WORDS]
use strict;
use warnings;

my $count = $ARGV[0] // 400_000;
my @syllables = qw(ka ro mi ta nel sho ver du lin gra pe os tri un ba fel);
my $state = 42;

sub random {    # the same on every machine
    $state = ($state * 1103515245 + 12345) % 2147483648;
    return int($state / 2147483648 * $_[0]);
}

my (%places, %by_length);
for my $position (1 .. $count) {
    my $word = join '', map { $syllables[random(16)] } 0 .. random(6);
    push @{ $places{$word} }, $position;
}
for my $word (sort keys %places) {
    my $line = "$word: " . join(', ', @{ $places{$word} });
    push @{ $by_length{ length $line } }, $line;
}
delete $places{$_} for grep { @{ $places{$_} } % 2 } sort keys %places;

my $sum = 0;
$sum += $_ * @{ $by_length{$_} } for sort { $a <=> $b } keys %by_length;
printf "%d words, %d lengths of line, %d left, check %d\n", $count, scalar keys %by_length,
    scalar keys %places, $sum;
