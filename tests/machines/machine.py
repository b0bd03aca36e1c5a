"""A virtual machine that is controlled from outside: its shell, its cable, its power, its clock.

The shell is guest.sh's, at the second serial line. The rest is qemu's monitor (QMP). Nothing here sleeps to let something
happen: every wait is for a condition, and ends in an error at its deadline.
"""

import base64
import json
import queue
import socket
import subprocess
import threading
import time

# For each thing that is waited for. Three emulated machines on a busy host are slow.
DEADLINE = 300


class Failed(Exception):
    """A case has failed."""


def until(condition, what, deadline=DEADLINE):
    """Waits until `condition()` is true; returns what it returned."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {deadline} s: {what}")
        time.sleep(0.05)


class Job:
    """A command that runs on a machine."""

    def __init__(self, machine, command):
        self.machine, self.command = machine, command
        self.answers = queue.Queue()

    def wait(self, deadline=DEADLINE):
        """Waits until it has ended; returns its status and what it printed."""
        try:
            return self.answers.get(timeout=deadline)
        except queue.Empty:
            raise Failed(f"not ended within {deadline} s on {self.machine.name}: {self.command}") from None

    def ends(self, status, says="", deadline=DEADLINE):
        """It must end with `status` and have said `says`. Returns what it printed."""
        got, text = self.wait(deadline)
        if got != status or says not in text:
            raise Failed(f"{self.machine.name}: {self.command}\nstatus {got}, wanted {status} {says!r}:\n{text}")
        return text

    def runs(self):
        return self.answers.empty()


class Machine:
    started = []

    def __init__(self, name, *options):
        """Boots it with qemu's `options`. `ready` says when it is up."""
        self.name, self.number, self.jobs = name, 0, {}
        self.is_up = threading.Event()
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-m", "256", "-display", "none", "-nodefaults",
             "-kernel", "vmlinuz", "-initrd", "initrd",
             # On a busy host the kernel's check of an emulated timer fails by chance.
             "-append", f"console=ttyS0 quiet panic=0 mitigations=off no_timer_check role={name}",
             "-serial", f"file:{name}.log", "-serial", f"unix:{name}.shell,server=on,wait=off",
             "-qmp", f"unix:{name}.monitor,server=on,wait=off", *options],
            stdin=subprocess.DEVNULL, stdout=open(f"{name}.qemu", "wb"), stderr=subprocess.STDOUT)
        Machine.started.append(self)
        self.monitor = self.connect("monitor").makefile("rw")
        self.monitor.readline()
        self.tell_monitor("qmp_capabilities")
        self.shell = self.connect("shell")
        threading.Thread(target=self.listen, daemon=True).start()

    def connect(self, what):
        path = f"{self.name}.{what}"
        line = socket.socket(socket.AF_UNIX)

        def connected():
            if self.process.poll() is not None:
                raise Failed(f"qemu: {open(f'{self.name}.qemu').read()}")
            try:
                line.connect(path)
                return True
            except (ConnectionRefusedError, FileNotFoundError):
                return False

        until(connected, f"qemu listens at {path}")
        return line

    def listen(self):
        for line in self.shell.makefile("rb"):
            number, status, text = (line.strip().split(b" ") + [b"", b""])[:3]
            if not (number.isdigit() and status.isdigit()):
                continue
            if number == b"0":
                self.is_up.set()
            elif int(number) in self.jobs:
                answer = int(status), base64.b64decode(text).decode(errors="replace")
                self.jobs.pop(int(number)).answers.put(answer)

    def tell_monitor(self, command, **arguments):
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.monitor.flush()
        while True:
            answer = json.loads(self.monitor.readline())
            if "error" in answer:
                raise Failed(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def ready(self):
        if not self.is_up.wait(DEADLINE):
            raise Failed(f"{self.name} has not come up:\n{open(f'{self.name}.log', errors='replace').read()[-2000:]}")

    def start(self, command):
        """Runs `command` in the background."""
        assert "\n" not in command
        self.number += 1
        job = self.jobs[self.number] = Job(self, command)
        self.shell.sendall(f"{self.number} {command}\n".encode())
        return job

    def run(self, command, status=0, says="", deadline=DEADLINE):
        """Runs `command` to its end; see `Job.ends`."""
        return self.start(command).ends(status, says, deadline)

    def until(self, command, where="/tmp", deadline=DEADLINE):
        """Waits until `command` succeeds there, in the directory `where`."""
        self.run(f"cd {where}; until {command}; do usleep 20000; done", deadline=deadline)

    def cut(self):
        """Cuts its cable."""
        self.tell_monitor("set_link", name="net", up=False)

    def join(self):
        """Mends it."""
        self.tell_monitor("set_link", name="net", up=True)

    def suspend(self):
        """Stops its processors and its clocks."""
        self.tell_monitor("stop")

    def go_on(self):
        self.tell_monitor("cont")

    def reset(self):
        """Resets it, as by its button. What it had not written is lost. `ready` says when it is up again."""
        self.is_up.clear()
        self.jobs.clear()
        self.tell_monitor("system_reset")

    def set_clock(self, seconds):
        """Sets its wall clock to ours and so many seconds more."""
        self.run(f"date -s @{int(time.time()) + seconds}")

    def kill(self):
        self.process.kill()
        self.process.wait()
