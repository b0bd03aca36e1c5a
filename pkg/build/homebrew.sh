#!/usr/bin/env bash
# Lets Ruby read pkg/homebrew/awrite.rb, and checks that the files it names exist. Homebrew itself needs a Mac, or an
# installation that only its own servers have.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
need ruby ruby

copy_source "$scratch/awrite-$version"
pack "awrite-$version" "$scratch/awrite-$version.tar.gz"
fill pkg/homebrew/awrite.rb "$scratch/awrite.rb" "$scratch/awrite-$version.tar.gz"
ruby -wc "$scratch/awrite.rb"
# A formula is a Ruby class. With stand-ins for what it calls, its install step runs and prints what it would do.
ruby - "$scratch/awrite.rb" <<'EOF'
class Place
  def initialize(name) = @name = name
  def install(*what)
    what.flatten.flat_map { |w| w.is_a?(Hash) ? w.keys : [w] }.each { |w| File.exist?(w) or abort "#{w} is not there" }
    puts "#{@name}: #{what.flatten.join(" ")}"
  end
  def install_symlink(links) = puts("#{@name}: #{links}")
end
class Formula
  %i[desc homepage url sha256 license depends_on test].each { |word| define_singleton_method(word) { |*_, &_| } }
  %i[bin man1 man7 bash_completion zsh_completion fish_completion].each { |p| define_method(p) { Place.new(p) } }
  def std_cargo_args = %w[--locked --root=PREFIX --path=.]
  def system(*command) = puts(command.join(" "))
end
load ARGV[0]
Awrite.new.install
EOF
