//! The crate as a program in Rust sees it, from outside.

use std::fmt::{self, Debug};
use std::io::{self, Read, Write};
use std::panic::UnwindSafe;
use std::sync::{Arc, Mutex};

use awrite::{
    AtomicFile, BackupOptions, Check, Claim, Durability, Error, ErrorKind, Expect, FileLock, HandOver,
    HousekeepOptions, Lease, LockMethod, LockOptions, Notice, Observer, Preview, Set, Under, Wait, WriteOptions,
};

use crate::common::{TestDir, assert_no_debris, lock_is_held, needs_mount, wait_until};
use crate::filesystems::Mount;

#[test]
fn options_are_built_in_one_expression() {
    let lock = LockOptions::new().wait(Wait::No).dir("locks").reason("a deploy").mode(0o600).method(LockMethod::Flock);
    let lock = lock.claim(Claim::new("me").unwrap()).follow(false).keep_file(true).shared(false);
    let backup = BackupOptions::new().suffix(".old").dir("backups").keep_newest(3);
    let options = WriteOptions::new().append(true).lock(lock).backup(backup).expect(Expect::SameAs("copy".into()));
    let options = options.durability(Durability::Data).allow_empty(true).preserve_mode(false);
    assert_eq!((options.lock.wait, options.lock.dir.as_deref()), (Wait::No, Some("locks".as_ref())));
    assert_eq!(options.backup.and_then(|backup| backup.keep_newest), Some(3));
    assert!(LockOptions::new().file(String::from("l")).file.is_some());
    assert!(HousekeepOptions::new().own(true).recursive(true).own);
}

#[test]
fn whatever_is_bytes_is_written() {
    let dir = TestDir::new();
    let (path, options) = (dir.join("f"), WriteOptions::new());
    let text = String::from("owned");
    awrite::write(&path, &text, &options).unwrap();
    awrite::write(&path, text, &options).unwrap();
    awrite::write(&path, vec![b'v'], &options).unwrap();
    awrite::write(&path, "text", &options).unwrap();
    assert_eq!(dir.read("f"), "text");
    assert_eq!(awrite::write(&path, b"x", &options).unwrap().bytes, 1);
    assert!(!awrite::write(&path, b"x", &WriteOptions::new().if_changed(true)).unwrap().changed);
    // More than a buffer, in pieces of any size.
    let long = io::repeat(b'r').take(300_000).chain(&b"end"[..]);
    assert_eq!(awrite::write_from(&path, long, &options).unwrap().bytes, 300_003);
    assert!(dir.read("f").ends_with("rend"));
    let file = std::fs::File::open(&path).unwrap();
    let mut copy = AtomicFile::open(dir.join("g"), &options).unwrap();
    assert_eq!(copy.add_fd(&file, &path).unwrap(), 300_003);
    assert_eq!(copy.add_from(&b"more"[..]).unwrap(), 4);
    assert_eq!(copy.commit().unwrap().bytes, 300_007);
    assert_no_debris(dir.path(), &["f", "g"]);
}

#[test]
fn empty_content_is_refused_unless_it_is_allowed() {
    let dir = TestDir::new();
    let (path, options) = (dir.file("f", "old"), WriteOptions::new());
    let refused = [
        awrite::write(&path, "", &options).map(drop),
        awrite::write_from(&path, io::empty(), &options).map(drop),
        awrite::update(&path, &options, |_, _| Ok(())),
        AtomicFile::open(&path, &options).and_then(AtomicFile::commit).map(drop),
        awrite::write(&path, "", &options.clone().append(true)).map(drop),
    ];
    for (number, outcome) in refused.into_iter().enumerate() {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NoInput, "case {number}");
        assert_eq!(dir.read("f"), "old");
    }
    awrite::write(&path, "", &options.allow_empty(true)).unwrap();
    assert_eq!(dir.read("f"), "");
}

