//! The limit on open descriptors. A set of files needs some for each of them.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits that this process was started with, if it has others now.
static FORMER: OnceLock<Rlimit> = OnceLock::new();

/// Raises the limit as far as this user may. What is too little then is found when a descriptor is opened.
pub(crate) fn raise_descriptor_limit() {
    let former = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: former.maximum, ..former };
    if former.current != raised.current && setrlimit(Resource::Nofile, raised).is_ok() {
        // Never set before: this is called once, when the work begins.
        let _ = FORMER.set(former);
    }
}

/// Lets `command` have the limit that this process was started with: a program that uses select(2) fails with larger
/// descriptors.
pub(super) fn lower_again(command: &mut Command) {
    let Some(former) = FORMER.get().copied() else { return };
    // SAFETY: the closure runs between fork and exec and makes one system call, on its own data.
    unsafe {
        command.pre_exec(move || setrlimit(Resource::Nofile, former).map_err(io::Error::from));
    }
}
