//! What this machine can do. A test that needs more is skipped.

use std::io::Write;
use std::process::{Command, Stdio};

/// Prints a line about the current test. Directly: what `eprintln!` prints is not shown of a test that passes.
pub(crate) fn say(line: &str) {
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "{}: {line}", thread.name().unwrap_or("a test"));
}

/// Says that a test is skipped because `what` is missing. With CI=true nothing may be missing.
fn skipped(what: &str) -> bool {
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "this test needs {what}, and CI must not skip it");
    say(&format!("skipped: needs {what}"));
    false
}

/// Whether the program `name` is installed.
pub(crate) fn needs(name: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain(["/sbin".into(), "/usr/sbin".into()]).any(|dir| dir.join(name).is_file())
    });
    found || skipped(name)
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this is root.
pub(crate) fn needs_root() -> bool {
    is_root() || skipped("root")
}

/// Whether strace is there and may trace.
pub(crate) fn needs_strace() -> bool {
    needs("strace")
        && (Command::new("strace")
            .args(["-o", "/dev/null", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
            || skipped("strace that may trace"))
}

/// Whether a user namespace can be made here.
pub(crate) fn needs_user_namespaces() -> bool {
    needs("unshare")
        && (Command::new("unshare").args(["-Ur", "true"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
            || skipped("user namespaces"))
}

/// Whether a PID namespace can be made here, with a /proc of its own.
pub(crate) fn needs_pid_namespaces() -> bool {
    needs_root()
        && needs("unshare")
        && (Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
            || skipped("PID namespaces"))
}

/// Whether file systems can be mounted here.
pub(crate) fn needs_mount() -> bool {
    needs_root()
        && (Command::new("unshare")
            .args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
            || skipped("a machine that lets root mount"))
}
