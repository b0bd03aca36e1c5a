"""What a file contains after a cut of the power at each write to the disk, for several ways to replace it.

usage: cuts.py KIND BASE LOG SERIAL

BASE is a disk as it was before the guest of cuts-guest.sh used it, LOG the record of its writes, SERIAL what the guest
has said. For each way it prints

    KIND WAY RETURNED OUTCOMES...

RETURNED is how many steps the disk had done when the command returned: a step is a write, or a flush. OUTCOMES are what
may be found after 0, 1, 2... steps: o (old), n (new), e (empty), p (a part, or anything else), a (absent), or several of
them. A disk writes what it has not flushed in any order. So besides all writes so far, some random choices of those since
the last flush are looked at.
"""
import os
import random
import sys
import tempfile

from replay import DISCARD, FLUSH, FUA, MARKS, Disk, read_log

EMPTY = "d41d8cd98f00b204e9800998ecf8427e"
CHOICES = 5


def read_serial(path, kind):
    """The digests of the contents, {digest: letter}, and the ways, [(name, directory, number of its first mark)]."""
    letters, ways = {EMPTY: "e"}, []
    with open(path, errors="replace") as f:
        for line in f:
            words = line.split()
            if len(words) == 2 and words[0] in ("old", "new"):
                letters[words[1]] = words[0][0]
            elif len(words) == 5 and words[:2] == ["way", kind]:
                ways.append((words[2], words[3], int(words[4])))
    return letters, ways


def main():
    kind, base, log, serial = sys.argv[1:]
    letters, ways = read_serial(serial, kind)
    entries = read_log(log)
    marks = os.path.getsize(base) - MARKS
    shm = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shm) as scratch:
        disk = Disk(kind, base, scratch, None)
        # Of this disk only what it had flushed is needed.
        flushed = disk.prefix
        since = []
        mark, cuts, returned, directory, name = -1, [], 0, None, None
        # What was found since the last flush may be found still: the disk need not have written anything since.
        possible = set()

        def outcomes(cut):
            chosen = [since]
            for n in range(CHOICES if len(since) > 1 else 0):
                chance = random.Random(f"{cut} {n}")
                chosen.append([e for e in since if e[2] & FUA or chance.random() < 0.5])
            for kept in chosen:
                there = disk.look(flushed, kept, directory, None)
                if isinstance(there, str):
                    sys.exit(f"{kind}: after {cut} writes: {there}")
                digest = there.get("./f")
                possible.add("a" if digest is None else letters.get(digest, "p"))
            return "".join(sorted(possible))

        for cut, entry in enumerate(entries):
            at, data, flags = entry
            if flags & DISCARD and at >= marks:
                mark = (at - marks) // 512
                for way, where, number in ways:
                    if mark == number:
                        name, directory = way, where
                        possible.clear()
                        cuts = [outcomes(cut)]
                    elif mark == number + 1:
                        returned = len(cuts) - 1
                    elif mark == number + 2:
                        print(kind, name, returned, *cuts, flush=True)
                        if name == "awrite" and (set("".join(cuts)) - set("no") or set(cuts[returned:]) != {"n"}):
                            sys.exit(f"{kind}: awrite has lost something")
                        name = None
                continue
            if flags & (FLUSH | FUA):
                possible.clear()
            if data:
                since.append(entry)
                if name:
                    cuts.append(outcomes(cut))
            if flags & FLUSH:
                disk.write(flushed, since)
                since = []
                if name:
                    cuts.append(outcomes(cut))


main()
