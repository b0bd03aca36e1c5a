#!/usr/bin/env python3
"""The cases of run.sh: what awrite promises on two machines, and what it does not.

Three machines: `server` exports a directory by NFS, `a` and `b` use it at /mnt. The clock of a is an hour ahead of the
server's, and b's is an hour behind, except where a case sets them. A holder counts as dead after three seconds.

usage: control.py [all|CASE...]     in a directory with vmlinuz, initrd and disk
"""

import random
import sys
import time
import traceback

from machine import Failed, Machine, until

# For what is to lose its lock; and for what must not, however slow this host is.
SOON, LATE = "AWRITE_STALE_AFTER=3", "AWRITE_STALE_AFTER=300"
HOUR = 3600


class Lab:
    """The three machines, and what the cases do with them."""

    def __init__(self, thorough):
        self.thorough = thorough
        nic = ["-device", "virtio-net-pci,netdev="]

        def cable(end, path, role):
            return ["-netdev", f"stream,id={end},server={role},addr.type=unix,addr.path={path}", nic[0], nic[1] + end]

        self.server = Machine("server", *cable("neta", "a.net", "on"), *cable("netb", "b.net", "on"),
                              "-drive", "file=disk,format=raw,if=virtio")
        self.a = Machine("a", *cable("net", "a.net", "off"))
        self.b = Machine("b", *cable("net", "b.net", "off"))
        for machine in self.all():
            machine.ready()
        self.apart()

    def all(self):
        return self.server, self.a, self.b

    def apart(self):
        self.server.set_clock(0)
        self.a.set_clock(HOUR)
        self.b.set_clock(-HOUR)

    def only(self, *names):
        """Nothing but these stays in the export. An NFS client removes what it had open a moment later."""
        self.server.until(f'[ "$(ls -A /export | sort | xargs)" = "{" ".join(sorted(names))}" ]')

    def content(self, name, expected):
        got = self.server.run(f"cat /export/{name}").strip()
        if got != expected:
            raise Failed(f"{name}: {got!r}, not {expected!r}")

    def clear(self):
        for machine in self.a, self.b:
            machine.run("cd /tmp; rm -f go in ok stop broken")
        self.server.run("rm -rf /export/*")

    def hold(self, machine, options="", stale=SOON):
        """An awrite of f, whose COMMAND ends when the file go is there. Returns when COMMAND runs."""
        job = machine.start(f"{stale} awrite -q {options} /mnt/f -- sh -c "
                            "'cat >/dev/null; : >/tmp/in; until [ -e /tmp/go ]; do usleep 20000; done; echo mine'")
        machine.until("[ -e /tmp/in ]")
        return job

    def count_up(self, machine, stale, often=None):
        """Increments the counter so often, or until the file stop is there. Each increment also makes sure that it is
        alone. One that has lost its lock does not count, and any other failure ends it."""
        turns = f"seq {often}" if often else "yes"
        return machine.start(
            f"{turns} | while read _; do [ ! -e /tmp/stop ] || break; got=0; "
            f"{stale} awrite -q /mnt/count -- sh -c 'read n; echo $((n + 1))' || got=$?; "
            "case $got in 0) echo >>/tmp/ok ;; 2) ;; *) echo status $got; exit 1 ;; esac; done")

    def counted(self, machine):
        return int(machine.run("touch /tmp/ok; wc -l </tmp/ok"))

    def goes_on(self, machine, times=2):
        """Waits until the machine has incremented the counter some more."""
        wanted = self.counted(machine) + times
        machine.until(f'[ "$(wc -l </tmp/ok)" -ge {wanted} ]')

    def all_counted(self, *jobs):
        for machine in self.a, self.b:
            machine.run(": >/tmp/stop")
        for job in jobs:
            job.ends(0)
        self.content("count", str(self.counted(self.a) + self.counted(self.b)))
        self.only("count")

    def lease(self, machine, owner, ttl, options="-n", status=0, says=""):
        return machine.run(f"awrite lock -q --acquire --owner {owner} --ttl {ttl} {options} /mnt/f", status, says).strip()

    def write(self, machine, text, options="", status=0, says=""):
        return machine.run(f"echo {text} | {LATE} awrite -q {options} /mnt/f", status, says)


