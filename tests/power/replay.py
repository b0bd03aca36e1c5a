#!/usr/bin/env python3
"""Replays the writes of a guest to its disk (qemu's blklogwrites) up to every single write, as if the power had failed
there. Mounts the disk in that state, and compares the files with what must be there.

usage: replay.py KIND BASE LOG SERIAL AWRITE [SUBSETS]      as root

BASE is the disk before the writes, LOG the record, SERIAL the output of guest.sh, AWRITE the program. A state of the
disk is every prefix of the log, and for each prefix SUBSETS (1) random choices of the writes since the last flush, which
a disk may lose.

In every state each file must have the content that it had after one of the writes from the last acknowledged one to the
last begun one; there is at most one temporary file, and one for a backup; and where the target is new, its backup is
there.

Where several files are replaced together, the locks of all are taken first, in any order, or in every other state
housekeeping goes over them. Then targets, backups and leases must all be as they were after one and the same write.
Nothing else may be there but what housekeeping removes.

Some writes are made without one of the syncs. For them this must fail, which shows that the test would see a lost
write.
"""
import hashlib
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

FLUSH, FUA, DISCARD = 1, 2, 4
# The offset of the file system's partition, and the length of the partition for marks at the end of the disk.
START, MARKS = 1 << 20, 1 << 20
TEMPORARY = re.compile(r"(.*/)?\.awrite-[0-9a-f]{8}(-[0-9]+|-[0-9a-f]{16})?\.(?P<base>[^/]+)$")
# Files that nobody syncs before they are backed up.
FRESH = re.compile(r"\./fresh[^/.]*$")
# What is there beside targets, backups and leases.
OURS = re.compile(r"(.*/)?(\.awrite-[^/]*|[^/]*\.lock)$")
# What may stay until the next writer or housekeeping comes: a record that was not in its place yet, and a journal that
# no record names.
MAY_STAY = re.compile(r"(.*/)?(\.awrite-[0-9a-f]{8}\.[^/]+\.lease|\.awrite-set-[0-9a-f]{16})$")
SIDE = re.compile(r".*\.lock(\.break-[0-9a-f]+)?$")


def read_log(path):
    """The entries: (offset in bytes, data or None, flags)."""
    with open(path, "rb") as f:
        magic, _version, count, sector = struct.unpack("<QQQI", f.read(28))
        assert magic == 0x6A736677736872, "not a log of writes"
        at, entries = sector, []
        for _ in range(count):
            f.seek(at)
            start, length, flags, _ = struct.unpack("<QQQQ", f.read(32))
            at += sector
            data = None
            if length and not flags & DISCARD:
                f.seek(at)
                data = f.read(length * sector)
                at += length * sector
            entries.append((start * sector, data, flags))
    return entries


def read_serial(path, kind):
    """What was there after each write, {number: {file: digest}}, and the phases, [(name, number before the first,
    directory)]."""
    states, phases = {}, []
    with open(path, errors="replace") as f:
        for line in f:
            words = line.split()
            if len(words) == 5 and words[:2] == ["state", kind]:
                states.setdefault(int(words[2]), {})[words[3]] = words[4]
            elif len(words) == 5 and words[:2] == ["phase", kind]:
                phases.append((words[2], int(words[3]), words[4]))
    return states, phases


