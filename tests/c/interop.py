"""Calls the shared library without a header: interop.py LIBRARY, in an empty directory."""

import ctypes
import os
import sys

awrite = ctypes.CDLL(sys.argv[1])
awrite.awrite_last_error.restype = ctypes.c_char_p
awrite.awrite_last_hint.restype = ctypes.c_char_p
awrite.awrite_version.restype = ctypes.c_char_p
awrite.awrite_lease_token.restype = ctypes.c_uint64
awrite.awrite_lease_token.argtypes = [ctypes.c_void_p]
for name in ["awrite_lock_release", "awrite_lock_free", "awrite_lease_free"]:
    getattr(awrite, name).argtypes = [ctypes.c_void_p]


class Notice(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("kind", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("path", ctypes.c_char_p),
        ("text", ctypes.c_char_p),
    ]


NOTICE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Notice), ctypes.c_void_p)


class LockOptions(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("wait", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("timeout_ms", ctypes.c_uint64),
        ("lock_file", ctypes.c_char_p),
        ("lock_dir", ctypes.c_char_p),
        ("lock_mode", ctypes.c_uint32),
        ("method", ctypes.c_uint32),
        ("stale_after_ms", ctypes.c_uint64),
        ("owner", ctypes.c_char_p),
        ("token", ctypes.c_uint64),
        ("notice", NOTICE),
        ("notice_context", ctypes.c_void_p),
        ("reason", ctypes.c_char_p),
    ]


class Result(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("bytes", ctypes.c_uint64),
        ("backup", ctypes.c_char_p),
        ("changed", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("digest", ctypes.c_char * 72),
    ]


def content(path):
    with open(path, "rb") as file:
        return file.read()


assert awrite.awrite_version().count(b".") == 2

result = Result(size=ctypes.sizeof(Result))
data = b"from\0Python"
assert awrite.awrite_write(b"f", data, ctypes.c_size_t(len(data)), None, ctypes.byref(result)) == 0
assert content("f") == data and result.bytes == len(data) and result.changed == 1
assert awrite.awrite_write(b"missing/f", data, ctypes.c_size_t(1), None, None) == 1
assert awrite.awrite_last_error() == b"missing/f: No such file or directory"
assert awrite.awrite_write(None, data, ctypes.c_size_t(1), None, None) == 5

lock, other = ctypes.c_void_p(), ctypes.c_void_p()
assert awrite.awrite_lock_acquire(ctypes.byref(lock), b"f", None) == 0
assert os.path.exists("f.lock")
told = []
tell = NOTICE(lambda notice, context: told.append((notice[0].kind, notice[0].path)) or 0)
options = LockOptions(size=ctypes.sizeof(LockOptions), wait=1, timeout_ms=10, notice=tell)
assert awrite.awrite_lock_acquire(ctypes.byref(other), b"f", ctypes.byref(options)) == 2
assert not other.value and told == [(2, b"f")]
assert awrite.awrite_last_error().startswith(b"f: Lock acquisition timeout") and b"held_lock" in awrite.awrite_last_hint()
give_up = NOTICE(lambda notice, context: 1)
options = LockOptions(size=ctypes.sizeof(LockOptions), wait=1, timeout_ms=60000, notice=give_up)
assert awrite.awrite_lock_acquire(ctypes.byref(other), b"f", ctypes.byref(options)) == 6
assert awrite.awrite_lock_release(lock) == 0
awrite.awrite_lock_free(lock)
assert not os.path.exists("f.lock")

UPDATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def twice(io, context):
    buffer, got = ctypes.create_string_buffer(64), ctypes.c_size_t()
    assert awrite.awrite_update_read(ctypes.c_void_p(io), buffer, ctypes.c_size_t(64), ctypes.byref(got)) == 0
    text = buffer.raw[: got.value] * 2
    return awrite.awrite_update_write(ctypes.c_void_p(io), text, ctypes.c_size_t(len(text)))


assert awrite.awrite_update(b"f", UPDATE(twice), None, None, None) == 0
assert content("f") == data * 2
assert awrite.awrite_update(b"f", UPDATE(lambda io, context: 1), None, None, None) == 6
assert content("f") == data * 2


# ctypes writes an exception to stderr, and returns 0 or anything else.
def fails(io, context):
    raise ValueError


said, keep = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(keep, 2)
status = awrite.awrite_update(b"f", UPDATE(fails), None, None, None)
os.dup2(said, 2)
assert status in (1, 6) and content("f") == data * 2
# cffi returns 0 then: no content, and so no new file.
assert awrite.awrite_update(b"f", UPDATE(lambda io, context: 0), None, None, None) == 1
assert awrite.awrite_last_error() == b"No input provided" and content("f") == data * 2

lease = ctypes.c_void_p()
assert awrite.awrite_lease_acquire(ctypes.byref(lease), b"f", b"python", ctypes.c_uint64(60000), None) == 0
assert awrite.awrite_lease_token(lease) > 0 and os.path.exists("f.lease")
awrite.awrite_lease_free(lease)
assert not os.path.exists("f.lease")

# A store keeps the lease, if the environment names one.
class WriteOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("lock", ctypes.POINTER(LockOptions)), ("rest", ctypes.c_ubyte * 504)]


def write_under(token, text):
    lock = LockOptions(size=ctypes.sizeof(LockOptions), owner=b"python", token=token)
    options = WriteOptions(size=ctypes.sizeof(WriteOptions), lock=ctypes.pointer(lock))
    return awrite.awrite_write(b"f", text, ctypes.c_size_t(len(text)), ctypes.byref(options), None)


os.mkdir("store")
os.environ["AWRITE_STORE"] = "dir://" + os.path.abspath("store")
assert awrite.awrite_lease_acquire(ctypes.byref(lease), b"f", b"python", ctypes.c_uint64(60000), None) == 0
assert awrite.awrite_lease_token(lease) == 1 and not os.path.exists("f.lease")
assert write_under(1, b"1") == 0
assert content("f") == b"1" and content("f.lease") == b'{"version":1,"fence":1}\n'
awrite.awrite_lease_free(lease)
assert write_under(1, b"late") == 2 and b"Not leased by python" in awrite.awrite_last_error()
assert awrite.awrite_lease_acquire(ctypes.byref(lease), b"f", b"python", ctypes.c_uint64(60000), None) == 0
assert awrite.awrite_lease_token(lease) == 2 and write_under(1, b"late") == 2 and content("f") == b"1"
awrite.awrite_lease_free(lease)
assert awrite.awrite_lease_acquire(ctypes.byref(lease), b"job:x", b"python", ctypes.c_uint64(60000), None) == 0
awrite.awrite_lease_free(lease)
for store in [b"dir", b"dir:///\xff"]:
    os.environb[b"AWRITE_STORE"] = store
    assert awrite.awrite_lease_acquire(ctypes.byref(lease), b"f", b"python", ctypes.c_uint64(60000), None) == 5
    assert write_under(2, b"late") == 5 and content("f") == b"1"
assert content("f.lease") == b'{"version":1,"fence":1}\n'
