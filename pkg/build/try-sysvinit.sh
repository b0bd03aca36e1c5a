#!/usr/bin/env bash
# try-sysvinit.sh [DIR]: tries pkg/sysvinit/guarded-daemon: two starts, stop, kill. Linux only. The awrite that it uses is
# in DIR, or else built in this tree (target/release, target/debug), or else on PATH.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
find_applets "${1:+$(cd "$OLDPWD" && realpath "$1")}"

init=$scratch/init.d/sleeper
mkdir -p "$scratch/init.d" "$scratch/default"
sed -e "s|/etc/default|$scratch/default|" -e "s|^PATH=|PATH=$applets:|" \
    pkg/sysvinit/guarded-daemon >"$init"
chmod +x "$init"
# The daemon writes down its process ID, and becomes a process that SIGTERM ends.
# shellcheck disable=SC2016
printf '#!/bin/sh\necho $$ >>%s\nexec sleep 1000\n' "$scratch/started" >"$scratch/daemon"
chmod +x "$scratch/daemon"
printf 'DAEMON=%s\nLOCK=%s\nLOG=%s\n' "$scratch/daemon" "$scratch/lock" "$scratch/log" >"$scratch/default/sleeper"

starts() { wc -l <"$scratch/started"; }
daemon() { tail -n 1 "$scratch/started"; }
gone() {
    local tries=100
    while kill -0 "$1" 2>/dev/null; do
        [ $((tries -= 1)) -gt 0 ] || die "process $1 is still there"
        sleep 0.1
    done
}
trap 'kill "$(daemon)" 2>/dev/null || true; rm -rf "$scratch"' EXIT
# expect STATUS ARG
expect() {
    local status=0
    "$init" "$2" || status=$?
    [ "$status" = "$1" ] || die "$2 ended with $status, not $1; log: $(cat "$scratch/log")"
}

expect 3 status
expect 0 stop
expect 0 start
expect 0 status
say "a second start finds the first"
expect 0 start
[ "$(starts)" = 1 ]
say "of ten starts at once, after a stop, one starts"
expect 0 stop
gone "$(daemon)"
[ ! -e "$scratch/lock.lock" ] || die "the lock file has stayed"
expect 3 status
starters=()
for _ in 1 2 3 4 5 6 7 8 9 10; do
    "$init" start >/dev/null &
    starters+=($!)
done
for starter in "${starters[@]}"; do wait "$starter"; done
[ "$(starts)" = 2 ] || die "$(starts) starts"
say "killed, it leaves nothing that stops the next"
kill -KILL "$(daemon)"
gone "$(daemon)"
expect 3 status
expect 0 start
[ "$(starts)" = 3 ]
expect 0 restart
[ "$(starts)" = 4 ]
expect 0 stop
say "what is not there is not started"
echo DAEMON=/nowhere >>"$scratch/default/sleeper"
expect 5 start
expect 3 status
