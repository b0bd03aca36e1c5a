#!/usr/bin/env bash
# Needs apt, for a Rust that has its own sources (rust.sh).
#
#   check.sh        type-checks the commands, the library and the C interface for systems where they cannot be run here.
#                   A warning is an error. It needs no linker
#   check.sh msrv   builds with the oldest Rust that Cargo.toml promises, and runs the tests within the sources
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=rust.sh
. pkg/build/rust.sh

if [ "${1:-}" = msrv ]; then
    debian_rust "$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
    CARGO_TARGET_DIR=$target_dir/msrv cargo test --locked --bin awrite --lib
    exit
fi
[ -z "${1:-}" ] || die "which? Nothing, or msrv"

debian_rust_with_sources
for target in aarch64-apple-darwin x86_64-unknown-freebsd i686-unknown-linux-gnu armv7-unknown-linux-gnueabihf; do
    for what in '--bin awrite --lib' '--lib --features capi'; do
        say "$target: $what"
        # shellcheck disable=SC2086
        CARGO_TARGET_DIR=$target_dir/check cargo check --locked --quiet -Z build-std -Z warnings \
            --config 'build.warnings="deny"' --target "$target" $what
    done
done