def exclusion(lab):
    """No update is lost and no two are in at once, though both machines want the lock all the time."""
    lab.server.run("echo 0 >/export/count")
    alone = "mkdir /mnt/alone && read n && echo $((n + 1)) && rmdir /mnt/alone"
    often = 25 if lab.thorough else 5
    loop = f"for n in $(seq {often}); do {LATE} awrite -q /mnt/count -- sh -c '{alone}' || exit; done"
    for job in [machine.start(loop) for machine in (lab.a, lab.b) * 2]:
        job.ends(0)
    lab.content("count", str(4 * often))
    lab.only("count")


def partition(lab):
    """A holder that is cut off loses its lock, and finds out before it commits."""
    for early in (True, False) if lab.thorough else (True,):
        lab.write(lab.a, "before")
        job = lab.hold(lab.a)
        lab.a.cut()
        lab.write(lab.b, "theirs", "-t 100")
        # It comes to its commit before it hears of anything, or after that.
        if early:
            lab.a.run(": >/tmp/go")
        lab.a.join()
        if not early:
            lab.a.until("ls /mnt >/dev/null")
            lab.a.run(": >/tmp/go")
        job.ends(2, "Lock lost")
        lab.content("f", "theirs")
        lab.only("f")
        lab.clear()


def command_ends_first(lab):
    """With --kill-after, the COMMAND of a machine that is cut off has ended before another machine has its lock, or the
    lease that it runs under."""
    lab.write(lab.a, "before")
    lives = "-- sh -c 'trap : TERM; : >/tmp/in; while :; do usleep 20000; : >/tmp/alive; done'"
    for machine in lab.all():
        machine.set_clock(0)
    for options, taken, says in (
        ("", "/mnt/f -- true", "Lock lost"),
        ("--owner A --ttl 7s", "--acquire --owner B --ttl 1m /mnt/f", "the lease is lost"),
    ):
        job = lab.a.start(f"AWRITE_STALE_AFTER=7 awrite lock -q --kill-after 2 {options} /mnt/f {lives}")
        lab.a.until("[ -e /tmp/in ]")
        lab.a.cut()
        lab.b.run(f"{LATE} awrite lock -q -t 200 {taken}", deadline=250)
        # A living one would have made it again.
        lab.a.run("rm -f /tmp/alive /tmp/in; usleep 1000000; [ ! -e /tmp/alive ]")
        lab.a.join()
        job.ends(2, says)
    lab.b.run("awrite lock --release --owner B /mnt/f")
    lab.only("f")
    lab.apart()


def suspended(lab):
    """A holder that stands still for longer than its stale time writes over nothing."""
    lab.write(lab.a, "before")
    job = lab.hold(lab.a)
    lab.a.suspend()
    lab.write(lab.b, "theirs", "-t 100")
    lab.a.go_on()
    lab.a.run(": >/tmp/go")
    job.ends(2, "Lock lost")
    lab.content("f", "theirs")
    lab.only("f")


def suspended_anywhere(lab):
    """The same at any moment: each increment that succeeded has counted, and no other."""
    lab.server.run("echo 0 >/export/count")
    jobs = [lab.count_up(lab.a, SOON), lab.count_up(lab.b, LATE)]
    for _ in range(12 if lab.thorough else 2):
        lab.goes_on(lab.a, 1)
        # The moment is left to chance; nothing is waited for here.
        time.sleep(random.uniform(0, 0.3))
        lab.a.suspend()
        lab.goes_on(lab.b)
        lab.a.go_on()
    lab.all_counted(*jobs)


