#!/usr/bin/env bash
# tarball.sh glibc|musl|aarch64: makes a tarball in target/dist, with the commands as one static binary, the manual
# pages and completions. Unpack it with `tar -C /usr/local --strip-components=1 -xzf`. The script then tries what is in
# it.
#
#   glibc    for this machine's architecture, with the installed toolchain
#   musl     the same for Alpine, with libawrite. Needs musl-gcc, and apt for a Rust that has its own sources (rust.sh)
#   aarch64  64-bit ARM, glibc. Needs gcc-aarch64-linux-gnu, apt as above; qemu-user-static to try it
#
# If rustup has added the target, the last two need only `make -C pkg install-commands TARGET=...` and RUSTFLAGS.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=rust.sh
. pkg/build/rust.sh

machine=$(uname -m)
# Leave out the list of calls that led to a panic, which nobody sees, and choose the smaller of two ways to do some
# things. This saves a sixth of the binary.
own_std='--locked -Z build-std=std,panic_unwind -Z build-std-features=panic-unwind,optimize_for_size'
cargo_flags=--locked
rustflags=
runner=()
case ${1:-} in
    glibc) triple=$machine-unknown-linux-gnu ;;
    musl)
        triple=$machine-unknown-linux-musl
        need musl-gcc musl-tools
        debian_rust_with_sources
        musl_unwinder
        cargo_flags=$own_std
        rustflags=$musl_flags
        ;;
    aarch64)
        triple=aarch64-unknown-linux-gnu
        need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
        need qemu-aarch64-static qemu-user-static
        debian_rust_with_sources
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
        cargo_flags=$own_std
        runner=(qemu-aarch64-static)
        ;;
    *) die "which tarball? glibc, musl or aarch64" ;;
esac
# A target directory of its own, because the flags differ from the tree's other builds.
export CARGO_TARGET_DIR=$target_dir/static

install_by_make() {
    make -s -C pkg TARGET="$triple" CARGO_FLAGS="$cargo_flags" PREFIX=/usr/local DESTDIR="$scratch/image" "$@"
}
# Not position-independent: relocating itself takes a tenth of the time of a small write.
RUSTFLAGS="$rustflags -C target-feature=+crt-static -C relocation-model=static" \
    install_by_make install-commands install-data
# The shared library is linked with musl, and with no other library.
if [ "${1:-}" = musl ]; then
    RUSTFLAGS="$rustflags -C target-feature=-crt-static" install_by_make install-library
fi

name=awrite-$version-$triple
mv "$scratch/image/usr/local" "$scratch/$name"
mkdir -p "$scratch/$name/share/doc/awrite"
cp README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$scratch/$name/share/doc/awrite"
# The same files give the same bytes, whoever packs them and when.
tar -C "$scratch" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" -c "$name" |
    gzip -9n >"$dist/$name.tar.gz"

mkdir "$scratch/local"
tar -C "$scratch/local" --strip-components=1 -xzf "$dist/$name.tar.gz"
bin=$scratch/local/bin
! readelf -l "$bin/awrite" | grep -q INTERP || die "not static"
stat -c '%s bytes: awrite' "$bin/awrite"
bash pkg/build/smoke.sh "$bin" "${runner[@]}"
if [ "${1:-}" = musl ]; then
    lib=$scratch/local/lib
    stat -c '%s bytes: %n' "$lib"/libawrite.a "$lib"/libawrite.so.*.*
    readelf -d "$lib/libawrite.so" | grep -e NEEDED -e SONAME
    # To catch a panic, the unwinder must find its way, in a C program too.
    for program in examples/counter tests/c/panic; do
        name=$(basename "$program")
        musl-gcc -static -Wl,--eh-frame-hdr -o "$scratch/$name-static" -I "$scratch/local/include" "$program.c" \
            "$lib/libawrite.a" -L "$unwinder" -lunwind
        musl-gcc -o "$scratch/$name-dynamic" -I "$scratch/local/include" "$program.c" -L "$lib" -lawrite
    done
    "$scratch/counter-static" "$scratch/count" 1
    LD_LIBRARY_PATH=$lib "$scratch/counter-dynamic" "$scratch/count" 1
    [ "$(cat "$scratch/count")" = 2 ]
    mkdir "$scratch/panics"
    (cd "$scratch/panics" && "$scratch/panic-static" && LD_LIBRARY_PATH=$lib "$scratch/panic-dynamic") \
        2>"$scratch/log" || { cat "$scratch/log"; exit 1; }
    say "libawrite counts to two and catches a panic, static and dynamic"
fi
ls -l "$dist"/awrite-"$version"-"$triple".tar.gz
