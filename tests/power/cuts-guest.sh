#!/bin/busybox sh
# The init of the guest that cuts.sh boots. On each disk, which qemu records, it replaces a file in several ways, and
# marks in the record when it begins, when the command has returned, and when the kernel has written everything. To the
# serial line:
#
#   way DISK NAME DIRECTORY NUMBER    the first of the three marks has this number
#   old DISK DIGEST, new DISK DIGEST
# shellcheck shell=ash
set -u
guest=cuts
# shellcheck source=tests/guest/boot.sh
. /boot.sh

# As in guest.sh: a discarded block on a partition of its own.
mark() {
    blkdiscard -o $((number * 512)) -l 512 "${device}2" || finish "cannot mark $device"
    number=$((number + 1))
}

content() {
    yes "$1" | head -c 3000000
}

# way NAME SCRIPT: the script replaces f by what `content new` prints.
way() {
    mkdir "/mnt/$disk/$1"
    cd "/mnt/$disk/$1" || finish "no directory"
    content old >f
    : >other
    sync -f .
    echo "way $disk $1 $1 $number"
    mark
    content new | sh -c "$2" || finish "failed: $2"
    mark
    # Another program syncs a file of its own. Then nothing happens for longer than the kernel keeps anything back.
    echo other >other
    sync other || finish "cannot sync"
    sleep 70
    mark
    sync -f .
}

on_disk() {
    disk=$1 device=$2 number=0
    mkdir -p "/mnt/$disk"
    mount -t "$disk" "${device}1" "/mnt/$disk" || finish "cannot mount $disk"
    # shellcheck disable=SC2016 # as a person types it
    way redirection 'cat > f'
    way mv 'cat > new && mv new f'
    way sponge 'TMPDIR=. sponge f'
    way awrite 'awrite f'
    cd / && umount "/mnt/$disk" && echo "cuts: $disk: written"
}

for kind in old new; do
    echo "$kind $(content "$kind" | md5sum | cut -d ' ' -f 1)"
done
# None of them syncs another's disk.
on_disk ext4 /dev/vda &
on_disk xfs /dev/vdb &
on_disk btrfs /dev/vdc &
wait
finish "all written"
