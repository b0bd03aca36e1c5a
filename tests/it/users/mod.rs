//! Several users and one file: nobody gains access by a write, at no instant. Users and groups are numbers; no accounts
//! are needed. By root, who becomes all of them.

mod access;
mod asked;
mod instants;
mod kept;
mod links;

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::common::{Run, TestDir, chmod, needs, needs_root, needs_strace};

/// A user with the groups that the process has, the first as its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) groups: &'static [u32],
}

pub(super) const SECRET: u32 = 3000;
pub(super) const USERS: u32 = 3001;
pub(super) const TEAM: u32 = 3002;

pub(super) const ROOT: User = User { uid: 0, groups: &[0] };
pub(super) const ALICE: User = User { uid: 2001, groups: &[SECRET] };
/// Who is of the group, and writes with another.
pub(super) const MEMBER: User = User { uid: 2002, groups: &[USERS, SECRET] };
pub(super) const BOB: User = User { uid: 2002, groups: &[USERS] };
pub(super) const CAROL: User = User { uid: 2003, groups: &[USERS] };
/// What some lists say of carol does not depend on her groups.
pub(super) const CAROL_OF_SECRET: User = User { uid: 2003, groups: &[USERS, SECRET] };
pub(super) const DAVE: User = User { uid: 2004, groups: &[TEAM] };
pub(super) const EVE: User = User { uid: 2005, groups: &[2005] };
pub(super) const FRANK: User = User { uid: 2006, groups: &[2006, SECRET, TEAM] };

/// Everybody whose access is looked at.
pub(super) const EVERYBODY: &[User] = &[ALICE, MEMBER, BOB, CAROL, CAROL_OF_SECRET, DAVE, EVE, FRANK];

/// Whether this test can be run: as root, with programs that make other users and lists.
pub(super) fn needs_users() -> bool {
    needs_root() && needs("setpriv") && needs("setfacl") && needs("getfacl")
}

/// The same, with strace.
pub(super) fn needs_users_and_strace() -> bool {
    needs_users() && needs_strace()
}

/// A directory where everybody may write, on a disk with lists.
pub(super) fn shared_dir() -> TestDir {
    let dir = TestDir::on_disk();
    dir.open_to_all();
    dir
}

impl User {
    /// A program that this user runs.
    pub(super) fn runs(self, dir: &TestDir, program: &str, args: &[&str]) -> Run {
        if self.uid == 0 {
            return dir.program(program, args);
        }
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let (uid, gid, groups) = (self.uid.to_string(), groups[0].clone(), groups.join(","));
        let setpriv = ["--reuid", &uid, "--regid", &gid, "--groups", &groups, "--inh-caps=-all", "--", program];
        dir.program("setpriv", setpriv.iter().chain(args))
    }

    /// awrite, run by this user.
    pub(super) fn awrite(self, dir: &TestDir, args: &[&str]) -> Run {
        let binary = dir.reachable_binary().to_str().unwrap().to_owned();
        self.runs(dir, &binary, args)
    }

    /// awrite below strace with these arguments, run by this user.
    pub(super) fn traced(self, dir: &TestDir, strace: &[&str], args: &[&str]) -> Run {
        let binary = dir.reachable_binary().to_str().unwrap().to_owned();
        let all: Vec<&str> = ["-f", "-qq", "-o", "/dev/null"].iter().chain(strace).copied().collect();
        let all: Vec<&str> = all.into_iter().chain([binary.as_str()]).chain(args.iter().copied()).collect();
        self.runs(dir, "strace", &all)
    }

    /// Calls `what` in a thread that has this user's rights and no others.
    pub(super) fn does<T: Send>(self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                self.become_in_this_thread();
                what()
            });
            thread.join().unwrap()
        })
    }

    /// The library's calls would change all threads of the process; the system calls are about one (setresuid(2)).
    #[allow(unsafe_code)]
    fn become_in_this_thread(self) {
        let (uid, gid) = (self.uid, self.groups[0]);
        // SAFETY: plain system calls; the list of groups lives for ever.
        let done = unsafe {
            libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr())
                | libc::syscall(libc::SYS_setresgid, gid, gid, gid)
                | libc::syscall(libc::SYS_setresuid, uid, uid, uid)
        };
        assert_eq!(done, 0, "cannot become {self:?}");
    }

    /// What this user may do with the file: 4 read, 2 write.
    pub(super) fn access_to(self, path: &Path) -> u32 {
        self.does(|| {
            let opens = |read: bool| {
                let mut how = fs::OpenOptions::new();
                how.read(read).write(!read).custom_flags(libc::O_NONBLOCK).open(path).is_ok()
            };
            u32::from(opens(true)) * 4 + u32::from(opens(false)) * 2
        })
    }
}

/// The file `name`, of alice and the group `SECRET`, with `mode`, and entries of a list as setfacl(1) takes them.
pub(super) fn make(dir: &TestDir, name: &str, mode: u32, entries: &str) {
    let path = dir.join(name);
    let _ = fs::remove_file(&path);
    fs::write(&path, "old").unwrap();
    std::os::unix::fs::chown(&path, Some(ALICE.uid), Some(SECRET)).unwrap();
    chmod(&path, mode);
    if !entries.is_empty() {
        dir.program("setfacl", ["-m", entries, name]).run().ok();
    }
}

/// Owner, group and mode.
#[track_caller]
pub(super) fn owned(dir: &TestDir, name: &str) -> (u32, u32, u32) {
    let meta = fs::metadata(dir.join(name)).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}