#[test]
fn an_update_returns_what_its_closure_returns() {
    let dir = TestDir::new();
    let path = dir.file("f", "41");
    let options = WriteOptions::new().if_changed(true);
    let add = |old: &mut dyn Read, new: &mut dyn Write| {
        let number = io::read_to_string(old)?.parse::<u32>().map_err(io::Error::other)? + 1;
        write!(new, "{number}")?;
        Ok(number)
    };
    assert_eq!(awrite::update(&path, &options, add).unwrap(), 42);
    let (number, committed) = AtomicFile::open(&path, &options).unwrap().update(add).unwrap();
    assert_eq!((number, committed.bytes, committed.changed), (43, 2, true));
    let same = AtomicFile::open(&path, &options).unwrap().update(|old, new| io::copy(old, new)).unwrap();
    assert_eq!((same.0, same.1.changed), (2, false));
}

#[derive(Debug, PartialEq)]
struct Mine(u8);

impl fmt::Display for Mine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {}", self.0)
    }
}

impl std::error::Error for Mine {}

#[test]
fn the_error_of_a_closure_is_its_own() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let options = WriteOptions::new();
    let update = |e: fn(&TestDir) -> io::Error| {
        awrite::update(&path, &options, |_, new| {
            new.write_all(b"never seen")?;
            Err::<(), _>(e(&dir))
        })
        .unwrap_err()
    };
    let own = update(|_| io::Error::other(Mine(7)));
    assert_eq!((own.kind(), own.errno()), (ErrorKind::Refused, None));
    let source = std::error::Error::source(&own).and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
    assert_eq!(source.get_ref().and_then(|inner| inner.downcast_ref()), Some(&Mine(7)));
    assert!(own.to_string().ends_with("f: the update was given up: number 7"), "{own}");
    // What the system said to the closure is still what the system said.
    let system = update(|dir| std::fs::read(dir.join("missing")).unwrap_err());
    assert_eq!((system.kind(), system.errno()), (ErrorKind::Io, Some(libc::ENOENT)));
    // An error of this crate goes through unharmed.
    let ours = update(|dir| awrite::write(dir.join("missing/g"), "x", &WriteOptions::new()).unwrap_err().into());
    assert_eq!(
        (ours.kind(), ours.errno(), ours.path()),
        (ErrorKind::Io, Some(libc::ENOENT), Some(&*dir.join("missing/g")))
    );
    let reader = Failing(|| Error::new(ErrorKind::Refused, "no more").into());
    assert_eq!(awrite::write_from(&path, reader, &options).unwrap_err().kind(), ErrorKind::Refused);
    let reader = Failing(|| io::Error::from_raw_os_error(libc::ECONNRESET));
    let read = awrite::write_from(&path, reader, &options).unwrap_err();
    assert_eq!((read.kind(), read.errno()), (ErrorKind::Io, Some(libc::ECONNRESET)));
    assert_eq!(dir.read("f"), "old");
    assert_no_debris(dir.path(), &["f"]);
}

/// What read(2) and write(2) answer when a signal comes is no error.
#[test]
fn an_interrupted_reader_is_asked_again() {
    struct Interrupted(std::vec::IntoIter<io::Result<&'static str>>);
    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let text = self.0.next().unwrap_or(Ok(""))?;
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Ok(text.len())
        }
    }
    let dir = TestDir::new();
    let interrupted = || Err(io::ErrorKind::Interrupted.into());
    let reader = Interrupted(vec![interrupted(), Ok("a"), interrupted(), Ok("b")].into_iter());
    assert_eq!(awrite::write_from(dir.join("f"), reader, &WriteOptions::new()).unwrap().bytes, 2);
    assert_eq!(dir.read("f"), "ab");
}

#[test]
fn the_mode_of_a_new_file_can_be_narrower() {
    let dir = TestDir::new();
    for (name, mode) in [("f", 0o700), ("g", 0o600)] {
        let mut file = AtomicFile::open(dir.join(name), &WriteOptions::new()).unwrap();
        file.mode_if_new(mode);
        file.add(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!(dir.mode(name), mode);
        // Only of a new one.
        let mut file = AtomicFile::open(dir.join(name), &WriteOptions::new()).unwrap();
        file.mode_if_new(0o444);
        file.add(b"newer").unwrap();
        file.commit().unwrap();
        assert_eq!(dir.mode(name), mode);
    }
}

#[test]
fn progress_counts_all_that_was_added() {
    let dir = TestDir::new();
    let source = dir.file("source", "12345");
    let told = Arc::new(Mutex::new(Vec::new()));
    let also = told.clone();
    let observer = Observer::new(move |notice: &Notice<'_>| {
        if let Notice::Progress { bytes, total } = notice {
            also.lock().unwrap().push((*bytes, *total));
        }
    });
    let mut file = AtomicFile::open(dir.join("f"), &WriteOptions::new().observer(observer)).unwrap();
    file.add(b"abc").unwrap();
    file.add_fd(std::fs::File::open(&source).unwrap(), &source).unwrap();
    file.commit().unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&(8, Some(8))));
}

