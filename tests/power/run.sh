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

[ $# -ge 1 ] || { echo "usage: $0 AWRITE [ROUNDS [SUBSETS [SETS]]]" >&2; exit 1; }
awrite=$(realpath "$1")
rounds=${2:-1}
guest_needs mkfs.xfs mkfs.btrfs python3 strace ldd
[ "$(id -u)" = 0 ] || guest_skip root

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
guest_kernel
# With the libraries that it needs.
mkdir -p root/bin
cp "$(command -v strace)" root/bin/
for library in $(ldd "$(command -v strace)" | grep -o '/[^ ]*'); do
    mkdir -p "root$(dirname "$library")"
    cp "$library" "root$library"
done
guest_initrd "$awrite" "$here/guest.sh" virtio_pci virtio_blk crc32c_generic ext4 xfs btrfs

# make_disk KIND MEBIBYTES: disks/KIND, a partition with a file system between a mebibyte for the partition table and one
# for the marks.
make_disk() {
    local disk=disks/$1 kind=$1 size=$2
    truncate -s "${size}M" "$kind.fs"
    "mkfs.$kind" -q "$kind.fs" >mkfs.log
    truncate -s "$((size + 2))M" "$disk"
    python3 - "$disk" "$size" <<'END'
import struct, sys
size = int(sys.argv[2]) * 2048
with open(sys.argv[1], "r+b") as disk:
    disk.seek(446)
    for start, length in (2048, size), (2048 + size, 2048):
        disk.write(struct.pack("<4xB3xII", 0x83, start, length))
    disk.seek(510)
    disk.write(b"\x55\xaa")
END
    dd if="$kind.fs" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
}

mkdir disks
make_disk ext4 60
make_disk xfs 310
make_disk btrfs 128
options=()
for kind in ext4 xfs btrfs; do
    cp --sparse=always "disks/$kind" "$kind.base"
    : >"$kind.log"
    options+=(
        -blockdev "driver=file,filename=disks/$kind,node-name=$kind-file"
        -blockdev "driver=raw,file=$kind-file,node-name=$kind-raw"
        -blockdev "driver=file,filename=$kind.log,node-name=$kind-log"
        -blockdev "driver=blklogwrites,node-name=$kind,discard=unmap,file=$kind-raw,log=$kind-log,log-sector-size=512"
        -device "virtio-blk-pci,drive=$kind"
    )
done
guest_boot $((300 * rounds)) "rounds=$rounds sets=${4:-$rounds}" "${options[@]}" | tee serial | grep --line-buffered -a '^power:' || true
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
