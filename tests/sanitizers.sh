#!/usr/bin/env bash
# Runs the tests where wrong use of memory is noticed: tests/sanitizers.sh [address] [std] [memory].
#
# address  AddressSanitizer in awrite and all crates that it uses: nothing is read or written behind its end, or after it
#          has been freed. The tests within the sources, those of the C interface, and those of the built program.
# std      A standard library that is built with its debug assertions, as cargo-careful does it: unsafe functions check
#          what they are promised. The same tests. Needs apt, for a Rust that has its sources (pkg/build/rust.sh).
# memory   valgrind: no decision depends on memory that nobody has written. The tests within the sources.
#
# Overflow of integers is checked in every build of the tests. What the tests trace or kill is left out here: the same
# code runs in the others.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=pkg/build/common.sh
. pkg/build/common.sh
host=$(rustc -vV | sed -n 's/^host: //p')
# The tests of the built program that run by far most of its code.
parts=(write:: commit:: backup:: edit:: into:: stream:: expect:: sets::hostile lock:: lease:: holds:: nesting:: command::
    housekeep:: diff:: messages:: options:: flock:: rust::)

# tests_with OPTION...: builds with these options of cargo, and runs the tests.
tests_with() {
    cargo test --locked --quiet "$@" --lib --bins
    cargo test --locked --quiet "$@" --no-default-features --features capi --lib capi
    # AddressSanitizer wants more memory than some tests allow, and one shows the path of the program, which is long here.
    cargo test --locked --quiet "$@" --test it -- "${parts[@]}" --skip memory --skip diff::large_files \
        --skip the_holder_is_named_with_its_command
}

address() {
    # What the stable compiler has, but calls unstable. COMMAND of a test is a child of a traced process in some: leaks
    # cannot be looked for there. valgrind looks for those of the C interface (tests/it/capi.rs).
    ASAN_OPTIONS=detect_leaks=0 RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
        tests_with --target "$host" --target-dir "$target_dir/sanitizers"
}

std() {
    # shellcheck source=pkg/build/rust.sh
    . pkg/build/rust.sh
    debian_rust_with_sources
    RUSTFLAGS="-Zextra-const-ub-checks -Zstrict-init-checks -Zub-checks" \
        tests_with -Z build-std --target "$host" --target-dir "$target_dir/checked"
}

memory() {
    need valgrind valgrind
    local triple=${host//-/_}
    # A few inputs of each generator: everything takes fifty times as long. rustix by the calls of libc: what the kernel
    # shows of the vDSO is not there below valgrind.
    PROPTEST_CASES=8 RUSTFLAGS='--cfg rustix_use_libc' \
        env "CARGO_TARGET_${triple^^}_RUNNER=valgrind --quiet --error-exitcode=9" \
        cargo test --locked --quiet --target "$host" --target-dir "$target_dir/memory" --lib --bins
}

[ $# -gt 0 ] || set -- address std memory
for what; do
    say "$what"
    "$what"
done
