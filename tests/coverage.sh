#!/bin/sh
# How much of the code the tests run, line by line: tests/coverage.sh. Needs cargo-llvm-cov (cargo install cargo-llvm-cov)
# and the LLVM tools of rustc's own version (Debian: llvm-22; or rustup component add llvm-tools). Fails below 85 %.
#
# Processes that the tests start count too, and the C library. Modules of unit tests do not. A run of the program that is
# killed, as many tests do, leaves no record of what it has done, nor does one without environment or file system.
set -eu
cd "$(dirname "$0")/.."
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
if command -v "llvm-cov-$llvm" >/dev/null; then
    LLVM_COV=llvm-cov-$llvm LLVM_PROFDATA=llvm-profdata-$llvm
    export LLVM_COV LLVM_PROFDATA
fi
# Processes add to a few files, instead of each having its own; those of another user too.
export LLVM_PROFILE_FILE_NAME='awrite-%8m.profraw'
target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/llvm-cov-target
cargo llvm-cov clean --workspace
mkdir -p "$target"
[ "$(id -u)" != 0 ] || setfacl -m o::rwx -d -m u::rwx,g::rwx,o::rwx "$target"

# Whether they pass is for `cargo test` to say: an instrumented program has more files open and is slower.
cargo llvm-cov --locked --no-report --ignore-run-fail --lib --bins --test it -- \
    --skip it_works_in_an_empty_root --skip it_works_with_an_empty_environment
LLVM_COV_FLAGS=-object=$target/tmp/capi/debug/libawrite.so
export LLVM_COV_FLAGS
cargo llvm-cov report --lcov --output-path "$target/lcov"

# Lines and missed lines of each file, up to its unit tests.
while IFS= read -r line; do
    case $line in
    SF:*)
        file=${line#SF:}
        echo "$line:$(awk '/^mod tests \{/ { exit } { n++ } END { print n }' "$file")"
        ;;
    DA:*) echo "$line" ;;
    esac
done <"$target/lcov" | awk -F '[:,]' '
    function done() { if (lines) printf "%6.1f %%  %4d of %4d  %s\n", 100 * hit / lines, hit, lines, name; lines = hit = 0 }
    $1 == "SF" { done(); name = $2; sub(/.*\/src\//, "src/", name); last = $3 }
    $1 == "DA" && $2 <= last { lines++; all++; if ($3 > 0) { hit++; covered++ } }
    END { done(); printf "%6.1f %%  %4d of %4d  in all\n", 100 * covered / all, covered, all; exit covered < 0.85 * all }'
