//! The changes of a record, with clocks that the test sets.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

use super::clock::fake::Fake;
use super::door::{Purpose, lock_target};
use super::record::{LeaseRecord, MAX_TTL};
use super::store::{LeaseStore, Written, clear_by};
use super::visitor::{Role, Visitor};
use crate::error::{ErrorKind, Result};
use crate::lock::{Cleared, FileLock};
use crate::notice::Observer;
use crate::options::{Claim, LockOptions, Wait};
use crate::sys::Dir;
use crate::target::Resolve;

const TTL: Duration = Duration::from_secs(60);

struct Scene {
    dir: tempfile::TempDir,
    clock: Fake,
    options: LockOptions,
}

impl Scene {
    fn new() -> Scene {
        let options = LockOptions { wait: Wait::No, ..LockOptions::default() };
        Scene { dir: tempfile::tempdir().unwrap(), clock: Fake::new(), options }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("f")
    }

    fn on<T>(&self, target: &Path, act: impl FnOnce(&LeaseStore<'_>) -> T) -> T {
        act(&LeaseStore { clock: &self.clock, target, options: &self.options, observer: &Observer::default() })
    }

    fn take(&self, target: &Path, ttl: Duration) -> Result<Written> {
        self.on(target, |store| store.acquire("a", ttl))
    }

    fn acquire(&self, owner: &str) -> Result<u64> {
        self.on(&self.target(), |store| store.acquire(owner, TTL)).map(|written| written.record.token)
    }

    fn refresh(&self, owner: &str, token: Option<u64>) -> Result<u64> {
        let refreshed = self.on(&self.target(), |store| store.refresh(&claim(owner, token), None));
        refreshed.map(|written| written.record.token)
    }

    fn end(&self, owner: &str, token: Option<u64>) -> Result<bool> {
        self.on(&self.target(), |store| store.end(&claim(owner, token)).map(|was| was.is_some()))
    }

    /// Whether a plain writer gets in.
    fn enter(&self) -> Result<()> {
        let visitor = Visitor { role: Role::Anybody, clock: &self.clock };
        lock_target(
            &self.target(),
            Resolve { follow: true, mkdir: false },
            &self.options,
            &visitor,
            &Observer::default(),
            Purpose::Hold,
            |_, _| Ok(()),
        )
        .map(drop)
    }

    fn text(&self) -> Option<String> {
        fs::read_to_string(self.dir.path().join("f.lease")).ok()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn claim(owner: &str, token: Option<u64>) -> Claim {
    token.map_or_else(|| Claim::new(owner).unwrap(), |token| Claim::of(owner, token))
}

#[track_caller]
fn kind<T: fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    let error = outcome.unwrap_err();
    assert_eq!(error.exit_code() == 2, matches!(error.kind(), ErrorKind::Leased | ErrorKind::LockLost), "{error}");
    error.kind()
}

#[test]
fn a_lease_keeps_others_out_until_it_ends() {
    let s = Scene::new();
    let token = s.acquire("a").unwrap();
    assert_eq!(kind(s.acquire("b")), ErrorKind::Leased);
    assert_eq!(kind(s.enter()), ErrorKind::Leased);
    assert_eq!(s.names(), ["f.lease"]);
    s.clock.pass(TTL - Duration::from_millis(1));
    assert_eq!(kind(s.enter()), ErrorKind::Leased);
    s.clock.pass(Duration::from_millis(1));
    s.enter().unwrap();
    assert!(s.acquire("b").unwrap() > token);
    assert_eq!(kind(s.refresh("a", Some(token))), ErrorKind::LockLost);
}

#[test]
fn its_owner_refreshes_it_even_after_its_time() {
    let s = Scene::new();
    let token = s.acquire("a").unwrap();
    s.clock.pass(TTL / 2);
    assert_eq!(s.acquire("a").unwrap(), token);
    s.clock.pass(TTL * 3 / 4);
    assert_eq!(kind(s.enter()), ErrorKind::Leased);
    s.clock.pass(TTL * 10);
    s.enter().unwrap();
    assert_eq!(s.refresh("a", Some(token)).unwrap(), token);
    assert_eq!(kind(s.acquire("b")), ErrorKind::Leased);
    s.clock.pass(TTL * 10);
    assert_eq!(s.acquire("a").unwrap(), token);
}

#[test]
fn others_and_old_tokens_change_nothing() {
    let s = Scene::new();
    for owner in ["a", "b"] {
        assert_eq!(kind(s.refresh(owner, None)), ErrorKind::LockLost);
        assert!(!s.end(owner, None).unwrap());
    }
    let token = s.acquire("a").unwrap();
    let text = s.text();
    for (owner, token) in [("b", None), ("b", Some(token)), ("a", Some(token - 1)), ("a", Some(token + 1))] {
        assert_eq!(kind(s.refresh(owner, token)), ErrorKind::LockLost);
        assert_eq!(kind(s.end(owner, token)), ErrorKind::LockLost);
        assert_eq!(s.text(), text);
    }
    // The end of the lease does not make it theirs either.
    s.clock.pass(TTL * 2);
    assert_eq!(kind(s.refresh("b", None)), ErrorKind::LockLost);
    assert_eq!(kind(s.end("b", None)), ErrorKind::LockLost);
    assert_eq!(s.text(), text);
}

#[test]
fn released_it_is_gone() {
    let s = Scene::new();
    let token = s.acquire("a").unwrap();
    s.clock.pass(Duration::from_millis(1));
    assert!(s.end("a", Some(token)).unwrap());
    assert!(s.names().is_empty());
    assert!(!s.end("a", Some(token)).unwrap());
    assert_eq!(kind(s.refresh("a", Some(token))), ErrorKind::LockLost);
    s.enter().unwrap();
}

#[test]
fn steps_of_the_wall_clock_neither_free_nor_extend_it() {
    let s = Scene::new();
    s.acquire("a").unwrap();
    for step in [1_000_000, -5_000_000, 2_000_000] {
        s.clock.step(step);
        assert_eq!(kind(s.acquire("b")), ErrorKind::Leased);
        assert_eq!(kind(s.enter()), ErrorKind::Leased);
        s.clock.pass(TTL / 6);
    }
    s.clock.pass(TTL / 2);
    s.enter().unwrap();
    s.acquire("b").unwrap();
}

#[test]
fn after_a_restart_the_wall_clock_decides() {
    let s = Scene::new();
    s.acquire("a").unwrap();
    s.clock.reboot("boot-2");
    s.clock.pass(TTL / 2);
    assert_eq!(kind(s.enter()), ErrorKind::Leased);
    s.clock.pass(TTL / 2);
    s.enter().unwrap();
    // After a refresh, the new boot's clock measures it.
    s.refresh("a", None).unwrap();
    s.clock.step(1_000_000);
    assert_eq!(kind(s.enter()), ErrorKind::Leased);
    s.clock.pass(TTL);
    s.enter().unwrap();
}

#[test]
fn tokens_grow_whatever_happens() {
    let s = Scene::new();
    let mut last = 0;
    let mut grown = |token: u64| assert!(std::mem::replace(&mut last, token) < token);
    grown(s.acquire("a").unwrap());
    // By release.
    s.clock.pass(Duration::from_millis(1));
    s.end("a", None).unwrap();
    grown(s.acquire("a").unwrap());
    // By expiry.
    s.clock.pass(TTL);
    grown(s.acquire("b").unwrap());
    // By expiry, after the clock was set back.
    s.clock.step(-1_000_000);
    s.clock.pass(TTL);
    grown(s.acquire("a").unwrap());
    // By release while the clock is behind the token: the record stays, but keeps nobody out and cannot be revived.
    assert!(s.end("a", None).unwrap());
    assert!(s.text().unwrap().contains(r#""released":true"#));
    assert!(!s.end("a", None).unwrap());
    assert_eq!(kind(s.refresh("a", None)), ErrorKind::LockLost);
    s.enter().unwrap();
    grown(s.acquire("a").unwrap());
    // By deletion.
    fs::remove_file(s.dir.path().join("f.lease")).unwrap();
    s.clock.step(1_000_001);
    s.clock.pass(TTL);
    grown(s.acquire("b").unwrap());
}

#[test]
fn damaged_records_stop_everybody_and_are_kept() {
    let s = Scene::new();
    s.acquire("a").unwrap();
    let whole = s.text().unwrap();
    let newer = whole.replacen("\"version\":1", "\"version\":2", 1);
    for text in ["", "{}", &whole[..whole.len() / 2], "something else\n", &newer] {
        fs::write(s.dir.path().join("f.lease"), text).unwrap();
        for outcome in [s.acquire("a"), s.acquire("b"), s.refresh("a", None), s.enter().map(|()| 0)] {
            let error = outcome.unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (ErrorKind::DamagedRecord, 1), "{error}");
            assert!(error.path().unwrap().ends_with("f.lease"));
        }
        assert_eq!(kind(s.end("a", None)), ErrorKind::DamagedRecord);
        assert_eq!(s.text().as_deref(), Some(text));
        assert_eq!(s.names(), ["f.lease"]);
    }
}

#[test]
fn housekeeping_clears_what_is_over_and_nothing_else() {
    let s = Scene::new();
    let dir = Arc::new(Dir::open(s.dir.path()).unwrap());
    let clear = |name: &str, dry_run| clear_by(&s.clock, &dir, OsStr::new(name), dry_run).unwrap();
    let path = s.dir.path().join("f.lease");
    assert_eq!(clear("f.lease", false), Cleared::Gone);
    s.acquire("a").unwrap();
    assert_eq!(clear("f.lease", false), Cleared::Kept("not expired"));
    s.clock.pass(TTL);
    // While somebody has the lock, the lease may be about to be refreshed.
    let lock = FileLock::acquire(s.target(), &s.options).unwrap();
    assert_eq!(clear_by(&s.clock, &dir, OsStr::new("f.lease"), false).unwrap_err().kind(), ErrorKind::LockBusy);
    drop(lock);
    assert_eq!(clear("f.lease", true), Cleared::Removed);
    assert!(path.exists());
    s.clock.step(-1_000_000);
    assert_eq!(clear("f.lease", false), Cleared::Kept("its token is ahead of the clock"));
    s.clock.step(1_000_000);
    assert_eq!(clear("f.lease", false), Cleared::Removed);
    assert!(s.names().is_empty());
    fs::write(&path, "somebody's data").unwrap();
    assert_eq!(clear("f.lease", false), Cleared::Kept("not a lease that can be read"));
    // Too long a name: the record has it cut, so the target cannot be told.
    let long = s.dir.path().join("n".repeat(255));
    let ttl = Duration::from_millis(1);
    let written = s.take(&long, ttl).unwrap();
    s.clock.pass(ttl);
    let name = written.path.file_name().unwrap().to_str().unwrap();
    assert_eq!(clear(name, false), Cleared::Kept("its target cannot be told from its name"));
}

#[test]
fn what_is_no_file_is_no_record() {
    let s = Scene::new();
    let path = s.dir.path().join("f.lease");
    let elsewhere = s.dir.path().join("elsewhere");
    fs::create_dir(&path).unwrap();
    assert_eq!(kind(s.acquire("a")), ErrorKind::DamagedRecord);
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert_eq!(kind(s.acquire("a")), ErrorKind::DamagedRecord);
    assert_eq!(kind(s.enter()), ErrorKind::DamagedRecord);
    assert!(!elsewhere.exists());
}

#[test]
fn times_that_are_no_lease() {
    let s = Scene::new();
    let take = |ttl| s.take(&s.target(), ttl);
    for ttl in [Duration::ZERO, MAX_TTL + Duration::from_nanos(1), Duration::MAX] {
        assert_eq!(kind(take(ttl)), ErrorKind::Usage);
    }
    assert!(s.names().is_empty());
    take(MAX_TTL).unwrap();
    s.clock.pass(MAX_TTL - Duration::from_millis(1));
    assert_eq!(kind(s.enter()), ErrorKind::Leased);
}

#[test]
fn the_end_is_said_in_local_time() {
    let clock = Fake::new();
    let record = LeaseRecord::new("agent-7", Duration::from_secs(1), None, &clock).unwrap();
    assert_eq!(record.until(&clock).to_string().len(), "10:15:00".len());
    let record = LeaseRecord::new("agent-7", TTL * 60 * 24, None, &clock).unwrap();
    assert_eq!(record.until(&clock).to_string().len(), "2026-01-02 10:15:00".len());
}
