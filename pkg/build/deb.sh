#!/usr/bin/env bash
# Builds the packages for Debian and its relatives: awrite, awrite-store-etcd, libawrite1, libawrite-dev; in
# target/dist. Needs debhelper.
#
#   deb.sh                builds them with the Rust that is installed here
#   deb.sh try            also runs lintian, installs them here (as root), tries them, removes them, and looks for files
#                         that stay
#   deb.sh source         makes the source package with all crates in it (pkg/debian/README.source), in
#                         target/debian-source, and runs lintian
#   deb.sh chroot SUITE   builds that in a clean Debian SUITE (bookworm, trixie) without a network, installs it there, and
#                         runs debian/tests. As root, with mmdebstrap; packages come from where this machine has its own
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
need dh debhelper
need lintian lintian

tree=$scratch/awrite-$version
package_version=$(dpkg-parsechangelog -l pkg/debian/changelog -S Version)
[ "${package_version%-*}" = "$version" ] || die "pkg/debian/changelog is of $package_version, Cargo.toml of $version"
arch=$(dpkg --print-architecture)
sources=$target_dir/debian-source

# check_style PACKAGE...: no bug is closed by this version.
check_style() {
    lintian --fail-on error,warning --allow-root --suppress-tags initial-upload-closes-no-bugs "$@"
    say "lintian has nothing to say"
}

build_here() {
    cp -a pkg/debian "$tree/debian"
    cargo_builds_here
    (cd "$tree" && DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage --build=binary --no-check-builddeps --no-sign \
        >"$scratch/log" 2>&1) || { tail -n 60 "$scratch/log"; exit 1; }
    mv "$scratch"/*.deb "$dist"
    debs=("$dist/awrite_${package_version}_$arch.deb" "$dist/awrite-store-etcd_${package_version}_$arch.deb"
        "$dist/libawrite1_${package_version}_$arch.deb" "$dist/libawrite-dev_${package_version}_$arch.deb")
    ls -l "${debs[@]}"
}

everything() {
    find /etc /lib /usr /var -xdev \( -path "$target_dir" -o -path "$PWD" -o -path /var/cache \) -prune -o \
        -iname '*awrite*' -print | sort
}

try_here() {
    local name test
    check_style "${debs[@]}"
    everything >"$scratch/before"
    trap 'dpkg -P libawrite-dev libawrite1 awrite-store-etcd awrite >/dev/null 2>&1 || true; rm -rf "$scratch"' EXIT
    dpkg -i "${debs[@]}" >/dev/null
    /usr/bin/awrite --version
    for test in pkg/debian/tests/{commands,store-etcd,library}; do
        say "$test"
        "$test"
    done
    for name in atomic-write awrite awrite-lock awrite-housekeep awrite-store-etcd awrite-store-etcds; do
        (cd / && man "$name" 2>/dev/null) | grep -q "^NAME" || die "no manual page of $name"
    done
    if command -v systemd-analyze >/dev/null; then
        systemd-analyze verify /lib/systemd/system/awrite-housekeep.{service,timer} \
            /lib/systemd/system/awrite-recover@.service
    else
        say "no systemd here: its units are not verified"
    fi
    dpkg -r libawrite-dev libawrite1 awrite-store-etcd awrite >/dev/null
    # Until the package is purged, systemd's helper remembers that the timer was not enabled.
    everything | grep -v -e ^/var/lib/dpkg -e ^/var/lib/systemd >"$scratch/after" || true
    diff <(grep -v -e ^/var/lib/dpkg -e ^/var/lib/systemd "$scratch/before") "$scratch/after" || die "something has stayed"
    dpkg -P awrite >/dev/null
    everything >"$scratch/after"
    diff "$scratch/before" "$scratch/after" || die "something has stayed"
    say "installed, tried, removed without a trace"
}

make_source() {
    rm -rf "$sources" && mkdir -p "$sources"
    pack "awrite-$version" "$sources/awrite_$version.orig.tar.gz"
    (cd "$tree" && cargo vendor --locked --quiet --versioned-dirs vendor >/dev/null)
    # What is prebuilt is for Windows or WebAssembly. Cargo is told not to look for it.
    find "$tree/vendor" -name '*.[ao]' -delete -o -name '*.lib' -delete -o -name '*.dll' -delete -o -name '*.wasm' -delete
    python3 - "$tree"/vendor/*/.cargo-checksum.json <<'EOF'
import json, pathlib, sys
for path in map(pathlib.Path, sys.argv[1:]):
    sums = json.loads(path.read_text())
    sums["files"] = {name: sum for name, sum in sums["files"].items() if (path.parent / name).exists()}
    path.write_text(json.dumps(sums))
EOF
    cp -a "$tree/vendor" "$scratch/vendor"
    pack vendor "$sources/awrite_$version.orig-vendor.tar.gz"
    cp -a pkg/debian "$tree/debian"
    (cd "$sources" && dpkg-source --build "$tree")
    ls -l "$sources"
}

# make_chroot SUITE DIR: nothing but what a build of any package needs.
make_chroot() {
    local here
    # shellcheck source=/dev/null
    here=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016  # apt's own variables
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
        sed -n "s/ $here main Debian Debian\$/ $1 main/p" | sort -u >"$scratch/sources.list"
    mmdebstrap --quiet --variant=buildd --mode=root "$1" "$2" "$scratch/sources.list"
}

# inside COMMAND...: runs it in the chroot.
inside() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

build_in_chroot() {
    need mmdebstrap mmdebstrap
    root=$target_dir/debian-chroot-$1
    rm -rf --one-file-system "$root"
    say "a clean $1"
    make_chroot "$1" "$root"
    trap 'umount -R "$root/proc" 2>/dev/null; rm -rf --one-file-system "$root" "$scratch"' EXIT
    mount -t proc proc "$root/proc"
    mkdir "$root/build"
    cp "$sources"/* "$root/build"
    # mmdebstrap leaves no lists of packages.
    inside apt-get update -qq
    inside apt-get build-dep -qq --no-install-recommends "/build/awrite_$package_version.dsc" >"$scratch/log" 2>&1 ||
        { tail -n 60 "$scratch/log"; exit 1; }
    say "building with $(inside rustc --version), without a network"
    inside sh -ec "cd /build; dpkg-source --extract awrite_$package_version.dsc source >/dev/null"
    unshare --net chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        DEB_BUILD_OPTIONS=nocheck sh -ec 'cd /build/source; dpkg-buildpackage --build=binary --no-sign' \
        >"$scratch/log" 2>&1 || { tail -n 60 "$scratch/log"; exit 1; }
    inside sh -c 'ls -l /build/*.deb'
    say "trying what was built there, by debian/tests"
    inside apt-get install -qq --no-install-recommends autopkgtest >"$scratch/log" 2>&1 ||
        { tail -n 60 "$scratch/log"; exit 1; }
    inside sh -c "autopkgtest --quiet /build/*.deb /build/awrite_$package_version.dsc -- null" >"$scratch/log" 2>&1 ||
        { tail -n 60 "$scratch/log"; exit 1; }
    grep -E '^(commands|store-etcd|library) +PASS' "$scratch/log"
}

copy_source "$tree"
case ${1:-} in
    "") build_here ;;
    try) build_here && try_here ;;
    source) make_source && check_style "$sources"/*.dsc ;;
    chroot)
        [ -n "${2:-}" ] || die "which suite? For example: bookworm, trixie"
        [ "$(id -u)" = 0 ] || die "chroot wants root"
        make_source && build_in_chroot "$2"
        ;;
    *) die "which? Nothing, try, source, or chroot SUITE" ;;
esac
