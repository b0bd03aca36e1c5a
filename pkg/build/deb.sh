#!/usr/bin/env bash
# Builds the packages for Debian and its relatives: awrite, libawrite1, libawrite-dev; in target/dist. Needs debhelper.
#
# `deb.sh try` then installs them here (as root), tries them, removes them, and looks for files that stay. It runs
# lintian.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
need dh debhelper
need lintian lintian

tree=$scratch/awrite-$version
copy_source "$tree"
mv "$tree/pkg/debian" "$tree/debian"
package_version=$(dpkg-parsechangelog -l "$tree/debian/changelog" -S Version)
[ "${package_version%-*}" = "$version" ] || die "pkg/debian/changelog is of $package_version, Cargo.toml of $version"

cargo_builds_here
(cd "$tree" && DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage --build=binary --no-sign >"$scratch/log" 2>&1) ||
    { tail -n 60 "$scratch/log"; exit 1; }
mv "$scratch"/*.deb "$dist"
arch=$(dpkg --print-architecture)
debs=("$dist/awrite_${package_version}_$arch.deb" "$dist/libawrite1_${package_version}_$arch.deb"
    "$dist/libawrite-dev_${package_version}_$arch.deb")
ls -l "${debs[@]}"
[ "${1:-}" = try ] || exit 0

# No bug is closed by this version.
lintian --fail-on error,warning --allow-root --suppress-tags initial-upload-closes-no-bugs "${debs[@]}"
say "lintian has nothing to say"

everything() {
    find /etc /lib /usr /var -xdev \( -path "$target_dir" -o -path "$PWD" -o -path /var/cache \) -prune -o \
        -iname '*awrite*' -print | sort
}
everything >"$scratch/before"
trap 'dpkg -P libawrite-dev libawrite1 awrite >/dev/null 2>&1 || true; rm -rf "$scratch"' EXIT
dpkg -i "${debs[@]}" >/dev/null
/usr/bin/awrite --version
for name in atomic-write awrite awrite-lock awrite-housekeep; do
    "/usr/bin/$name" --help >/dev/null
    [ -e "/usr/share/man/man1/$name.1.gz" ]
    (cd / && man "$name" 2>/dev/null) | grep -q "^NAME" || die "no manual page of $name"
done
bash pkg/build/smoke.sh /usr/bin
pkg-config --modversion awrite
# shellcheck disable=SC2046
cc -o "$scratch/rotate" examples/counter.c $(pkg-config --cflags --libs awrite)
"$scratch/rotate" "$scratch/count" 1
[ "$(cat "$scratch/count")" = 1 ]
if command -v systemd-analyze >/dev/null; then
    systemd-analyze verify /lib/systemd/system/awrite-housekeep.{service,timer} \
        /lib/systemd/system/awrite-recover@.service
else
    say "no systemd here: its units are not verified"
fi
dpkg -r libawrite-dev libawrite1 awrite >/dev/null
# Until the package is purged, systemd's helper remembers that the timer was not enabled.
everything | grep -v -e ^/var/lib/dpkg -e ^/var/lib/systemd >"$scratch/after" || true
diff <(grep -v -e ^/var/lib/dpkg -e ^/var/lib/systemd "$scratch/before") "$scratch/after" || die "something has stayed"
dpkg -P awrite >/dev/null
everything >"$scratch/after"
diff "$scratch/before" "$scratch/after" || die "something has stayed"
say "installed, tried, removed without a trace"
