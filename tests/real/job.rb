# A job for tests/test_real_programs.sh: strings, hashes, threads, a collection of
# garbage, and children that fail.
# usage: ruby job.rb ROUNDS
require 'digest'

rounds = ARGV[0].to_i
words = Hash.new { |hash, key| hash[key] = +'' }
rounds.times { |i| words["w#{i * 7919 % 1009}"] << i.to_s << ',' }
text = words.sort.map { |word, places| "#{word} #{places}" }.join("\n")
puts "#{words.size} #{text.length} #{Digest::MD5.hexdigest(text)}"
sums = 4.times.map do |n|
  Thread.new { (0...rounds / 4).sum { |i| ('x' * ((i * 37 + n) % 500)).length } }
end
puts sums.map(&:value).inspect
GC.start
puts text.scan(/w(\d+) /).length
$stdout.flush
puts "child #{system('/bin/false').inspect}"
Process.wait(fork { exit!(9) })
puts "child #{$?.exitstatus}"
exit 4
