#!/usr/bin/env bash
# Links the commands for macOS on ARM and for FreeBSD on x86-64, where they cannot be run here. Zig brings what these
# systems' linkers need. Needs zig, and apt for a Rust that has its own sources (rust.sh).
#
#   macos.sh            both
#   macos.sh TRIPLE     aarch64-apple-darwin or x86_64-unknown-freebsd
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=rust.sh
. pkg/build/rust.sh
need file file

# link TRIPLE ZIG-TARGET KIND: KIND is what file(1) calls the result.
link() {
    local binary=$target_dir/static/$1/release/awrite
    zig_linker "$1" "$2"
    # Without `strip`, which would be this system's.
    CARGO_TARGET_DIR=$target_dir/static CARGO_PROFILE_RELEASE_STRIP=false \
        cargo build --locked --release -Z build-std=std,panic_unwind --target "$1" --bin awrite
    file "$binary" | tee "$scratch/kind"
    grep -q "$3" "$scratch/kind" || die "$binary is not $3"
}

debian_rust_with_sources
# Otherwise rustc asks for Apple's developer tools.
export SDKROOT=/nowhere
triple=${1:-}
case $triple in
    "" | aarch64-apple-darwin | x86_64-unknown-freebsd) ;;
    *) die "$triple: aarch64-apple-darwin, x86_64-unknown-freebsd, or nothing for both" ;;
esac
[ "$triple" = x86_64-unknown-freebsd ] || link aarch64-apple-darwin aarch64-macos 'Mach-O 64-bit arm64 executable'
[ "$triple" = aarch64-apple-darwin ] || link x86_64-unknown-freebsd x86_64-freebsd 'ELF 64-bit.*FreeBSD'
