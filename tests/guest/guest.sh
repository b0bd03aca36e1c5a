# shellcheck shell=bash
# A small virtual machine with Debian's cloud kernel, for tests that this machine's kernel or file systems cannot do.
# It is built in the current directory: a kernel that is downloaded and unpacked, busybox, and a script that runs as
# init. Needs no root and installs nothing. To be sourced; `guest` is the name of the test.
#
# Needs the Debian packages qemu-system-x86, busybox-static, cpio, e2fsprogs, and a network or AWRITE_GUEST_KERNEL=DIR:
# a directory with linux-image-*-cloud-amd64_*.deb in it.

PATH=$PATH:/sbin:/usr/sbin

# Ends the test, because $1 is missing. With CI=true that is a failure.
guest_skip() {
    echo "${guest:?}: not tried, for want of $1"
    [ "${CI:-}" != true ]
    exit
}

# Checks that the named programs are installed, and those that every guest needs.
guest_needs() {
    local tool
    for tool in qemu-system-x86_64 busybox cpio gzip mkfs.ext4 dpkg "$@"; do
        command -v "$tool" >/dev/null || guest_skip "$tool"
    done
    [ "$(uname -m)" = x86_64 ] || guest_skip "an x86_64 machine"
}

guest_static() {
    local program
    for program; do
        if readelf -l "$program" 2>/dev/null | grep -q 'INTERP'; then
            echo "${guest:?}: $program is not statically linked" >&2
            exit 1
        fi
    done
}

# Unpacks the kernel and its modules into ./kernel.
guest_kernel() {
    local package debs
    if [ -n "${AWRITE_GUEST_KERNEL:-}" ]; then
        debs=("$AWRITE_GUEST_KERNEL"/linux-image-*-cloud-amd64_*.deb)
    else
        package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
            awk '/Depends: linux-image-/ { print $2; exit }')
        [ -n "$package" ] || guest_skip "the Debian package linux-image-cloud-amd64"
        apt-get download -qq "$package" 2>download.log || guest_skip "a network to get $package from"
        debs=("$package"_*.deb)
    fi
    [ -e "${debs[0]}" ] || guest_skip "a kernel"
    dpkg -x "${debs[0]}" kernel
    mv kernel/boot/vmlinuz-* vmlinuz
}

# Puts dependencies first.
guest_add_modules() {
    local module
    for module; do
        [ -z "${guest_seen[$module]:-}" ] || continue
        guest_seen[$module]=1
        # shellcheck disable=SC2086 # a list of paths without blanks
        guest_add_modules ${guest_deps[$module]:-}
        guest_order+=("$module")
    done
}

# guest_initrd AWRITE INIT MODULE...: makes ./initrd from the files in ./root, the program, the script to run as init
# (which sources boot.sh), and the modules with all that they need. /modules/order has the order to load them in.
guest_initrd() {
    local awrite=$1 init=$2 busybox modules module name deps
    shift 2
    busybox=$(command -v busybox)
    guest_static "$awrite" "$busybox"
    modules=$(echo kernel/lib/modules/*)
    busybox depmod -b kernel "$(basename "$modules")"
    declare -A guest_deps=() guest_seen=()
    guest_order=()
    while IFS=: read -r module deps; do
        guest_deps[$module]=$deps
    done <"$modules/modules.dep"
    for name; do
        for module in "${!guest_deps[@]}"; do
            # What is built into the kernel has no file.
            [[ $module != */"$name".ko ]] || guest_add_modules "$module"
        done
    done
    mkdir -p root/{bin,dev,etc,mnt,proc,run,sys,tmp,modules}
    cp "$busybox" root/bin/busybox
    cp "$awrite" root/bin/awrite
    cp "$init" root/init
    cp "$(dirname "${BASH_SOURCE[0]}")/boot.sh" root/boot.sh
    chmod 755 root/init root/bin/*
    for module in "${guest_order[@]}"; do
        cp "$modules/$module" root/modules/
        echo "/modules/$(basename "$module")" >>root/modules/order
    done
    (cd root && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >initrd
}

# guest_boot SECONDS WORDS OPTION...: boots the guest for so long at most, with WORDS on the kernel's command line and
# qemu's OPTIONs. The guest's output goes to standard output.
guest_boot() {
    local seconds=$1 words=$2
    shift 2
    # Without hardware acceleration it works everywhere, in a container too.
    timeout "$seconds" qemu-system-x86_64 -accel tcg,thread=multi -smp 2 -m 512 -display none -no-reboot -nodefaults \
        -kernel vmlinuz -initrd initrd -append "console=ttyS0 quiet panic=-1 mitigations=off $words" \
        -serial stdio "$@" </dev/null 2>&1 | tr -d '\r'
}
