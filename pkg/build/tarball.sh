#!/usr/bin/env bash
# tarball.sh musl|aarch64|glibc: makes a tarball in target/dist, with the commands, the manual pages and completions, and
# the licences of all that is linked in. Unpack it with `tar -C /usr/local --strip-components=1 -xzf`. The script then
# tries what is in it.
#
#   musl     one static binary for every Linux of this machine's architecture, Alpine too, and libawrite for musl. It is
#            the one to recommend: it starts in half the time of one that is linked with glibc. Needs musl-gcc, and apt
#            for a Rust that has its own sources (rust.sh)
#   aarch64  the same binary for 64-bit ARM, without libawrite. Needs zig, apt as above; qemu-user-static to try it
#   glibc    dynamic, with libawrite, for systems with glibc 2.31 (2020) or newer. Needs zig
#
# If rustup has added the target, the first two need only `make -C pkg install-commands TARGET=...` and RUSTFLAGS.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=rust.sh
. pkg/build/rust.sh

machine=$(uname -m)
oldest_glibc=2.31
# Leave out the list of calls that led to a panic, which nobody sees, and choose the smaller of two ways to do some
# things. This saves a sixth of the binary.
own_std='--locked -Z build-std=std,panic_unwind -Z build-std-features=panic-unwind,optimize_for_size'
# Not position-independent: relocating itself takes a tenth of the time of a small write.
static='-C target-feature=+crt-static -C relocation-model=static'
# The binary does not tell where it was built.
rustflags="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/awrite"
make_flags=(CARGO_FLAGS=--locked)
bill_flags=()
runner=()
case ${1:-} in
    musl)
        triple=$machine-unknown-linux-musl
        need musl-gcc musl-tools
        debian_rust_with_sources
        musl_unwinder
        make_flags=(CARGO_FLAGS="$own_std" TARGET="$triple")
        rustflags+=" $musl_flags"
        copyright=/usr/share/doc/musl/copyright
        bill_flags=(--with musl "$(dpkg-query -W -f '${Version}' musl)" MIT "$copyright" --with "gcc's unwinder"
            "$(gcc -dumpversion)" "GPL-3.0-or-later WITH GCC-exception-3.1" "/usr/share/doc/gcc-$(gcc -dumpversion)-base/copyright")
        ;;
    aarch64)
        triple=aarch64-unknown-linux-musl
        need qemu-aarch64-static qemu-user-static
        debian_rust_with_sources
        zig_linker "$triple" aarch64-linux-musl
        make_flags=(CARGO_FLAGS="$own_std" TARGET="$triple")
        rustflags+=" -C link-self-contained=no"
        lib=$(dirname "$zig")/lib
        bill_flags=(--with "musl" "of zig $("$zig" version)" MIT "$lib/libc/musl/COPYRIGHT"
            --with "LLVM's libunwind" "of zig" "Apache-2.0 WITH LLVM-exception" "$lib/libunwind/LICENSE.TXT")
        runner=(qemu-aarch64-static)
        ;;
    glibc)
        triple=$machine-unknown-linux-gnu
        zig_linker "$triple" "$machine-linux-gnu.$oldest_glibc"
        make_flags+=(CC="$zig_cc")
        static=
        bill_flags=(--with "LLVM's libunwind" "of zig $("$zig" version)" "Apache-2.0 WITH LLVM-exception"
            "$(dirname "$zig")/lib/libunwind/LICENSE.TXT")
        ;;
    *) die "which tarball? musl, aarch64 or glibc" ;;
esac
# A target directory of its own, because the flags differ from the tree's other builds.
export CARGO_TARGET_DIR=$target_dir/static

install_by_make() {
    make -s -C pkg "${make_flags[@]}" PREFIX=/usr/local DESTDIR="$scratch/image" "$@"
}
RUSTFLAGS="$rustflags $static" install_by_make install-commands install-data
case $1 in
    # The shared library is linked with musl, and with no other library.
    musl) RUSTFLAGS="$rustflags -C target-feature=-crt-static" install_by_make install-library ;;
    glibc) RUSTFLAGS=$rustflags install_by_make install-library ;;
esac

name=awrite-$version-$triple
mv "$scratch/image/usr/local" "$scratch/$name"
docs=$scratch/$name/share/doc/awrite
cp README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$docs"
python3 pkg/build/bill.py --target "$triple" --text "$docs/THIRD-PARTY.txt" --json "$docs/awrite.cdx.json" \
    "${bill_flags[@]}"
pack "$name" "$dist/$name.tar.gz"

mkdir "$scratch/local"
tar -C "$scratch/local" --strip-components=1 -xzf "$dist/$name.tar.gz"
bin=$scratch/local/bin
stat -c '%s bytes: awrite' "$bin/awrite"
! strings "$bin/awrite" | grep -F -e "$HOME/" -e "$PWD/" || die "the binary tells where it was built"
bash pkg/build/smoke.sh "$bin" "${runner[@]}"

lib=$scratch/local/lib
[ ! -e "$lib/libawrite.so" ] || { stat -c '%s bytes: %n' "$lib"/libawrite.a "$lib"/libawrite.so.*.*; }
case $1 in
    glibc)
        newest=$(objdump -T "$bin/awrite" "$lib/libawrite.so" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
        [ "$(printf '%s\n' "GLIBC_$oldest_glibc" "$newest" | sort -V | tail -n 1)" = "GLIBC_$oldest_glibc" ] ||
            die "$newest is wanted"
        say "needs nothing newer than $newest"
        cc -o "$scratch/counter" -I "$scratch/local/include" examples/counter.c -L "$lib" -lawrite
        LD_LIBRARY_PATH=$lib "$scratch/counter" "$scratch/count" 1
        ;;
    *) ! readelf -l "$bin/awrite" | grep -q INTERP || die "not static" ;;
esac
if [ "$1" = musl ]; then
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
