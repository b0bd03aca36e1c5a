#!/usr/bin/env bash
# Tries awrite on real NFS: boots a small virtual machine with Debian's cloud kernel, which exports a directory to
# itself and to a second client in namespaces of its own, and runs guest.sh in it. Needs no root and installs nothing;
# takes less than a minute.
#
# usage: tests/nfs/run.sh AWRITE        a statically linked awrite
#
# Needs what tests/guest/guest.sh says. Without it it says so and does nothing; with CI=true it fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
guest=nfs
# shellcheck source=tests/guest/guest.sh
. "$here/../guest/guest.sh"

[ $# = 1 ] || { echo "usage: $0 AWRITE" >&2; exit 1; }
awrite=$(realpath "$1")
guest_needs apt-cache

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
guest_kernel
mkdir -p root/export root/var/lib/nfs/v4recovery
guest_initrd "$awrite" "$here/guest.sh" virtio_pci virtio_blk veth ext4 nfsd nfs nfsv4
truncate -s 64M disk
mkfs.ext4 -q disk

guest_boot 300 "" -drive file=disk,format=raw,if=virtio | tee log |
    grep --line-buffered -a -e '^ok' -e '^not ok' -e '^  ' -e '^nfs:' || true
grep -q '^nfs: all [0-9]* passed$' log || {
    echo "nfs: failed; the last lines of the guest:"
    tail -n 40 log | cut -c 1-300
    exit 1
}