def cut_anywhere(lab):
    """The same with the cable."""
    lab.server.run("echo 0 >/export/count")
    jobs = [lab.count_up(lab.a, SOON), lab.count_up(lab.b, LATE)]
    for _ in range(8 if lab.thorough else 1):
        lab.goes_on(lab.a, 1)
        time.sleep(random.uniform(0, 0.3))
        lab.a.cut()
        lab.goes_on(lab.b)
        lab.a.join()
    lab.all_counted(*jobs)


def server_restart(lab):
    """The server is reset while both write and one holds a lock: all go on, and the lock is held all the time."""
    lab.server.run("echo 0 >/export/count; echo before >/export/f; sync")
    jobs = [lab.count_up(machine, LATE) for machine in (lab.a, lab.b)]
    holder = lab.hold(lab.a, stale=LATE)
    for _ in range(3 if lab.thorough else 1):
        for machine in lab.a, lab.b:
            lab.goes_on(machine, 1)
        lab.server.reset()
        lab.server.ready()
        for machine in lab.a, lab.b:
            lab.goes_on(machine)
        lab.write(lab.b, "theirs", "-n", 2, "held by PID")
    lab.a.run(": >/tmp/go")
    holder.ends(0)
    lab.content("f", "mine")
    lab.server.run("rm /export/f")
    lab.all_counted(*jobs)


def clocks(lab):
    """Link locks need no clock: not one that is an hour off, and not one that is set meanwhile."""
    lab.write(lab.a, "before")
    for holder, other in [(lab.a, lab.b), (lab.b, lab.a)][not lab.thorough:]:
        job = lab.hold(holder, stale="AWRITE_STALE_AFTER=8")
        for step in (-2 * HOUR, 2 * HOUR)[not lab.thorough:]:
            holder.set_clock(step)
            # Longer than the stale time.
            lab.write(other, "theirs", "-t 9", 2, "held by PID")
        holder.run(": >/tmp/go")
        job.ends(0)
        lab.content("f", "mine")
        holder.run("rm /tmp/go /tmp/in")
        lab.apart()
    lab.only("f")


def lease(lab):
    """A lease ends for a machine that is cut off, the next token is greater, and what comes too late is refused."""
    for machine in lab.all():
        machine.set_clock(0)
    lab.write(lab.a, "before")
    old = lab.lease(lab.a, "A", "5s")
    lab.a.cut()
    lab.lease(lab.b, "B", "60s", status=2, says="Leased by A")
    new = lab.lease(lab.b, "B", "60s", "-t 100")
    if int(new) <= int(old):
        raise Failed(f"token {new} after {old}")
    lab.write(lab.b, "theirs", f"--owner B --token {new}")
    lab.a.join()
    lab.write(lab.a, "late", f"--owner A --token {old}", 2)
    lab.a.run(f"awrite lock --refresh --owner A --token {old} /mnt/f", 2)
    lab.content("f", "theirs")
    lab.b.run("awrite lock --release --owner B /mnt/f")
    lab.only("f")
    lab.apart()


def lease_by_clocks(lab):
    """How long a lease lasts on another machine is not promised when their clocks differ. That what comes too late is
    refused is."""
    lab.write(lab.a, "before")
    # b's clock is two hours behind: there it lasts on. Whoever may write the file can end it.
    old = lab.lease(lab.a, "A", "1s")
    lab.a.until("awrite lock -q --status /mnt/f >/dev/null")
    lab.lease(lab.b, "B", "60s", status=2, says="Leased by A")
    lab.b.run("awrite lock -q --break /mnt/f")
    new = lab.lease(lab.b, "B", "60s")
    if int(new) <= int(old):
        raise Failed(f"token {new} after {old}")
    # a's clock is two hours ahead: there it has ended already.
    newer = lab.lease(lab.a, "A", "60s")
    if int(newer) <= int(new):
        raise Failed(f"token {newer} after {new}")
    lab.write(lab.b, "late", f"--owner B --token {new}", 2)
    lab.write(lab.a, "theirs", f"--owner A --token {newer}")
    lab.content("f", "theirs")
    # Released, so that nothing tells the next token to be greater.
    lab.a.run("awrite lock --release --owner A /mnt/f")
    smaller = lab.lease(lab.b, "B", "60s")
    if int(smaller) >= int(newer):
        raise Failed("awrite-lock(1) says that this token can be smaller")
    lab.b.run("awrite lock --release --owner B /mnt/f")
    lab.only("f")


