//! This machine and its processes: its name, which boot it is, what its clocks say, which processes live.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, test_kill_process};
use rustix::time::{ClockId, clock_gettime};

use super::dir::FileStatus;

/// Time since boot, suspension included: nobody can set this clock, and it goes on while a laptop sleeps.
pub(crate) fn boot_clock() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Nanoseconds since 1970, by the clock that anybody with the right to it can set.
pub(crate) fn wall_clock() -> i128 {
    // A `Duration` has less than 95 bits of nanoseconds.
    let nanos = |d: Duration| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(before) => -nanos(before.duration()),
    }
}

/// Which boot of which machine this is; `None` without /proc, as in an empty root directory.
pub(crate) fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The boot id, if every process that reads the same id also reads the same boot clock. Asked once per process.
///
/// A time namespace has a boot clock of its own under the same boot id (time_namespaces(7)). So only the first
/// namespace's clock can be compared; its inode number is fixed (PROC_TIME_INIT_INO). Before Linux 5.6 there are none.
pub(crate) fn boot_id_of_clock() -> Option<&'static str> {
    static ID: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let namespace = std::fs::read_link("/proc/self/ns/time");
        if namespace.is_ok_and(|name| name.as_os_str() != "time:[4026531834]") { None } else { boot_id() }
    };
    if cfg!(any(target_os = "linux", target_os = "android")) { ID.get_or_init(ask).as_deref() } else { None }
}

/// The namespace in which process ids are counted: containers of one machine share the boot, but not this.
pub(crate) fn pid_namespace() -> Option<u64> {
    namespace("pid")
}

/// The namespace whose offset is in the boot clock, and in the start times of processes as /proc shows them
/// (time_namespaces(7)). Before Linux 5.6 there is one, which is called 0 here.
pub(crate) fn time_namespace() -> Option<u64> {
    namespace("time").or_else(|| pid_namespace().map(|_| 0))
}

fn namespace(kind: &str) -> Option<u64> {
    FileStatus::following(&Path::new("/proc/self/ns").join(kind)).ok().map(|status| status.id.ino)
}

/// Whether /proc shows processes under the ids that they have here. A /proc that was mounted in another PID namespace
/// (`unshare --pid --fork` without `--mount-proc`) shows other processes under these numbers, this one under another.
pub(crate) fn proc_is_ours() -> bool {
    std::fs::read_link("/proc/self").is_ok_and(|id| id.as_os_str() == std::process::id().to_string().as_str())
}

/// Which ids a user namespace knows: `/proc/self/uid_map` or `gid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdMap {
    Users,
    Groups,
}

impl IdMap {
    /// Whether an owner or a group that is shown as `id` may be any that this namespace does not know. The kernel shows all
    /// of those as 65534, which may be known as another's number at the same time (user_namespaces(7)).
    pub(crate) fn may_hide(self, id: u32) -> bool {
        /// /proc/sys/kernel/overflowuid and overflowgid: nobody changes them.
        const OVERFLOW: u32 = 65534;
        if id != OVERFLOW || !cfg!(any(target_os = "linux", target_os = "android")) {
            return false;
        }
        // The first namespace knows all; its inode number is fixed (PROC_USER_INIT_INO).
        if std::fs::read_link("/proc/self/ns/user").is_ok_and(|name| name.as_os_str() == "user:[4026531837]") {
            return false;
        }
        let map = match self {
            IdMap::Users => "/proc/self/uid_map",
            IdMap::Groups => "/proc/self/gid_map",
        };
        std::fs::read_to_string(map).is_ok_and(|text| !is_whole(&text))
    }
}

/// Whether a map knows all ids: lines of first id here, first id there, how many.
fn is_whole(map: &str) -> bool {
    let count = |line: &str| line.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    map.lines().map(count).fold(0, u64::saturating_add) >= u64::from(u32::MAX)
}

pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// When the process was started, in clock ticks since boot. A process id and this identify a process for as long as the
/// machine runs, for those who are in the same [`time_namespace`]: to others, /proc shows another number.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    stat_of(pid).map(|stat| stat.start_time)
}

