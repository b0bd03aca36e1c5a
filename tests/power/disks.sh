# shellcheck shell=bash
# The disks that run.sh and cuts.sh give to a guest, and that qemu records. To be sourced.

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

# Makes disks/KIND, what each begins with (KIND.base), an empty record of its writes (KIND.log), and qemu's options for
# them: ${disks[@]}.
make_disks() {
    local kind
    mkdir disks
    make_disk ext4 60
    make_disk xfs 310
    make_disk btrfs 128
    disks=()
    for kind in ext4 xfs btrfs; do
        cp --sparse=always "disks/$kind" "$kind.base"
        : >"$kind.log"
        disks+=(
            -blockdev "driver=file,filename=disks/$kind,node-name=$kind-file"
            -blockdev "driver=raw,file=$kind-file,node-name=$kind-raw"
            -blockdev "driver=file,filename=$kind.log,node-name=$kind-log"
            -blockdev "driver=blklogwrites,node-name=$kind,discard=unmap,file=$kind-raw,log=$kind-log,log-sector-size=512"
            -device "virtio-blk-pci,drive=$kind"
        )
    done
}

# add_program NAME: puts a program of this machine into the guest, with the libraries that it needs.
add_program() {
    local library
    mkdir -p root/bin
    cp "$(command -v "$1")" root/bin/
    for library in $(ldd "$(command -v "$1")" | grep -o '/[^ ]*'); do
        mkdir -p "root$(dirname "$library")"
        cp "$library" "root$library"
    done
}