def sets(lab):
    """A machine dies while it replaces three files: whoever has their locks next sees all old or all new."""
    for name in "xyz":
        lab.server.run(f"echo 0 >/export/{name}")
    write = (f"mkdir -p /tmp/new; n=0; while :; do n=$((n + 1)); for f in x y z; do echo $n >/tmp/new/$f; done; "
             f"{SOON} awrite -q --into /mnt /tmp/new/x /tmp/new/y /tmp/new/z && echo >>/tmp/ok; done")
    for _ in range(6 if lab.thorough else 1):
        lab.a.start(write)
        lab.goes_on(lab.a, 1)
        time.sleep(random.uniform(0, 0.3))
        lab.a.reset()
        seen = lab.b.run(f"cd /mnt && {LATE} awrite lock -q -t 100 x y z -- cat x y z").split()
        if len(seen) != 3 or len(set(seen)) != 1:
            raise Failed(f"x, y, z: {seen}")
        lab.a.ready()
    lab.apart()
    # The next ones clear away what the dead have left. Nobody clears away what an NFS client had open, and removed, when it
    # died: .nfs…
    left = '"$(ls -A | grep -v "^[.]nfs" | xargs)"'
    lab.b.until(f'{{ {SOON} awrite lock -q x y z -- true; [ {left} = "x y z" ]; }}', where="/mnt")


SHORT = [exclusion, partition, command_ends_first, suspended_anywhere, server_restart, clocks, lease, lease_by_clocks,
         sets]
ALL = [*SHORT, suspended, cut_anywhere]


def main(arguments):
    thorough = arguments == ["all"]
    named = {case.__name__: case for case in ALL}
    unknown = [name for name in arguments if name not in named]
    if unknown and not thorough:
        sys.exit(f"control.py: no case {unknown[0]}; there are: {' '.join(named)}")
    cases = ALL if thorough else [named[name] for name in arguments] or SHORT
    seed = random.randrange(1 << 32) if thorough else 1
    random.seed(seed)
    try:
        try_all(cases, thorough, seed)
    finally:
        for machine in Machine.started:
            machine.kill()
    print(f"machines: all {len(cases)} passed")


def try_all(cases, thorough, seed):
    began = time.monotonic()
    lab = Lab(thorough)
    print(f"machines: up after {time.monotonic() - began:.0f} s (seed {seed})", flush=True)
    for case in cases:
        began = time.monotonic()
        try:
            lab.clear()
            case(lab)
        except Failed as failure:
            print(f"not ok {case.__name__}: {failure}")
            print("".join("  " + line for line in traceback.format_exc().splitlines(True)[-6:]))
            for machine in lab.all():
                tell(machine)
            sys.exit("machines: failed")
        print(f"ok {case.__name__} ({time.monotonic() - began:.0f} s)", flush=True)


def tell(machine):
    """Says what is there, if the machine still answers."""
    try:
        command = "ls -la /export/ 2>/dev/null; head -c 400 /export/*.lock /export/*.lease 2>/dev/null; ps | grep awrite"
        print(f"{machine.name}: {machine.start(command).wait(5)[1]}")
    except (Failed, OSError) as failure:
        print(f"{machine.name}: {failure}")


if __name__ == "__main__":
    main(sys.argv[1:])
