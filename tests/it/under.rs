//! Going on under a lock that the program has, and not waiting for oneself.

use std::sync::mpsc::channel;
use std::time::Duration;

use awrite::{AtomicFile, ErrorKind, FileLock, Lease, LockMethod, LockOptions, Set, Wait, WriteOptions};

use crate::common::{TestDir, assert_no_debris};

const METHODS: [LockMethod; 2] = [LockMethod::Flock, LockMethod::Link];

fn under(lock: &FileLock) -> WriteOptions {
    WriteOptions::new().lock(LockOptions::new().under(lock))
}

#[test]
fn a_write_goes_on_under_the_lock_and_leaves_it_held() {
    for method in METHODS {
        let dir = TestDir::new();
        let (path, options) = (dir.join("f"), LockOptions::new().method(method));
        let lock = FileLock::acquire(&path, &options).unwrap();
        for _ in 0..2 {
            awrite::write(&path, &b"one"[..], &under(&lock)).unwrap();
            awrite::update(&path, &under(&lock), |old, new| std::io::copy(old, new).and(new.write_all(b"+"))).unwrap();
            assert_eq!(dir.read("f"), "one+");
        }
        drop(AtomicFile::open(&path, &under(&lock)).unwrap());
        let lease = Lease::acquire(&path, "me", Duration::from_secs(60), &LockOptions::new().under(&lock)).unwrap();
        lease.release().unwrap();
        lock.ensure_held().unwrap();
        let others = LockOptions::new().wait(Wait::No);
        assert_eq!(FileLock::acquire(&path, &others).unwrap_err().kind(), ErrorKind::LockBusy);
        lock.release().unwrap();
        FileLock::acquire(&path, &others).unwrap().release().unwrap();
        assert_no_debris(dir.path(), &["f"]);
    }
}

#[test]
fn several_files_under_their_locks() {
    let dir = TestDir::new();
    let paths = ["a", "b"].map(|name| dir.join(name));
    let locks = FileLock::acquire_all(&paths, &LockOptions::new(), &awrite::Observer::default()).unwrap();
    let all: awrite::Under = locks.as_slice().into();
    let mut set = Set::open(&paths, &WriteOptions::new().lock(LockOptions::new().under(all))).unwrap();
    set.file(0).add(b"a").unwrap();
    set.file(1).add(b"b").unwrap();
    set.commit().unwrap();
    locks.iter().for_each(|lock| lock.ensure_held().unwrap());
    drop(locks);
    assert_no_debris(dir.path(), &["a", "b"]);
}

#[test]
fn only_under_the_right_lock_and_while_it_is_held() {
    for method in METHODS {
        let dir = TestDir::new();
        let options = LockOptions::new().method(method);
        let lock = FileLock::acquire(dir.join("f"), &options).unwrap();
        let refused = awrite::write(dir.join("g"), &b"x"[..], &under(&lock)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
        let mut late = AtomicFile::open(dir.join("f"), &under(&lock)).unwrap();
        late.add(b"late").unwrap();
        let options_of_released = under(&lock);
        lock.release().unwrap();
        assert_eq!(late.commit().unwrap_err().kind(), ErrorKind::LockLost);
        let lost = awrite::write(dir.join("f"), &b"x"[..], &options_of_released).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::LockLost, "{lost}");
        assert_no_debris(dir.path(), &[]);
    }
    let dir = TestDir::new();
    let shared = FileLock::acquire(dir.join("f"), &LockOptions::new().shared(true)).unwrap();
    let refused = awrite::write(dir.join("f"), &b"x"[..], &under(&shared)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
}

#[test]
fn a_thread_does_not_wait_for_itself_for_ever() {
    for method in METHODS {
        let dir = TestDir::new();
        let (path, options) = (dir.join("f"), LockOptions::new().method(method));
        let lock = FileLock::acquire(&path, &options).unwrap();
        let own =
            |options: LockOptions| awrite::write(&path, &b"x"[..], &WriteOptions::new().lock(options)).unwrap_err();
        let error = own(options.clone());
        assert_eq!((error.kind(), error.remedy()), (ErrorKind::LockBusy, Some(&awrite::Remedy::UnderOwnLock)));
        assert!(
            error.to_string().ends_with("File locked by this process: this thread would wait for itself"),
            "{error}"
        );
        assert!(own(options.clone().wait(Wait::No)).to_string().ends_with("File locked by this process"));
        let error = own(options.clone().wait(Wait::For(Duration::from_millis(20))));
        assert_eq!((error.kind(), error.remedy()), (ErrorKind::LockTimeout, Some(&awrite::Remedy::UnderOwnLock)));

        // In a callback of an update, too.
        drop(lock);
        let inner = awrite::update(&path, &WriteOptions::new().lock(options.clone()), |_, _| {
            Err::<(), _>(std::io::Error::other(own(options.clone()).to_string()))
        });
        assert!(inner.unwrap_err().to_string().contains("would wait for itself"));

        // Another thread waits, as another process does.
        let lock = FileLock::acquire(&path, &options).unwrap();
        let (started, has_started) = channel();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                started.send(()).unwrap();
                FileLock::acquire(&path, &options).unwrap().release().unwrap();
            });
            has_started.recv().unwrap();
            lock.release().unwrap();
            waiter.join().unwrap();
        });
        FileLock::acquire(&path, &options).unwrap().release().unwrap();
        assert_no_debris(dir.path(), &[]);
    }
}
