#!/bin/sh
# A cron job that never piles up and never leaves half a report. It gives way to a run that is still busy. It leaves the
# report alone when its command fails, and does not touch it when nothing has changed.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

report() {
    code=0
    awrite --no-wait --if-changed --mkdir "$dir/reports/root.txt" -- "$@" || code=$?
    case $code in
        2) echo 'the previous run is still busy' ;; # the lock is held: not an error for a cron job
        *) return "$code" ;;
    esac
}

report ls /
before=$(ls -i "$dir/reports/root.txt")
report ls /
[ "$(ls -i "$dir/reports/root.txt")" = "$before" ] # the same inode: whatever watches the file was not woken

if report ls /does-not-exist; then exit 1; fi
[ "$(ls -i "$dir/reports/root.txt")" = "$before" ]

# A run that stays busy: it reads a pipe that nobody has written to yet.
mkfifo "$dir/slow"
report cat "$dir/slow" &
while awrite-lock --status "$dir/reports/root.txt" >/dev/null; do
    kill -0 $! # a run that has ended would leave us here for ever
    sleep 0.01
done
[ "$(report ls /)" = 'the previous run is still busy' ]
echo 'the slow report' >"$dir/slow"
wait $!
cat "$dir/reports/root.txt"