class Disk:
    def __init__(self, kind, base, scratch, awrite):
        self.awrite, self.looks = awrite, 0
        self.kind, self.image, self.at = kind, scratch + "/work", scratch + "/at"
        # All writes so far, and a copy to mount, since to mount it changes it.
        self.prefix = scratch + "/prefix"
        os.mkdir(self.at)
        self.copy(base, self.prefix)

    @staticmethod
    def copy(source, target):
        subprocess.run(["cp", "--sparse=always", source, target], check=True)

    @staticmethod
    def write(image, entries):
        with open(image, "r+b") as f:
            for at, data, _ in entries:
                if data:
                    f.seek(at)
                    f.write(data)

    def look(self, base, entries, place, targets):
        """What is in the directory `place` on the disk `base` after these writes: {file: digest}, or why that cannot be
        told. `targets` are those of a set: it is recovered first."""
        options = f"loop,offset={START}" + (",nouuid" if self.kind == "xfs" else "")
        # While others look at the loop devices, the last one may still be there, with what it has of this file in its
        # cache, and mount would take it again: hence a new file each time. A disk that is broken fails each time.
        for _ in range(3):
            if os.path.exists(self.image):
                os.unlink(self.image)
            self.copy(base, self.image)
            self.write(self.image, entries)
            mount = ["mount", "-t", self.kind, "-o", options, self.image, self.at]
            result = subprocess.run(mount, capture_output=True, text=True)
            if not result.returncode:
                break
        else:
            return f"cannot be mounted: {result.stderr.strip()}"
        try:
            top = f"{self.at}/{place}"
            bad = self.recover(top, targets) if targets else None
            if bad:
                return bad
            found = {}
            for name in files_in(top):
                with open(f"{top}/{name}", "rb") as f:
                    found[name] = hashlib.md5(f.read()).hexdigest()
            return found
        finally:
            subprocess.run(["umount", self.at], check=True)

    def recover(self, top, targets):
        """What everybody does who takes the locks of these files, or housekeeping does. Returns what is wrong."""
        self.looks += 1
        locks = [["lock", "--no-wait", *owner, target, "--", "true"] for target, owner in targets.items()]
        random.Random(self.looks).shuffle(locks)
        # A file in a directory that is not there yet cannot be locked.
        locks = [lock for lock in locks if os.path.isdir(os.path.dirname(f"{top}/{lock[-3]}"))]
        if self.looks % 2:
            locks = []
        for command in locks:
            bad = self.run(top, command)
            if bad:
                return bad
        left = [name for name in files_in(top) if OURS.match(name) and not MAY_STAY.match(name)]
        if locks and left:
            return f"left by those who took the locks: {left}"
        return self.run(top, ["housekeep", "--clean-temps", "--clean-locks", "-rq", "."])

    def run(self, top, command):
        done = subprocess.run([self.awrite, *command], cwd=top, capture_output=True, text=True)
        if done.returncode or done.stderr:
            return f"{' '.join(command)}: exit status {done.returncode}: {' '.join(done.stderr.split())}"
        return None


def files_in(top):
    """Their names begin with "./"."""
    for directory, _, names in os.walk(top):
        for name in names:
            yield "." + os.path.join(directory, name)[len(top):]


def violation(found, states, low, high):
    """What is not as it must be, the writes up to `low` being acknowledged and those up to `high` begun."""
    if isinstance(found, str):
        return found
    possible = [states[n] for n in range(low, high + 1) if n in states]
    for name in sorted(set(found).union(*possible)):
        if TEMPORARY.match(name) or SIDE.match(name):
            continue
        if FRESH.match(name) and low < high:
            continue
        if found.get(name) not in [state.get(name) for state in possible]:
            what = "is missing" if name not in found else "is not what it was after any of these writes"
            return f"{name} {what}"
    temporary = [match["base"].endswith(".backup") for match in map(TEMPORARY.match, found) if match]
    if temporary.count(True) > 1 or temporary.count(False) > 1:
        return f"too many temporary files: {sorted(found)}"
    if high == low + 1 and high in states:
        old, new = states[low], states[high]
        if old.get("./f") != new.get("./f") and found.get("./f") == new.get("./f"):
            for name in new:
                if name.endswith(".backup") and found.get(name) != new[name]:
                    return f"the target is new, its backup {name} is not there yet"
    return None


