#!/usr/bin/env python3
"""Everything at once, for as long as one likes: writers, readers, sets, leases, nested locks, housekeepers, and kills.

The work is in rounds. In a round some workers start processes of awrite as fast as they end, and kill one in six at a
moment that chance decides; readers look at the files all the time; and the process of library.c works in one of the
directories. Between two rounds nothing runs, and everything is counted:

- A counter has as many increments as have succeeded, or, as far as some were killed, not more than were tried.
- Each file is whole: it begins with the digest of the rest.
- Three files that are replaced together are of one serial number for whoever has their locks.
- The tokens of a lease only grow.
- Beside the targets there is only what a killed process may leave, and it does not pile up.
- No process is left. Memory and descriptors of the library's process are what they were.

usage: soak.py AWRITE LIBRARY DIR SECONDS SEED
"""

import collections
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

WORKERS, ROUND = 6, 15
# What of these comes of no fault: done, the lock not had, interrupted, killed, and COMMAND ended by a signal passed on.
EXPECTED = {0, 2, 3, 128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}
TOO_LONG = 120


class Fault(Exception):
    pass


class Soak:
    def __init__(self, awrite, directory, seed):
        self.awrite, self.directory = awrite, directory
        self.random = random.Random(seed)
        self.turn = threading.Lock()
        self.statuses = collections.Counter()
        self.counts = collections.defaultdict(collections.Counter)
        self.tokens = {}
        self.faults = []
        self.over = threading.Event()
        self.looks = 0
        for part in ("flock", "link", "own"):
            os.mkdir(os.path.join(directory, part))
        for part in ("flock", "link", "."):
            self.put(f"{part}/count", b"0\n")
        for part in ("flock", "link"):
            for name in "xyz":
                self.put(f"{part}/{name}", b"0\n")
            for number in range(3):
                self.put(f"{part}/whole{number}", self.whole(self.random, 10))

    def path(self, name):
        return os.path.join(self.directory, name)

    def put(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)

    @staticmethod
    def whole(chance, size):
        content = chance.randbytes(size)
        return hashlib.sha256(content).hexdigest().encode() + b"\n" + content

    def run(self, chance, arguments, part, content=b"", spare=False):
        """Runs awrite in a directory; perhaps kills it. Returns its status and what it printed."""
        environment = dict(os.environ)
        if part == "link":
            environment["AWRITE_LOCK_METHOD"] = "link"
        child = subprocess.Popen([self.awrite, *arguments], cwd=self.path(part), env=environment,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        timer = None
        if not spare and chance.random() < 1 / 6:
            how = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            timer = threading.Timer(chance.uniform(0, 0.05), child.send_signal, [how])
            timer.start()
        try:
            out, err = child.communicate(content, timeout=TOO_LONG)
        except subprocess.TimeoutExpired:
            child.kill()
            raise Fault(f"not ended within {TOO_LONG} s: {' '.join(arguments)} in {part}") from None
        if timer:
            timer.cancel()
        status = child.returncode
        with self.turn:
            self.statuses[status] += 1
        if status not in EXPECTED:
            raise Fault(f"status {status}: {' '.join(arguments)} in {part}\n{err.decode(errors='replace')}")
        return status, out.decode(errors="replace")

    # What a worker does, each with its own chance.

    def increment(self, chance, part):
        add = f"echo $(($(cat count) + 1)) | {self.awrite} -q count"
        how = chance.choice([
            ["-q", "count", "--", "sh", "-c", "read n; echo $((n + 1))"],
            ["-q", "-e", "count", "--", "sh", "-c", 'n=$(cat "$1"); echo $((n + 1)) >"$1"', "sh"],
            ["lock", "-q", "count", "-c", add],
            ["lock", "-q", "count", "--", self.awrite, "lock", "-q", "count", "-c", add],
        ])
        status, _ = self.run(chance, how, part)
        with self.turn:
            self.counts[part]["done"] += status == 0
            # The inner process of a lock may have written, whatever became of the outer one.
            self.counts[part]["unclear"] += status not in (0, 2)

    def write(self, chance, part):
        options = chance.choice([[], ["--stream"], ["-b"], ["--backup-keep", "3"], ["--lock-on-commit"], ["--verify"],
                                 ["--if-changed"], ["-n"], ["-w", "50ms"], ["--sync", "none"]])
        self.run(chance, ["-q", *options, f"whole{chance.randrange(3)}"], part,
                 self.whole(chance, chance.randrange(1, 300000)))

    def write_set(self, chance, part):
        serial = f"{chance.randrange(1 << 60)}\n".encode()
        if chance.random() < 0.5:
            write = f"for f do echo {serial.decode().strip()} >$f; done"
            self.run(chance, ["-q", "-e", "x", "y", "z", "--", "sh", "-c", write, "sh"], part)
            return
        source = self.path(f"new{threading.get_ident()}")
        os.makedirs(source, exist_ok=True)
        for name in "xyz":
            with open(os.path.join(source, name), "wb") as file:
                file.write(serial)
        self.run(chance, ["-q", *chance.choice([[], ["-b"]]), "--into", ".", *(os.path.join(source, n) for n in "xyz")],
                 part)

    def read_set(self, chance, part):
        status, out = self.run(chance, ["lock", "-q", "x", "y", "z", "--", "cat", "x", "y", "z"], part, spare=True)
        if status == 0 and (len(out.split()) != 3 or len(set(out.split())) != 1):
            raise Fault(f"a set of {out!r} in {part}")

    def lease(self, chance, part):
        owner = f"owner {threading.get_ident()}"
        of_owner = ["--owner", owner, "leased"]
        if chance.random() < 0.3:
            self.run(chance, ["lock", "-q", "--ttl", "2s", "-w", "1s", "--owner", owner, "leased", "--", "true"], part)
            return
        status, out = self.run(chance, ["lock", "-q", "--acquire", "--ttl", "1s", "-w", "2s", *of_owner], part)
        if status != 0:
            return
        token = int(out)
        with self.turn:
            # Of each owner, since two workers may report in another order than they got theirs.
            last = self.tokens.get((part, owner), 0)
            self.tokens[part, owner] = token
        if token < last:
            raise Fault(f"token {token} after {last}")
        self.run(chance, ["-q", "--token", str(token), *of_owner], part, b"leased\n")
        if chance.random() < 0.5:
            self.run(chance, ["lock", "-q", "--refresh", *of_owner], part)
        if chance.random() < 0.7:
            self.run(chance, ["lock", "-q", "--release", *of_owner], part)

    def housekeep(self, chance, _):
        self.run(chance, ["housekeep", "-q", "--all", "-r", *chance.choice([[], ["--keep-newest", "3"]])], ".")

    def look(self, chance, part):
        status, out = self.run(chance, ["lock", "--list", "--json"], part, spare=True)
        for line in out.splitlines():
            json.loads(line)
        self.run(chance, ["lock", "-q", "--status", "count"], part, spare=True)

    def work(self, chance):
        deeds = [self.increment] * 4 + [self.write] * 4 + [self.write_set] * 2 + [self.read_set, self.lease]
        deeds += [self.housekeep, self.look]
        try:
            while not self.over.is_set():
                chance.choice(deeds)(chance, chance.choice(["flock", "link"]))
        except (Fault, ValueError) as fault:
            with self.turn:
                self.faults.append(fault)
            self.over.set()

    def read(self):
        """Looks at the files without a lock: each is whole, and never absent."""
        while not self.over.is_set():
            for part in "flock", "link":
                for number in range(3):
                    with open(self.path(f"{part}/whole{number}"), "rb") as file:
                        digest, _, content = file.read().partition(b"\n")
                    if hashlib.sha256(content).hexdigest().encode() != digest:
                        with self.turn:
                            self.faults.append(Fault(f"{part}/whole{number} is not whole"))
                        self.over.set()
                    self.looks += 1
            time.sleep(0.01)

    def round(self, seconds):
        self.over.clear()
        with self.turn:
            chances = [random.Random(self.random.random()) for _ in range(WORKERS)]
        threads = [threading.Thread(target=self.work, args=[chance]) for chance in chances]
        threads.append(threading.Thread(target=self.read))
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join()
        if self.faults:
            raise self.faults[0]
        self.count()

    # What must be so between two rounds.

    def count(self):
        chance = random.Random(0)
        # A COMMAND whose awrite was killed may still run, and go on under the lock.
        until(lambda: not left_over(self.directory), lambda: f"processes: {left_over(self.directory)}")
        for part in "flock", "link":
            self.read_set(chance, part)
            status, text = self.run(chance, ["lock", "-q", "count", "--", "cat", "count"], part, spare=True)
            got, counts = int(text), self.counts[part]
            if status != 0 or not counts["done"] <= got <= counts["done"] + counts["unclear"]:
                raise Fault(f"{part}: the counter is {got}: {dict(counts)}")
            # What is unclear now is clear from now on.
            counts["done"], counts["unclear"] = got, 0
            beside = [name for name in os.listdir(self.path(part)) if not self.is_known(name)]
            # A lock file, and the temporary files of a writer, for each target that there is.
            if len(beside) > 40:
                raise Fault(f"{part}: {len(beside)} files are left: {sorted(beside)[:20]}")

    @staticmethod
    def is_known(name):
        return name in {"x", "y", "z", "count", "leased"} or name.startswith("whole") or name.endswith(".backup")

    def finish(self):
        """The last look: after a housekeeper nothing is left but targets and backups."""
        chance = random.Random(0)
        for part in "flock", "link":
            # What is left of the last leases, and of link locks of killed processes, ends by itself.
            for name in ("x", "y", "z", "count", "leased", "whole0", "whole1", "whole2"):
                self.run(chance, ["lock", "-q", name, "--", "true"], part, spare=True)

            def clean(part=part):
                self.run(chance, ["housekeep", "-q", "--all"], part, spare=True)
                return not self.beside(part)

            until(clean, lambda part=part: f"{part}: left: {self.beside(part)}")

    def beside(self, part):
        return sorted(name for name in os.listdir(self.path(part)) if not self.is_known(name))


def until(condition, what, deadline=60):
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise Fault(what())
        time.sleep(0.1)


def left_over(directory):
    """The processes that work in one of the directories."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            where = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if where.startswith(directory + "/"):
            with open(f"/proc/{pid}/cmdline", "rb") as line:
                found.append(f"{pid} {line.read().replace(bytes(1), b' ').decode(errors='replace')}")
    return found


class Library:
    """The process that holds the library all the time, and its lines: operations, increments, kilobytes, descriptors,
    threads."""

    def __init__(self, program, directory):
        self.lines, self.wrong = [], None
        self.child = subprocess.Popen([program, directory, "6"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      env=dict(os.environ, AWRITE_STALE_AFTER="30"), text=True)
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()

    def listen(self):
        for line in self.child.stdout:
            words = line.split()
            if len(words) == 5 and all(map(str.isdigit, words)):
                self.lines.append([int(word) for word in words])
            else:
                self.wrong = line.strip()

    def ensure_well(self):
        if self.wrong or self.child.poll() is not None:
            raise Fault(self.wrong or f"library: ended with {self.child.returncode}")

    def finish(self):
        self.child.stdin.close()
        status = self.child.wait(TOO_LONG)
        self.listener.join()
        if status != 0 or self.wrong:
            raise Fault(self.wrong or f"library: ended with {status}")

    def ensure_flat(self):
        """What it has at the end is what it had after two fifths of the time, but for what malloc and a thread that is just
        ending make of it. Before that, malloc makes itself at home in every thread."""
        if len(self.lines) < 20:
            print(f"soak: library: {len(self.lines)} lines are too few to tell whether it grows")
            return
        first = self.lines[len(self.lines) * 2 // 5:][:max(3, len(self.lines) // 10)]
        last = self.lines[-max(3, len(self.lines) // 10):]
        for name, column, spare in ("kilobytes", 2, 1024), ("descriptors", 3, 0), ("threads", 4, 1):
            before, after = max(line[column] for line in first), min(line[column] for line in last)
            print(f"soak: library: {name}: {before} after two fifths of the time, {after} at the end", flush=True)
            if after > before + spare:
                raise Fault(f"library: {name} grow: from {before} to {after}")


def main(awrite, program, directory, seconds, seed):
    directory = os.path.realpath(directory)
    soak = Soak(os.path.realpath(awrite), directory, int(seed))
    library = Library(os.path.realpath(program), directory)
    began, rounds = time.monotonic(), 0
    try:
        while (left := int(seconds) - (time.monotonic() - began)) > 0:
            soak.round(min(ROUND, left))
            library.ensure_well()
            rounds += 1
            if rounds % 20 == 0:
                tell(soak, library, began, rounds)
        library.finish()
        added = library.lines[-1][1]
        with open(soak.path("count")) as file:
            got = int(file.read())
        if got != added:
            raise Fault(f"library: the counter is {got}, and {added} increments have succeeded")
        soak.finish()
        tell(soak, library, began, rounds)
        library.ensure_flat()
    except Fault as fault:
        sys.exit(f"soak: {fault}\nsoak: failed after {time.monotonic() - began:.0f} s, seed {seed}")
    finally:
        if library.child.poll() is None:
            library.child.kill()
    print("soak: all was as promised")


def tell(soak, library, began, rounds):
    statuses = " ".join(f"{status}:{count}" for status, count in sorted(soak.statuses.items()))
    library_line = " ".join(map(str, library.lines[-1])) if library.lines else "nothing yet"
    print(f"soak: {time.monotonic() - began:.0f} s, {rounds} rounds, {sum(soak.statuses.values())} processes "
          f"({statuses}), {soak.looks} looks; library: {library_line}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
