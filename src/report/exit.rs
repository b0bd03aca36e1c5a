//! The exit statuses of all commands.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

pub(crate) const SUCCESS: u8 = 0;
/// An error. [`awrite::Error::exit_code`] gives this status and the next one, and 4 for a conflict.
pub(crate) const FAILURE: u8 = 1;
/// The lock or lease was not acquired, or was lost.
pub(crate) const NOT_HELD: u8 = 2;
/// SIGINT, SIGTERM or SIGHUP ended the work.
pub(crate) const INTERRUPTED: u8 = 3;

// COMMAND was not run. Shells use the same statuses.
pub(crate) const CANNOT_RUN: u8 = 126;
pub(crate) const NOT_FOUND: u8 = 127;

/// The lock of flock(1) was not acquired.
pub(crate) const FLOCK_CONFLICT: u8 = 1;
// flock(1) takes these from sysexits.h.
pub(crate) const USAGE: u8 = 64;
pub(crate) const DATAERR: u8 = 65;
pub(crate) const NOINPUT: u8 = 66;
pub(crate) const UNAVAILABLE: u8 = 69;
pub(crate) const OSERR: u8 = 71;
pub(crate) const CANTCREAT: u8 = 73;

/// The status that tells how COMMAND ended: its own, or 128+N if signal N has killed it. Shells use the same statuses.
pub(crate) fn of_command(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE)
}
