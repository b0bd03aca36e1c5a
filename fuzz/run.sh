#!/bin/sh
# Runs each fuzz target for a while: fuzz/run.sh [SECONDS] [TARGET...]. Needs cargo-fuzz (cargo install cargo-fuzz) and a
# C++ compiler. Findings are in fuzz/artifacts. The inputs that reach new code are in fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- duration records names surroundings messages options
# The sanitizer is a nightly feature. RUSTC_BOOTSTRAP makes the stable compiler accept it.
export RUSTC_BOOTSTRAP=1
for target; do
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -max_len=4096 -print_final_stats=1 -verbosity=0
done
