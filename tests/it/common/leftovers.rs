//! Processes that outlive their test. A test that forgets one fails; the process is killed all the same.
//!
//! Every process that a test starts has the test's directory in its environment, and passes it on to its children, also
//! to those that leave their session or their parent. One that changes its environment is found by its working
//! directory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::wait_until;

/// Not `AWRITE_…`: the program under test has no such variable.
const MARK: &str = "TEST_DIRECTORY";

/// How long a process may take to end when the test is over: it has been killed, or has just been told to go on.
const GRACE: Duration = Duration::from_secs(10);

/// The processes started by the test in a directory.
pub(super) struct Started {
    dir: PathBuf,
    /// Those that ran before the first one was started. None: none was started.
    before: OnceLock<BTreeSet<u32>>,
}

impl Started {
    pub(super) fn by(dir: &Path) -> Started {
        Started { dir: dir.to_owned(), before: OnceLock::new() }
    }

    pub(super) fn mark(&self, command: &mut Command) {
        self.before.get_or_init(|| processes().collect());
        command.env(MARK, &self.dir);
    }

    /// The processes that still run. A zombie has neither environment nor directory, so it is none of them.
    fn left(&self) -> Vec<u32> {
        let Some(before) = self.before.get() else { return Vec::new() };
        let mark = [MARK.as_bytes(), b"=", self.dir.as_os_str().as_encoded_bytes()].concat();
        let is_ours = |process: &u32| {
            let directory = fs::read_link(format!("/proc/{process}/cwd"));
            let variables = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
            // While a process becomes another program, its environment is empty for a moment.
            directory.is_ok_and(|directory| directory.starts_with(&self.dir))
                || variables.split(|&byte| byte == 0).any(|variable| variable == mark)
        };
        let own = std::process::id();
        processes().filter(|process| *process != own && !before.contains(process)).filter(is_ours).collect()
    }
}

impl Started {
    /// Kills what has not ended within `grace`, and says what that was.
    fn end(&self, grace: Duration) -> Vec<String> {
        let end = Instant::now() + grace;
        let mut left = self.left();
        while !left.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
            left = self.left();
        }
        let names: Vec<String> = left.iter().map(|&process| shown(process)).collect();
        // One of them may have forked before it was killed.
        let end = Instant::now() + GRACE;
        while !left.is_empty() && Instant::now() < end {
            for process in left {
                let pid = Pid::from_raw(process.try_into().unwrap()).unwrap();
                let _ = kill_process(pid, Signal::KILL);
            }
            left = self.left();
        }
        names
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let left = self.end(if failing { Duration::ZERO } else { GRACE });
        assert!(failing || left.is_empty(), "the test has left processes behind: {}", left.join("; "));
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// What a process is, as `ps` would say it.
fn shown(process: u32) -> String {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    format!("{process} {}", String::from_utf8_lossy(&words).replace('\0', " ").trim_end())
}

#[test]
fn what_is_left_is_found_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let started = Started::by(dir.path());
    // One in another directory and session, and one without the variable.
    let daemons = "(cd / && exec setsid sleep 601) & env -i sleep 602 &";
    let mut command = Command::new("sh");
    started.mark(command.args(["-c", daemons]).current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()));
    assert!(command.status().unwrap().success());
    let both = |names: &[String]| {
        let mut words: Vec<&str> = names.iter().filter_map(|name| Some(name.split_once(' ')?.1)).collect();
        words.sort_unstable();
        words == ["sleep 601", "sleep 602"]
    };
    wait_until("both run", || both(&started.left().into_iter().map(shown).collect::<Vec<_>>()));
    let ended = started.end(Duration::ZERO);
    assert!(both(&ended), "{ended:?}");
    assert_eq!(started.left(), [0; 0]);
}
