#!/usr/bin/env bash
# try-openrc.sh [DIR]: tries pkg/openrc with Debian's openrc, unpacked over a copy-on-write view of this system, in a
# chroot (root; Linux). The awrite that it uses is in DIR, or else built in this tree (target/release, target/debug), or
# else on PATH.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
if [ "${1:-}" != inside ]; then
    find_applets "${1:+$(cd "$OLDPWD" && realpath "$1")}"
    # In a mount namespace of its own, which removes the mounts when it ends.
    unshare --mount bash pkg/build/try-openrc.sh inside "$applets/awrite-housekeep"
    exit
fi
housekeep=$2

mount -t tmpfs tmpfs "$scratch"
trap 'umount -R "$scratch"; rm -rf "$scratch"' EXIT
root=$scratch/root
mkdir "$root" "$scratch/upper" "$scratch/work" "$scratch/debs"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
(cd "$scratch/debs" && apt-get download -qq -o APT::Sandbox::User=root openrc libeinfo1 librc1)
for deb in "$scratch"/debs/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root"; done
cp "$housekeep" "$root/usr/bin/awrite-housekeep"
install -D -m 755 pkg/openrc/awrite-housekeep.initd "$root/etc/init.d/awrite-housekeep"
install -D -m 644 pkg/openrc/awrite-housekeep.confd "$root/etc/conf.d/awrite-housekeep"
install -D -m 755 pkg/openrc/awrite-recover.initd "$root/etc/init.d/awrite-recover"
install -D -m 644 pkg/openrc/awrite-recover.confd "$root/etc/conf.d/awrite-recover"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
# The state that openrc leaves after boot.
for state in exclusive failed hotplugged inactive scheduled started starting stopping wasinactive; do
    mkdir -p "$root/run/openrc/$state"
done
touch "$root/run/openrc/softlevel"
mkdir "$root/run/test"
# Debian's openrc asks for it.
touch "$root/etc/insserv.conf"
touch "$root/run/test/old" "$root/run/test/new"
touch -d '8 days ago' "$root/run/test/old.lock"
touch "$root/run/test/new.lock"
run=awrite-housekeep
service() { chroot "$root" /sbin/openrc-run "/etc/init.d/$run" --nocolor --nodeps "$@"; }

say "with no directory named it does nothing"
service start
[ -e "$root/run/test/old.lock" ]
service zap
say "with one, it clears what is old there"
echo 'directories=/run/test' >>"$root/etc/conf.d/awrite-housekeep"
service start
[ ! -e "$root/run/test/old.lock" ] && [ -e "$root/run/test/new.lock" ]
service status
service zap
say "one that is not there is an error"
echo 'directories=/nowhere' >>"$root/etc/conf.d/awrite-housekeep"
! service start || die "it said that all was well"

run=awrite-recover
say "what finishes interrupted sets runs where it is told to"
service start
service zap
mkdir "$root/run/test/conf"
echo 'directories=/run/test/conf' >>"$root/etc/conf.d/awrite-recover"
service start
service zap
echo 'directories=/nowhere' >>"$root/etc/conf.d/awrite-recover"
! service start || die "it said that all was well"
