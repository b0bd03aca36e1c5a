#!/usr/bin/env bash
# Tries awrite on two machines and an NFS server: three small virtual machines with Debian's cloud kernel, joined by a
# network of their own. Cables are cut, machines are suspended and reset, and their clocks are an hour apart. control.py
# has the cases. Needs no root and installs nothing; opens no port. The short form takes about a minute.
#
# usage: tests/machines/run.sh AWRITE [all|CASE...]    a statically linked awrite; all: the long form
#
# Needs what tests/guest/guest.sh says, and python3. Without it it says so and does nothing; with CI=true it fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
guest=machines
# shellcheck source=tests/guest/guest.sh
. "$here/../guest/guest.sh"

[ $# -ge 1 ] || { echo "usage: $0 AWRITE [all|CASE...]" >&2; exit 1; }
awrite=$(realpath "$1")
shift
guest_needs apt-cache python3

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
guest_kernel
mkdir -p root/disk
guest_initrd "$awrite" "$here/guest.sh" virtio_pci virtio_blk virtio_net ext4 nfsd nfs nfsv4
truncate -s 64M disk
mkfs.ext4 -q disk
python3 -B "$here/control.py" "$@"
