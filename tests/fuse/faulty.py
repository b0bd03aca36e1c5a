#!/usr/bin/python3
"""A FUSE file system over a directory, with the faults that real ones have and no mountable one shows on demand.

    faulty.py BACKING MOUNTPOINT [FAULT...]

FAULT is one of:
    keep-until-flush      written bytes are kept in memory until flush, as network file systems do
    flush=ERRNO           flush (each close of a descriptor) fails with this error, and what was kept is lost
    fsync=ERRNO           fsync fails with this error (ENOSYS: the kernel then answers success for good)
    release=ERRNO         the last close fails; the kernel tells nobody
    link=ERRNO            no hard links
    short-names           names end at 143 bytes, as on eCryptfs
    flip                  one bit of every file's content is wrong when it is read
    frozen                all times are one minute ahead, and stay so

It stays in the foreground; `fusermount -u MOUNTPOINT` ends it.
"""

import errno
import os
import sys
import time

from fusepy import FUSE, FuseOSError, Operations


class Faulty(Operations):
    # A descriptor whose name is gone still works.
    flag_nullpath_ok = 1

    def __init__(self, root, faults):
        self.root = root
        self.faults = {}
        for fault in faults:
            name, _, value = fault.partition("=")
            self.faults[name] = getattr(errno, value) if value else True
        self.kept = {}
        self.ahead = time.time() + 60

    def fail(self, name):
        number = self.faults.get(name)
        if number:
            raise FuseOSError(number)

    def at(self, path):
        if "short-names" in self.faults and len(os.fsencode(os.path.basename(path))) > 143:
            raise FuseOSError(errno.ENAMETOOLONG)
        return os.path.join(self.root, path.lstrip("/"))

    # Names and metadata: as the directory has them.

    def access(self, path, mode):
        return 0

    def getattr(self, path, fh=None):
        try:
            status = os.lstat(self.at(path)) if fh is None else os.fstat(fh)
        except OSError as e:
            raise FuseOSError(e.errno) from e
        keys = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid", "st_ino")
        found = {key: getattr(status, key) for key in keys}
        if "frozen" in self.faults:
            found.update(st_atime=self.ahead, st_ctime=self.ahead, st_mtime=self.ahead)
        return found

    def readdir(self, path, fh):
        return [".", ".."] + os.listdir(self.at(path))

    def readlink(self, path):
        return os.readlink(self.at(path))

    def statfs(self, path):
        status = os.statvfs(self.at(path))
        keys = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_frsize", "f_namemax")
        found = {key: getattr(status, key) for key in keys}
        if "short-names" in self.faults:
            found["f_namemax"] = 143
        return found

    def chmod(self, path, mode):
        return os.chmod(self.at(path), mode)

    def chown(self, path, uid, gid):
        return os.chown(self.at(path), uid, gid, follow_symlinks=False)

    def utimens(self, path, times=None):
        return os.utime(self.at(path), times)

    def mkdir(self, path, mode):
        return os.mkdir(self.at(path), mode)

    def rmdir(self, path):
        return os.rmdir(self.at(path))

    def unlink(self, path):
        return os.unlink(self.at(path))

    def symlink(self, name, target):
        return os.symlink(target, self.at(name))

    def rename(self, old, new):
        return os.rename(self.at(old), self.at(new))

    def link(self, target, source):
        self.fail("link")
        return os.link(self.at(source), self.at(target))

    # Content.

    def open(self, path, flags):
        return os.open(self.at(path), flags & ~os.O_APPEND)

    def create(self, path, mode, fi=None):
        return os.open(self.at(path), os.O_RDWR | os.O_CREAT, mode)

    def truncate(self, path, length, fh=None):
        with open(self.at(path), "r+b") as file:
            file.truncate(length)

    def read(self, path, size, offset, fh):
        data = bytearray(os.pread(fh, size, offset))
        if data and "flip" in self.faults and offset == 0:
            data[0] ^= 1
        return bytes(data)

    def write(self, path, data, offset, fh):
        if "keep-until-flush" in self.faults:
            self.kept.setdefault(fh, []).append((offset, data))
            return len(data)
        return os.pwrite(fh, data, offset)

    def flush(self, path, fh):
        kept = self.kept.pop(fh, [])
        if kept or "keep-until-flush" not in self.faults:
            self.fail("flush")
        for offset, data in kept:
            os.pwrite(fh, data, offset)
        return 0

    def fsync(self, path, datasync, fh):
        self.fail("fsync")
        for offset, data in self.kept.pop(fh, []):
            os.pwrite(fh, data, offset)
        return os.fsync(fh)

    def release(self, path, fh):
        os.close(fh)
        self.fail("release")
        return 0


if __name__ == "__main__":
    backing, mountpoint, faults = sys.argv[1], sys.argv[2], sys.argv[3:]
    # Every call reaches this process: nothing is answered from the kernel's caches.
    FUSE(
        Faulty(os.path.abspath(backing), faults),
        mountpoint,
        foreground=True,
        nothreads=True,
        attr_timeout=0,
        entry_timeout=0,
        use_ino=True,
        default_permissions=True,
        allow_other=True,
        # A file that is open and loses its name is gone, not hidden under another one.
        hard_remove=True,
    )
