#!/usr/bin/env bash
# Tries awrite on real NFS: boots a small virtual machine with Debian's cloud kernel, which exports a directory to
# itself and to a second client in namespaces of its own, and runs guest.sh in it. Needs no root and installs nothing;
# takes less than a minute.
#
# usage: tests/nfs/run.sh AWRITE        a statically linked awrite
#
# Needs the Debian packages qemu-system-x86, busybox-static, cpio, e2fsprogs, and a network or AWRITE_GUEST_KERNEL=DIR:
# a directory with linux-image-*-cloud-amd64_*.deb in it. Without them it says so and does nothing; with CI=true it
# fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/sbin:/usr/sbin

[ $# = 1 ] || { echo "usage: $0 AWRITE" >&2; exit 1; }
awrite=$(realpath "$1")

skip() {
    echo "nfs: not tried, for want of $1"
    [ "${CI:-}" != true ]
    exit
}

for tool in qemu-system-x86_64 busybox cpio gzip mkfs.ext4 dpkg; do
    command -v "$tool" >/dev/null || skip "$tool"
done
[ "$(uname -m)" = x86_64 ] || skip "an x86_64 machine"
busybox=$(command -v busybox)
for program in "$awrite" "$busybox"; do
    if readelf -l "$program" 2>/dev/null | grep -q 'INTERP'; then
        echo "nfs: $program is not statically linked" >&2
        exit 1
    fi
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# The kernel and its modules, unpacked and not installed.
if [ -n "${AWRITE_GUEST_KERNEL:-}" ]; then
    debs=("$AWRITE_GUEST_KERNEL"/linux-image-*-cloud-amd64_*.deb)
else
    package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }')
    [ -n "$package" ] || skip "the Debian package linux-image-cloud-amd64"
    apt-get download -qq "$package" 2>download.log || skip "a network to get $package from"
    debs=("$package"_*.deb)
fi
[ -e "${debs[0]}" ] || skip "a kernel"
dpkg -x "${debs[0]}" kernel
image=(kernel/boot/vmlinuz-*)
version=${image[0]#kernel/boot/vmlinuz-}
busybox depmod -b kernel "$version"
modules=kernel/lib/modules/$version

# The modules asked for and all they need, in the order in which they can be loaded.
declare -A needs=() seen=()
while IFS=: read -r module deps; do
    needs[$module]=$deps
done <"$modules/modules.dep"
order=()
add() {
    local module
    for module; do
        [ -z "${seen[$module]:-}" ] || continue
        seen[$module]=1
        # shellcheck disable=SC2086 # a list of paths without blanks
        add ${needs[$module]:-}
        order+=("$module")
    done
}
for name in virtio_pci virtio_blk veth ext4 nfsd nfs nfsv4; do
    for module in "${!needs[@]}"; do
        # What is built into the kernel has no file.
        [[ $module != */"$name".ko ]] || add "$module"
    done
done

mkdir -p root/{bin,dev,etc,export,mnt,proc,run,sys,tmp,modules,var/lib/nfs/v4recovery}
cp "$busybox" root/bin/busybox
cp "$awrite" root/bin/awrite
cp "$here/guest.sh" root/init
chmod 755 root/init root/bin/*
for module in "${order[@]}"; do
    cp "$modules/$module" root/modules/
    echo "/modules/$(basename "$module")" >>root/modules/order
done
(cd root && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >initrd
truncate -s 64M disk
mkfs.ext4 -q disk

# No acceleration: it works everywhere, in a container too.
timeout 300 qemu-system-x86_64 -accel tcg,thread=multi -smp 2 -m 512 -display none -no-reboot -nodefaults \
    -kernel "${image[0]}" -initrd initrd -append "console=ttyS0 quiet panic=-1 mitigations=off" \
    -serial stdio -drive file=disk,format=raw,if=virtio </dev/null 2>&1 | tr -d '\r' | tee log |
    grep --line-buffered -a -e '^ok' -e '^not ok' -e '^  ' -e '^nfs:' || true
grep -q '^nfs: all [0-9]* passed$' log || {
    echo "nfs: failed; the last lines of the guest:"
    tail -n 40 log | cut -c 1-300
    exit 1
}
