#!/usr/bin/env bash
# Builds the packages for Fedora and its relatives: awrite, awrite-store-etcd, libawrite, libawrite-devel; in
# target/dist. Needs rpmbuild.
#
#   rpm.sh       builds them
#   rpm.sh try   also installs them into a directory of their own (as root), tries them and removes them
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
need rpmbuild rpm

grep -q "^Version: *$version\$" pkg/rpm/awrite.spec || die "pkg/rpm/awrite.spec is not of version $version"
top=$scratch/top
mkdir -p "$top/SOURCES"
copy_source "$scratch/awrite-$version"
pack "awrite-$version" "$top/SOURCES/awrite-$version.tar.gz"

# Debian has no systemd-rpm-macros. What they do, in the words of systemctl.
macros=()
if [ "$(rpm --eval '%{?systemd_post}')" = "" ]; then
    # shellcheck disable=SC2016
    printf '%%%s\n' '_unitdir %{_prefix}/lib/systemd/system' 'systemd_requires %{nil}' \
        'systemd_post() if [ $1 -eq 1 ] && command -v systemctl >/dev/null; then systemctl --no-reload preset %* || :; fi' \
        'systemd_preun() if [ $1 -eq 0 ] && command -v systemctl >/dev/null; then systemctl --no-reload disable --now %* || :; fi' \
        'systemd_postun() if command -v systemctl >/dev/null; then systemctl daemon-reload || :; fi' >"$scratch/macros"
    macros=(--load "$scratch/macros")
fi

cargo_builds_here
# Do not check the build dependencies: cargo may come from rustup, and Debian's rpm knows no packages at all.
# With SOURCE_DATE_EPOCH, the same bytes whenever it is built.
rpmbuild -bb --nodeps --define "_topdir $top" --define "_buildhost localhost" \
    "${macros[@]}" --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
    pkg/rpm/awrite.spec >"$scratch/log" 2>&1 ||
    { tail -n 60 "$scratch/log"; exit 1; }
find "$top/RPMS" -name '*.rpm' -exec mv -t "$dist" {} +
rpms=("$dist"/awrite-"$version"-1*.rpm "$dist"/awrite-store-etcd-"$version"-1*.rpm "$dist"/libawrite-"$version"-1*.rpm
    "$dist"/libawrite-devel-"$version"-1*.rpm)
ls -l "${rpms[@]}"
[ "${1:-}" = try ] || exit 0

for package in "${rpms[@]}"; do
    say "$(basename "$package")"
    rpm -qlp "$package"
    rpm -qp --requires "$package" | grep -v '^rpmlib' | sed 's/^/    needs /'
done
for when in postinstall preuninstall postuninstall; do
    rpm -qp --scripts "${rpms[0]}" | grep -A 1 "^$when " | tee "$scratch/script"
    grep -q systemctl "$scratch/script" || die "no script $when"
done
[ "$(rpm -qp --changelog "${rpms[0]}" | grep -c -- "- $version-")" = 1 ] || die "no changelog of $version"
root=$scratch/root
mkdir "$root"
rpm --root "$root" --initdb
# Do not check dependencies: the distribution's packages are not in this directory.
rpm --root "$root" --nodeps --noscripts -i "${rpms[@]}"
bash pkg/build/smoke.sh "$root/usr/bin"
[ "$(readlink "$root/usr/bin/awrite-lock")" = awrite ]
"$root/usr/bin/awrite-store-etcds" --version
cmp "$root/usr/share/man/man1/awrite.1" pkg/man/awrite.1
rpm --root "$root" -V --nodeps awrite awrite-store-etcd libawrite libawrite-devel
rpm --root "$root" --nodeps --noscripts -e awrite awrite-store-etcd libawrite libawrite-devel
find "$root" -name '*awrite*' | tee "$scratch/stayed"
[ ! -s "$scratch/stayed" ] || die "something has stayed"
say "installed, tried, removed without a trace"
