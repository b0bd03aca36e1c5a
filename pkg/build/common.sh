# shellcheck shell=bash
# What the scripts beside this one share. They run anywhere in the source tree. They put what they make into $dist.

set -euo pipefail
# What the script says at its head.
case ${1:-} in
    -h | --help)
        sed -n -e 1d -e '/^[^#]/q' -e '/^# shellcheck/d' -e 's/^# \{0,1\}//p' "$0"
        exit
        ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck disable=SC2034  # used by the scripts that read this file
{
    # Where the project is, and whom a package names as its maintainer. When one of them changes: write it here, then
    # `bash pkg/build/facts.sh fill` writes it into all other files. The address takes no mail: there are the issues.
    repository=https://github.com/awrite-project/awrite
    maintainer='The awrite authors <awrite-project@users.noreply.github.com>'
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    # Not `awrite`, which is another crate on crates.io.
    crate=$(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
    dist=$target_dir/dist
}
mkdir -p "$dist"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() {
    printf -- '-- %s\n' "$*"
}

die() {
    printf 'Error: %s\n' "$*" >&2
    exit 1
}

# need COMMAND PACKAGE: PACKAGE is where COMMAND comes from on Debian.
need() {
    command -v "$1" >/dev/null || die "$1 is missing (Debian: apt-get install $2)"
}

# find_applets [DIR]: makes a directory $applets with all commands. They are links to the awrite in DIR, or else to the
# one that is built in this tree, or else to the one on PATH.
find_applets() {
    local binary
    if [ -n "${1:-}" ]; then
        binary=$1/awrite
        [ -x "$binary" ] || die "$binary is not there, or no program"
    else
        for binary in "$target_dir"/{release,debug}/awrite "$(command -v awrite)"; do
            [ ! -x "$binary" ] || break
        done
        [ -x "$binary" ] || die "there is no awrite to try, neither in $target_dir/release or debug nor on PATH." \
            "Build it (cargo build --release), or say where it is: $(basename "$0") DIR"
    fi
    applets=$scratch/applets
    mkdir "$applets"
    "$binary" --install "$applets"
    say "trying $binary"
}

# copy_source DIR: copies the files of this tree as they are now: what is tracked, and what is new and not ignored.
copy_source() {
    mkdir -p "$1"
    git ls-files -co --exclude-standard -z | tar -c --null --ignore-failed-read -T - | tar -x -C "$1"
}

# A package builds from a copy of this tree. This makes its `cargo` build in this tree, where most is already built.
cargo_builds_here() {
    mkdir -p "$scratch/bin"
    printf '#!/bin/sh\ncd "%s/pkg" && exec "%s" "$@"\n' "$PWD" "$(command -v cargo)" >"$scratch/bin/cargo"
    chmod +x "$scratch/bin/cargo"
    export PATH=$scratch/bin:$PATH CARGO_TARGET_DIR=$target_dir
}

# fill TEMPLATE FILE TARBALL: writes what only a release knows into a packaging file: names, version, and the checksums
# of the source tarball. Anything else between two @ is an error.
fill() {
    local sha256 sha512
    sha256=$(sha256sum <"$3") sha512=$(sha512sum <"$3")
    sed -e "s|@REPOSITORY@|$repository|g" -e "s|@MAINTAINER@|$maintainer|g" -e "s|@VERSION@|$version|g" \
        -e "s|@SHA256@|${sha256%% *}|g" -e "s|@SHA512@|${sha512%% *}|g" "$1" >"$2"
    ! grep -n '@[A-Z0-9]*@' "$2" || die "$1: nothing fills this"
}

# pack NAME FILE: a gzipped tar archive of the directory $scratch/NAME. The same content gives the same bytes, whoever
# packs it and when.
pack() {
    tar -C "$scratch" --sort=name --owner=0 --group=0 --numeric-owner --mode=u+rw,a+rX,go-w \
        --mtime="@${SOURCE_DATE_EPOCH:-0}" -c "$1" | gzip -9n >"$2"
}
