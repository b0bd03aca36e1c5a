#!/usr/bin/env bash
# Checks the models in this directory with spin (Debian package spin, and a C compiler). The head of each model lists
# the commands, each with the result that it must have: `errors: 0`, or `assertion violated` if the protocol is broken
# on purpose, which shows that the model would notice.
#
# usage: tests/models/run.sh [MODEL.pml …]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

for tool in spin cc; do
    if ! command -v "$tool" >/dev/null; then
        echo "models: not checked, $tool is not installed"
        [ "${CI:-}" != true ]
        exit
    fi
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

[ $# -gt 0 ] || set -- "$here"/*.pml
failed=0 checked=0
for path; do
    model=$(basename "$path")
    cp "$(dirname "$path")/$model" .
    while read -r line; do
        [[ $line =~ ^(.* $model)\ +(.*)$ ]]
        expected=${BASH_REMATCH[2]}
        read -ra words <<<"${BASH_REMATCH[1]}"
        "${words[@]}" >log 2>&1 || true
        verdict=unclear
        # A search that ended early has proved nothing.
        # `files < FILES` says only that the model is too small.
        if grep 'assertion violated' log | grep -qv 'files<'; then
            verdict='assertion violated'
        elif grep -q 'errors: 0$' log && ! grep -q -e 'max search depth too small' -e 'Search not completed' log; then
            verdict='errors: 0'
        fi
        checked=$((checked + 1))
        if [[ $expected == *"$verdict"* ]]; then
            echo "as expected: ${words[*]}: $verdict"
        else
            echo "NOT AS EXPECTED: ${words[*]}: $verdict, but: $expected"
            tail -n 30 log
            failed=1
        fi
    done < <(sed -n 's/^ \* *\(spin .*\)$/\1/p' "$path")
done
[ "$checked" -gt 0 ]
exit $failed
