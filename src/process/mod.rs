//! This process as the system sees it: its signals, its children, its descriptors.
//!
//! ```text
//!   started with            SIGPIPE, SIGXFSZ: anything       SIGCHLD: anything    INT, TERM, HUP: default | ignored
//!   take_over               ignored: EPIPE, EFBIG instead    default: wait works  unchanged
//!   hold                                                                          blocked | ignored
//!   watch                                                                         caught, by a thread | ignored
//!   hold_again                                                                    blocked | ignored
//!   supervise               passed on to the child, if a process has sent them | ignored; QUIT, USR1, USR2 too
//!   COMMAND (hand_to)       exactly what this process was started with, the signal mask included
//! ```
//!
//! The first signal wakes the thread, which decides (see [`watch`]). Meanwhile the main thread goes on until it needs
//! the clean-up's mutex, ends a child, or wants to report a failure: there it gives way ([`give_way`]), so that the
//! signal is what gets reported, not what it has broken.

mod children;
mod masks;
mod panic;
mod running;
mod signals;
mod stdio;

pub(crate) use children::{
    Next, Running, become_command, ending, hand_descriptor, hand_lock, start, supervise, supervise_beside,
};
pub(crate) use masks::{Inherited, take_over};
pub(crate) use panic::guard;
pub(crate) use signals::{about_to_wait, give_way, hold, hold_again, watch};
pub(crate) use stdio::{InheritedFd, empty_input, is_complete};
