#!/usr/bin/env bash
# Builds pkg/arch/PKGBUILD with makepkg, in target/dist. Then (as root) it installs the package with pacman in a
# directory of its own, tries it and removes it. Debian: makepkg, pacman-package-manager, libarchive-tools, zstd,
# fakeroot.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
need makepkg makepkg
need pacman pacman-package-manager
need bsdtar libarchive-tools
need fakeroot fakeroot
need zstd zstd

mkdir "$scratch/arch"
copy_source "$scratch/awrite-$version"
pack "awrite-$version" "$scratch/arch/awrite-$version.tar.gz"
fill pkg/arch/PKGBUILD "$scratch/arch/PKGBUILD" "$scratch/arch/awrite-$version.tar.gz"

cargo_builds_here
# makepkg refuses to run as root, so it runs in a user namespace with another user ID.
other=()
[ "$(id -u)" != 0 ] || other=(unshare --user --map-user=1000 --map-group=1000)
# --nodeps: Debian's pacman does not know what is installed. --nocheck: the tests have already run.
(cd "$scratch/arch" && PKGEXT=.pkg.tar.zst "${other[@]}" makepkg --nodeps --nocheck >"$scratch/log" 2>&1) ||
    { tail -n 60 "$scratch/log"; exit 1; }
mv "$scratch"/arch/*.pkg.tar.zst "$dist"
package=$dist/awrite-$version-1-$(uname -m).pkg.tar.zst
ls -l "$package"

root=$scratch/root
mkdir -p "$root/var/lib/pacman"
pacman=(pacman --root "$root" --dbpath "$root/var/lib/pacman" --noconfirm)
"${pacman[@]}" -U --noprogressbar -dd "$package" >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
"${pacman[@]}" -Ql awrite
"${pacman[@]}" -Qkk awrite
bash pkg/build/smoke.sh "$root/usr/bin"
"${pacman[@]}" -R --noprogressbar -dd awrite >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
find "$root" -name '*awrite*' -not -path "$root/var/*" | tee "$scratch/stayed"
[ ! -s "$scratch/stayed" ] || die "something has stayed"
say "installed, tried, removed without a trace"
