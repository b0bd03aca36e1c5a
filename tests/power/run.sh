#!/usr/bin/env bash
# Cuts the power at every single write to the disk, on ext4, xfs and btrfs. It boots a small virtual machine whose disks
# qemu records, runs guest.sh in it, and lets replay.py mount every state that the disks have been in. To mount needs
# root. The short form is one round of writes and takes about a minute. SETS is how often a set of few files is replaced.
#
# usage: tests/power/run.sh AWRITE [ROUNDS [SUBSETS [SETS]]]      a statically linked awrite
#
# Needs what tests/guest/guest.sh needs, and strace, xfsprogs, btrfs-progs, python3. If something is missing it says so
# and does nothing; with CI=true it fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
guest=power
# shellcheck source=tests/guest/guest.sh
. "$here/../guest/guest.sh"
# shellcheck source=tests/power/disks.sh
. "$here/disks.sh"

[ $# -ge 1 ] || { echo "usage: $0 AWRITE [ROUNDS [SUBSETS [SETS]]]" >&2; exit 1; }
awrite=$(realpath "$1")
rounds=${2:-1}
guest_needs mkfs.xfs mkfs.btrfs python3 strace ldd
[ "$(id -u)" = 0 ] || guest_skip root

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
guest_kernel
add_program strace
guest_initrd "$awrite" "$here/guest.sh" virtio_pci virtio_blk crc32c_generic ext4 xfs btrfs

make_disks
guest_boot $((300 * rounds)) "rounds=$rounds sets=${4:-$rounds}" "${disks[@]}" | tee serial | grep --line-buffered -a '^power:' || true
grep -q '^power: all written$' serial || {
    echo "power: failed; the last lines of the guest:"
    tail -n 20 serial | cut -c 1-300
    exit 1
}

jobs=()
for kind in ext4 xfs btrfs; do
    python3 "$here/replay.py" "$kind" "$kind.base" "$kind.log" serial "$awrite" "${3:-1}" &
    jobs+=($!)
done
for job in "${jobs[@]}"; do
    wait "$job"
done
