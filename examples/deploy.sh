#!/bin/sh
# Put the files of a configuration in place together, or none of them; and change two of them together.
#
# Here `sh -n` plays the program that checks its configuration.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

deploy() {
    # Single quotes: the shell that awrite starts expands AWRITE_DIR, which has all new files under their names.
    # shellcheck disable=SC2016
    awrite --mkdir --into live --validate 'cd "$AWRITE_DIR" && sh -n main.sh && sh -n lib/port.sh' build
}

mkdir -p build/lib live
echo '. lib/port.sh' >build/main.sh
echo 'PORT=80' >build/lib/port.sh
deploy

echo 'PORT=(' >build/lib/port.sh
echo '. lib/port.sh; echo ready' >build/main.sh
if deploy; then
    echo 'a broken tree was accepted' >&2
    exit 1
fi
[ "$(cat live/main.sh)" = '. lib/port.sh' ]
[ "$(cat live/lib/port.sh)" = 'PORT=80' ]

# Both files change, or none.
echo 'PORT=80' >build/lib/port.sh
echo ': PORT; . lib/port.sh' >build/main.sh
deploy
awrite -e live/main.sh live/lib/port.sh -- sed -i s/PORT/LISTEN/
grep -q LISTEN live/main.sh
grep -q LISTEN live/lib/port.sh
ls -R live
