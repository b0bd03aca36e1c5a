#!/usr/bin/env bash
# smoke.sh DIR [RUNNER...]: tries the commands in DIR, in a new directory. RUNNER (for example qemu-aarch64-static)
# starts each. The first failure ends the script.
set -euo pipefail
case ${1:-} in
    "" | -h | --help)
        sed -n 's/^# \(smoke\.sh .*\)/\1/p' "$0" >&2
        exit 1
        ;;
esac
bin=$(realpath "$1")
shift
runner=("$@")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

awrite() { "${runner[@]}" "$bin/awrite" "$@"; }
lock() { "${runner[@]}" "$bin/awrite-lock" "$@"; }
housekeep() { "${runner[@]}" "$bin/awrite-housekeep" "$@"; }
# is FILE CONTENT
is() { [ "$(cat "$1")" = "$2" ] || { echo "Error: $1 is \"$(cat "$1")\", not \"$2\"" >&2; exit 1; }; }
# fails STATUS COMMAND...
fails() {
    local status=0 expected=$1
    shift
    "$@" 2>err || status=$?
    [ "$status" = "$expected" ] || { echo "Error: $* ended with $status, not $expected: $(cat err)" >&2; exit 1; }
}

awrite --version
[ "$(awrite --list | sort | xargs)" = "awrite awrite-housekeep awrite-lock" ]
echo one | awrite f
is f one
echo two | awrite --append --backup f
is f $'one\ntwo'
is f.backup one
awrite f -- sed s/two/three/
is f $'one\nthree'
fails 1 awrite f -- sh -c 'echo half; exit 4'
is f $'one\nthree'
fails 1 awrite f </dev/null
head -c 5000000 /dev/urandom >big
awrite --stream copy <big
cmp big copy
awrite --input big --sync none copy
cmp big copy
awrite --mkdir --mode 640 -i f new/dir/f
[ "$(stat -c %a new/dir/f)" = 640 ]
[ "$(lock f -c 'echo held')" = held ]
fails 7 lock f -c 'exit 7'
mkfifo ready
lock f -c 'echo >ready; read _ <ready' &
read -r _ <ready
fails 2 lock --status f
fails 2 awrite --no-wait f -- cat
echo >ready
wait
lock --status f >/dev/null
echo linked | awrite --lock-method link g
is g linked
token=$(lock --acquire --owner A --ttl 60s f)
fails 2 awrite --no-wait f -- cat
echo leased | awrite --owner A --token "$token" f
is f leased
lock --release --owner A f
: >orphan.lock
housekeep --clean-locks --older-than 0 .
[ "$(find . -name '*.lock' -o -name '.awrite-*' -o -name '*.lease')" = "" ]
: | awrite --allow-empty f
[ ! -s f ]
"${runner[@]}" "$bin/awrite" --json --if-changed f <big 2>messages
grep -q '"event":"committed"' messages
echo "smoke: all well"
