#!/bin/sh
# Read-modify-write without lost updates: twenty processes add one to the same file at once.
#
# `awrite FILE -- COMMAND` takes the lock before COMMAND reads the old content, and keeps it until the new content is in
# place. `expr "$(cat n)" + 1 | awrite n` would lose updates: cat reads before awrite locks.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

echo 0 | awrite n
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    # shellcheck disable=SC2016 # the inner shell is to expand it
    awrite --quiet n -- sh -c 'read -r n; echo $((n + 1))' &
done
wait

cat n
[ "$(cat n)" = 20 ]
[ "$(ls -A)" = n ] # no lock file, no temporary file