/// What goes through the descriptor is input, and part of the digest.
#[test]
fn what_is_written_through_the_descriptor_counts() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    for append in [false, true] {
        let options = WriteOptions::new().append(append).verify(true);
        let mut file = AtomicFile::open(&path, &options).unwrap();
        rustix::io::write(file.descriptor().unwrap(), b"new").unwrap();
        let done = file.commit().unwrap();
        assert_eq!(done.bytes, if append { 6 } else { 3 });
        assert_eq!(done.digest, Some(awrite::digest(&path).unwrap()));
    }
    assert_eq!(dir.read("f"), "newnew");
}

/// Two writers that share a lock would overwrite each other's work.
#[test]
fn a_write_never_shares_the_lock() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let shared = LockOptions::new().shared(true).wait(Wait::No);
    let reader = FileLock::acquire(&path, &shared).unwrap();
    let options = WriteOptions::new().lock(shared);
    assert_eq!(awrite::write(&path, "new", &options).unwrap_err().kind(), ErrorKind::LockBusy);
    drop(reader);
    awrite::write(&path, "new", &options).unwrap();
}

/// Whatever was written before the closure's error, that is its own; unless it only passes on that of the writing.
#[test]
fn an_error_of_writing_is_not_the_closures() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("at");
    let mount = Mount::tmpfs("size=64k", &at);
    let fails = |own: Option<i32>| {
        let much = vec![b'x'; 1 << 20];
        let update = awrite::update(at.join("f"), &WriteOptions::new(), |_, new| {
            let error = new.write_all(&much).unwrap_err();
            Err::<(), _>(own.map_or(error, io::Error::from_raw_os_error))
        });
        update.unwrap_err().to_string()
    };
    for (own, says) in [(None, false), (Some(libc::ENOSPC), false), (Some(libc::EIO), true)] {
        let text = fails(own);
        assert_eq!(text.contains("the update was given up"), says, "{text}");
    }
    drop(mount);
}

/// A reader that gives something and then fails.
struct Failing(fn() -> io::Error);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer[0] == b'x' {
            return Err(self.0());
        }
        buffer[0] = b'x';
        Ok(1)
    }
}

#[test]
fn system_errors_are_the_same_whoever_writes() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("at");
    let mount = Mount::tmpfs("size=64k", &at);
    let path = at.join("f");
    let options = WriteOptions::new().allow_empty(true);
    awrite::write(&path, "old", &options).unwrap();
    let much = vec![b'x'; 1 << 20];
    let full = |number: usize| match number {
        0 => awrite::write(&path, &much, &options).map(drop),
        1 => awrite::write_from(&path, &much[..], &options).map(drop),
        2 => awrite::update(&path, &options, |_, new| new.write_all(&much)),
        // Only the buffer sees it.
        3 => awrite::update(&path, &options, |_, new| much.chunks(1000).try_for_each(|part| new.write_all(part))),
        4 => AtomicFile::open(&path, &options).and_then(|mut file| file.add(&much)),
        5 => AtomicFile::open(&path, &options).and_then(|mut file| {
            let error = file.write_all(&much).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            file.commit().map(drop)
        }),
        // The closure does not say what has happened.
        6 => awrite::update(&path, &options, |_, new| new.write_all(&much).or(Ok(()))),
        _ => awrite::update(&path, &options, |_, new| new.write_all(&much).map_err(|_| io::Error::other(Mine(1)))),
    };
    for number in 0..=7 {
        let error = full(number).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "case {number}: {error:?}");
        let errno = if number < 7 { Some(libc::ENOSPC) } else { None };
        assert_eq!((error.errno(), error.path()), (errno, Some(&*path)), "case {number}: {error:?}");
        if number < 7 {
            let hint = error.hint().unwrap_or_default();
            assert_eq!(hint, "the target is unchanged; free some space and run it again", "case {number}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "case {number}");
    }
    mount.remount("ro");
    let refused = [
        awrite::write(&path, "new", &options).map(drop),
        awrite::update(&path, &options, |_, new| new.write_all(b"new")),
    ];
    for outcome in refused {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, Some(libc::EROFS)), "{error:?}");
    }
}

