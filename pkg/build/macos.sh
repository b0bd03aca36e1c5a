#!/usr/bin/env bash
# Links the commands for macOS on ARM, where they cannot be run here: nothing is missing that macOS does not have. Zig
# brings what the linker needs. Needs zig, and apt for a Rust that has its own sources (rust.sh). Rust warns that there are
# none of Apple's developer tools; zig does without.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=rust.sh
. pkg/build/rust.sh
need file file

triple=aarch64-apple-darwin
debian_rust_with_sources
zig_linker "$triple" aarch64-macos
# Not stripped: the program for that would be this system's.
CARGO_TARGET_DIR=$target_dir/static CARGO_PROFILE_RELEASE_STRIP=false \
    cargo build --locked --release -Z build-std=std,panic_unwind --target "$triple" --bin awrite
file "$target_dir/static/$triple/release/awrite" | tee "$scratch/kind"
grep -q 'Mach-O 64-bit arm64 executable' "$scratch/kind" || die "this is no program for macOS"