def targets_of(states, low, high):
    """The files that the writes after `low` up to `high` may replace together, each with the option for its lock."""
    names = set().union(*(states.get(n, {}) for n in range(low, high + 1)))
    files = {re.sub("[.](backup|lease)$", "", name) for name in names} - {"./kept"}
    return {name: ["--owner=A"] if name + ".lease" in names else [] for name in sorted(files)}


def violation_of_set(found, states, low, high):
    """The same for files that are replaced together: they must be as after one of the writes."""
    if isinstance(found, str):
        return found
    possible = [states[n] for n in range(low, high + 1) if n in states]
    if found in possible:
        return None
    differ = [sorted(n for n in set(found) | set(state) if found.get(n) != state.get(n)) for state in possible]
    return "neither old nor new: " + ", or ".join(f"{len(names)} files differ, as {names[0]}" for names in differ)


def report(kind, phases, counts, seen, wrong):
    """Prints what was seen, and ends with a failure if it is not what has to be."""
    for (phase, way), count in sorted(counts.items()):
        outcome = seen.get(phase, "all as they must be")
        if phase.startswith("unsynced") and phase in seen:
            outcome = f"a loss is seen, as it has to be: {outcome}"
        print(f"power: {kind}: {phase}: {count} states ({way}): {outcome}")
    if wrong:
        print("\n".join(wrong[:20]))
        sys.exit(f"power: {kind}: failed")
    for phase, _, _ in phases:
        if phase.startswith("unsynced"):
            if phase not in seen:
                sys.exit(f"power: {kind}: nothing was lost without a sync ({phase}): what does this test show?")
        elif counts.get((phase, "prefix"), 0) < 20:
            sys.exit(f"power: {kind}: {phase}: too few states")


def main():
    kind, base, log, serial, awrite = sys.argv[1:6]
    subsets = int(sys.argv[6]) if len(sys.argv) > 6 else 1
    entries = read_log(log)
    states, phases = read_serial(serial, kind)
    marks = os.path.getsize(base) - MARKS
    shm = "/dev/shm" if os.path.isdir("/dev/shm") else None
    counts, wrong, seen = {}, [], {}
    with tempfile.TemporaryDirectory(dir=shm) as scratch:
        disk = Disk(kind, base, scratch, awrite)
        flushed = disk.prefix + ".flushed"
        disk.copy(base, flushed)
        phase, low, high, since = "setup", 0, 0, []
        directory, together, targets, found = None, False, {}, None
        for cut, entry in enumerate(entries):
            at, data, flags = entry
            if flags & DISCARD and at >= marks:
                high, acknowledged = divmod((at - marks) // 512, 2)
                low = high if acknowledged else low
                phase, _, directory = [phase for phase in phases if phase[1] < high][-1]
                together = directory != "w"
                targets = targets_of(states, low, high) if together else {}
                found = None if together else found
            elif data:
                disk.write(disk.prefix, [entry])
                found = None
                since.append(entry)
            if flags & FLUSH:
                disk.write(flushed, since)
                since = []
            # Before the first write there is nothing to compare with. A failure that is expected is needed once only.
            if phase == "setup" or (phase.startswith("unsynced") and phase in seen):
                continue
            if found is None:
                found = disk.look(disk.prefix, [], directory, targets)
            looks = [("prefix", found)]
            if since:
                for n in range(subsets):
                    chance = random.Random(f"{cut} {n}")
                    kept = [e for e in since if e[2] & FUA or chance.random() < 0.5]
                    looks.append(("subset", disk.look(flushed, kept, directory, targets)))
            for way, there in looks:
                counts[phase, way] = counts.get((phase, way), 0) + 1
                judge = violation_of_set if together else violation
                bad = judge(there, states, low, high)
                if bad:
                    seen.setdefault(phase, bad)
                    if not phase.startswith("unsynced"):
                        wrong.append(f"{kind}: {way} of {cut} writes, {low} of {high} acknowledged: {bad}")
    report(kind, phases, counts, seen, wrong)


if __name__ == "__main__":
    main()
