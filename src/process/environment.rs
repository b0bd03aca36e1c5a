//! The environment of a child, which is that of this process but for one variable.
//!
//! `Command::env` copies every variable before the child is started, one by one: half of the instructions of a small
//! `awrite-lock f -- true`. Here the child gets the strings of this process, and one more.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

unsafe extern "C" {
    /// environ(7): pointers to strings, and a null pointer.
    static mut environ: *const *const c_char;
}

/// An environment for `execvp`.
struct Environment {
    /// The new string, to which one of the pointers leads.
    _entry: Option<CString>,
    strings: Vec<*const c_char>,
}

// SAFETY: nobody writes to the strings: this process does not change its own environment.
unsafe impl Send for Environment {}
// SAFETY: as above.
unsafe impl Sync for Environment {}

impl Environment {
    /// That of this process, with `name` set to `value`, or without it.
    fn with(name: &str, value: Option<&OsStr>) -> Option<Environment> {
        let entry = match value {
            Some(value) => Some(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()?),
            None => None,
        };
        let mut strings = Vec::new();
        // SAFETY: `environ` is null or leads to pointers to strings, the last of which is null. Nothing in this process
        // changes it.
        unsafe {
            let mut next = environ;
            while !next.is_null() && !(*next).is_null() {
                let set = CStr::from_ptr(*next).to_bytes().strip_prefix(name.as_bytes());
                if set.is_none_or(|rest| rest.first() != Some(&b'=')) {
                    strings.push(*next);
                }
                next = next.add(1);
            }
        }
        strings.extend(entry.as_ref().map(|entry| entry.as_ptr()));
        strings.push(ptr::null());
        Some(Environment { _entry: entry, strings })
    }

    /// Async-signal-safe.
    fn set(&self) {
        // SAFETY: the pointers are valid as long as `self` is, and nothing else in this process uses the variable now.
        unsafe { environ = self.strings.as_ptr() };
    }
}

/// Sets the variable `name` for `command`, or removes it. Once only, and after all others: what comes later would take
/// its place.
pub(super) fn set_variable(command: &mut Command, name: &str, value: Option<&OsStr>) {
    // Where there are others already, they are copied. A NUL in the value is an error when the command is started.
    let is_first = command.get_envs().next().is_none();
    let Some(environment) = is_first.then(|| Environment::with(name, value)).flatten() else {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
        return;
    };
    // SAFETY: the closure runs between fork and exec, or before exec in this process, and stores a pointer. It lives
    // until after that.
    unsafe {
        command.pre_exec(move || {
            environment.set();
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, value: Option<&str>) -> Vec<String> {
        let mut command = Command::new("env");
        set_variable(&mut command, name, value.map(OsStr::new));
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_child_gets_one_variable_more() {
        let before = shown("AWRITE_NONE", None);
        assert!(before.iter().any(|line| line.starts_with("PATH=")));
        let mut with = shown("AWRITE_NEW_ONE", Some("a=b"));
        assert_eq!(with.pop().unwrap(), "AWRITE_NEW_ONE=a=b");
        assert_eq!(with, before);
        let mut replaced = shown("PATH", Some("/bin:/usr/bin"));
        assert_eq!(replaced.pop().unwrap(), "PATH=/bin:/usr/bin");
        let others: Vec<_> = before.iter().filter(|line| !line.starts_with("PATH=")).cloned().collect();
        assert_eq!(replaced, others);
        // A name is not its beginning.
        assert_eq!(shown("PAT", None), before);
        assert_eq!(shown("HOM", Some("x")).len(), before.len() + 1);
    }

    #[test]
    fn this_process_keeps_its_own() {
        let before = std::env::vars_os().count();
        assert_eq!(shown("AWRITE_NEW_ONE", Some("")).last().unwrap(), "AWRITE_NEW_ONE=");
        assert_eq!(std::env::vars_os().count(), before);
    }

    #[test]
    fn others_that_were_set_before_stay() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $OTHER $AWRITE_NEW_ONE ${HOME-none}"]).env("OTHER", "1").env_remove("HOME");
        set_variable(&mut command, "AWRITE_NEW_ONE", Some(OsStr::new("2")));
        assert_eq!(command.output().unwrap().stdout, b"1 2 none\n");
    }

    #[test]
    fn a_nul_is_an_error() {
        let mut command = Command::new("true");
        set_variable(&mut command, "AWRITE_NEW_ONE", Some(OsStr::new("a\0b")));
        assert_eq!(command.status().unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
}
