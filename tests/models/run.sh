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

# check MODEL EXPECTED WORD...: runs the command in a directory of its own, in the steps that spin's -run stands for. Where
# the search must end early, to let the compiler optimise takes far longer than the search.
check() {
    local model=$1 expected=$2 optimise=-O verdict=unclear word translate=() search=()
    shift 2
    for word; do
        case $word in
            -D*) translate+=("$word") ;;
            -m*) search+=("$word") ;;
        esac
    done
    [[ $expected == *'errors: 0'* ]] || optimise=-O0
    {
        spin "${translate[@]}" -a "$model" && cc -std=gnu99 "$optimise" -DSAFETY -o pan pan.c && ./pan "${search[@]}"
    } >log 2>&1 || true
    # A search that ended early has proved nothing.
    # `files < FILES` says only that the model is too small.
    if grep 'assertion violated' log | grep -qv 'files<'; then
        verdict='assertion violated'
    elif grep -q 'errors: 0$' log && ! grep -q -e 'max search depth too small' -e 'Search not completed' log; then
        verdict='errors: 0'
    fi
    if [[ $expected == *"$verdict"* ]]; then
        echo "as expected: $*: $verdict"
    else
        echo "NOT AS EXPECTED: $*: $verdict, but: $expected"
        tail -n 30 log
        return 1
    fi
}

[ $# -gt 0 ] || set -- "$here"/*.pml
checked=0
for path; do
    model=$(basename "$path")
    while read -r line; do
        [[ $line =~ ^(spin .*-run -safety .*$model)\ +(.*)$ ]]
        expected=${BASH_REMATCH[2]}
        read -ra words <<<"${BASH_REMATCH[1]}"
        # As many at a time as there are processors.
        [ "$checked" -lt "$(nproc)" ] || wait -n
        checked=$((checked + 1))
        mkdir "$checked"
        cp "$(dirname "$path")/$model" "$checked"
        { (cd "$checked" && check "$model" "$expected" "${words[@]}") || : >failed; } &
    done < <(sed -n 's/^ \* *\(spin .*\)$/\1/p' "$path")
done
[ "$checked" -gt 0 ]
wait
[ ! -e failed ]