/// Whether a process with this id exists, even if this user may not signal it; `None` where no process can have this id.
fn exists(pid: u32) -> Option<bool> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    Some(test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Whether a process with this id exists.
pub(crate) fn is_there(pid: u32) -> bool {
    exists(pid) == Some(true)
}

/// Whether the process with this id and start time is certainly gone. An entry of /proc that cannot be read (hidepid)
/// proves nothing, and neither does a /proc of [another PID namespace](proc_is_ours).
pub(crate) fn is_gone(pid: u32, started: Option<u64>) -> bool {
    if exists(pid) == Some(false) {
        return true;
    }
    match stat_of(pid) {
        // A zombie runs no more. But the main thread is shown as one, too, when it ends before the other threads.
        Some(stat) if matches!(stat.state, 'Z' | 'X') && stat.threads <= 1 => true,
        Some(stat) => started.is_some_and(|started| started != stat.start_time),
        None => false,
    }
}

struct Stat {
    state: char,
    parent: u32,
    threads: u64,
    start_time: u64,
}

/// The ancestors of this process, its parent first, as far as /proc shows them.
pub(crate) fn ancestors() -> Vec<u32> {
    let mut above = Vec::new();
    let mut next = stat_of(std::process::id()).map(|stat| stat.parent);
    while let Some(pid) = next.filter(|pid| *pid > 0 && !above.contains(pid)) {
        above.push(pid);
        // Whether /proc is ours has been asked.
        next = read_stat(pid).map(|stat| stat.parent);
    }
    above
}

fn stat_of(pid: u32) -> Option<Stat> {
    if !proc_is_ours() {
        return None;
    }
    read_stat(pid)
}

fn read_stat(pid: u32) -> Option<Stat> {
    use std::io::Read;
    // In one read(2), for there is one of these for each ancestor before a wait. The fields that count are in front.
    let mut text = [0; 1024];
    let length = std::fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut text)).ok()?;
    parse_stat(&String::from_utf8_lossy(&text[..length]))
}

/// proc_pid_stat(5): the second field is a name in parentheses that may hold any character; fields 3, 4, 20 and 22 follow.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        threads: fields.get(17)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

/// What holds for any text.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_stat(text: &str) {
    let Some(stat) = parse_stat(text) else { return };
    // The fields begin behind the last parenthesis, whatever the name is.
    let renamed = format!("1 (:-) {text}");
    assert!(parse_stat(&renamed).is_some_and(|other| other.start_time == stat.start_time), "{text:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn maps_of_ids() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(is_whole("0 1000 1\n1 100000 4294967294\n"));
        assert!(!is_whole("         0     100000      65536\n"));
        assert!(!is_whole("") && !is_whole("0 0") && is_whole(&"0 0 18446744073709551615\n".repeat(2)));
    }

    proptest! {
        #[test]
        fn lines_of_the_kernel(
            text: String,
            name in "[^\0]{0,15}",
            state in "[A-Z]",
            parent: u32,
            threads: u64,
            start: u64,
        ) {
            any_stat(&text);
            let between = "3 4 5 6 7 8 9 10 11 12 13 14 15 16 17";
            let line = format!("7 ({name}) {state} {parent} {between} {threads} 0 {start} 1 2\n");
            any_stat(&line);
            let stat = parse_stat(&line).unwrap();
            let state = state.chars().next().unwrap();
            prop_assert_eq!((stat.state, stat.parent, stat.threads, stat.start_time), (state, parent, threads, start));
        }
    }

    #[test]
    fn a_process_is_told_by_number_and_start() {
        let me = std::process::id();
        let started = start_time(me);
        assert!(!is_gone(me, started));
        assert!(!is_gone(me, None));
        if let Some(started) = started {
            assert!(is_gone(me, Some(started + 1)));
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (pid, started) = (child.id(), start_time(child.id()));
        let mut status = rustix::process::waitid(
            rustix::process::WaitId::Pid(Pid::from_child(&child)),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        assert!(status.take().is_some_and(|s| s.exited()));
        if started.is_some() {
            assert!(is_gone(pid, started), "a zombie");
        }
        child.wait().unwrap();
        assert!(is_gone(pid, started));
    }

    #[test]
    fn a_name_with_parentheses_and_blanks() {
        let text = "7 (a) R (b) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 1 18 12345 20\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.parent, stat.threads, stat.start_time), ('Z', 1, 1, 12345));
        assert!(parse_stat("7 (a").is_none());
        assert!(parse_stat("7 (a) Z 1").is_none());
    }
}
