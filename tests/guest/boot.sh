# The beginning of every script that runs as init in a guest: the commands of busybox, the kernel's file systems, and
# the modules. To be sourced; `guest` is the name of the test.
# shellcheck shell=ash
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

# Prints the result and powers the guest off.
finish() {
    echo "${guest:?}: $1"
    # Give the serial line time to send everything.
    sync
    echo o >/proc/sysrq-trigger
    sleep 60
}

while read -r module; do
    insmod "$module" || finish "cannot load $module"
done </modules/order