#[test]
fn the_error_of_a_bad_lock_file_is_about_that_file() {
    let dir = TestDir::new();
    dir.file("plain", "");
    dir.dir("d");
    dir.sh("mkfifo fifo; ln -s plain link").quiet_success();
    let bad = [
        (dir.join("d"), ErrorKind::NotAFile, Some(libc::EISDIR)),
        (dir.join("link"), ErrorKind::NotAFile, Some(libc::ELOOP)),
        (dir.join("fifo"), ErrorKind::NotAFile, None),
        (dir.join("none/l"), ErrorKind::Io, Some(libc::ENOENT)),
        (dir.join("plain/l"), ErrorKind::Io, Some(libc::ENOTDIR)),
        // It takes no files.
        ("/proc/l".into(), ErrorKind::Io, Some(libc::ENOENT)),
    ];
    for (lock, kind, errno) in bad {
        for method in [LockMethod::Flock, LockMethod::Link] {
            let options = LockOptions::new().file(&lock).method(method);
            let error = FileLock::acquire(dir.join("f"), &options).unwrap_err();
            assert_eq!((error.path(), error.kind(), error.errno()), (Some(&*lock), kind, errno), "{error}");
        }
    }
    dir.assert_holds(&["d", "fifo", "link", "plain"]);
}

#[test]
fn an_error_becomes_one_of_std_and_is_found_again() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let options = LockOptions::new().wait(Wait::No);
    let lock = FileLock::acquire(&path, &options).unwrap();
    let busy = io::Error::from(FileLock::acquire(&path, &options).unwrap_err());
    assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
    let busy: Error = busy.downcast().unwrap();
    assert_eq!((busy.kind(), busy.path()), (ErrorKind::LockBusy, Some(&*path)));
    drop(lock);
    let missing = io::Error::from(awrite::write(dir.join("no/f"), "x", &WriteOptions::new()).unwrap_err());
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert_eq!(missing.downcast::<Error>().unwrap().errno(), Some(libc::ENOENT));
    let usage = io::Error::from(Error::new(ErrorKind::Usage, "x"));
    assert_eq!((usage.kind(), usage.to_string().as_str()), (io::ErrorKind::InvalidInput, "x"));
}

/// A program may move these to another thread, and into `catch_unwind`.
#[test]
fn what_is_held_goes_anywhere() {
    fn held<T: Send + UnwindSafe + Debug>() {}
    fn shared<T: Send + Sync + UnwindSafe + Debug>() {}
    held::<AtomicFile>();
    held::<Set>();
    held::<FileLock>();
    held::<Lease>();
    held::<HandOver>();
    shared::<WriteOptions>();
    shared::<HousekeepOptions>();
    shared::<Observer>();
    shared::<Check>();
    shared::<Preview>();
    shared::<Under>();
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let file = AtomicFile::open(&path, &WriteOptions::new().observer(Observer::new(|_| {}))).unwrap();
    let panicked = std::panic::catch_unwind(move || {
        let mut file = file;
        file.write_all(b"half").unwrap();
        panic!("in the middle");
    });
    assert!(panicked.is_err());
    assert_eq!(dir.read("f"), "old");
    assert_no_debris(dir.path(), &["f"]);
}

/// A thread that would wait for itself is told so. One that has given the lock back waits as any other.
#[test]
fn a_lock_that_was_given_back_is_waited_for() {
    let dir = TestDir::new();
    let free = LockOptions::default();
    FileLock::acquire(dir.join("f"), &free).unwrap().release().unwrap();
    let holder = dir.lock(&["f", "-c", "until [ -e go ]; do sleep 0.01; done"]).spawn();
    wait_until("it is held", || lock_is_held(&dir.join("f.lock")));
    let go = dir.join("go");
    let observer = Observer::new(move |notice| {
        if let Notice::Waiting { .. } = notice {
            std::fs::write(&go, "").unwrap();
        }
    });
    FileLock::acquire_with(dir.join("f"), &free, &observer).unwrap().release().unwrap();
    holder.finish().ok();
}
