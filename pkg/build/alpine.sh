#!/usr/bin/env bash
# Runs pkg/alpine/APKBUILD without abuild: a POSIX shell (busybox, as on Alpine) runs its functions, and this script
# checks what package() leaves. It uses the C library of this machine; for Alpine's there is `tarball.sh musl`.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
need busybox busybox-static

copy_source "$scratch/src"
pack src "$scratch/awrite-$version.tar.gz"
fill pkg/alpine/APKBUILD "$scratch/APKBUILD" "$scratch/awrite-$version.tar.gz"
cargo_builds_here
# amove moves files from $pkgdir to the subpackage's directory.
# shellcheck disable=SC2016
(cd "$scratch/src" && busybox sh -eu -c '
    pkgdir=$1/pkg/awrite
    . "$1/APKBUILD"
    default_prepare() { :; }
    amove() { mkdir -p "$subpkgdir/usr/lib" && (cd "$pkgdir" && mv $* "$subpkgdir/usr/lib"); }
    for step in prepare build package; do
        "$step"
    done
    # As `abuild verify` does.
    (cd "$1" && echo "$sha512sums" | sha512sum -c)
    for subpackage in $subpackages; do echo "subpackage $subpackage"; done
    subpkgdir=$1/pkg/libawrite
    libs
' sh "$scratch") >"$scratch/log" 2>&1 || { tail -n 60 "$scratch/log"; exit 1; }
grep ^subpackage "$scratch/log"
(cd "$scratch/pkg" && find . -type f -o -type l | sort)
bash pkg/build/smoke.sh "$scratch/pkg/awrite/usr/bin"
[ -e "$scratch/pkg/libawrite/usr/lib/libawrite.so.1" ]
