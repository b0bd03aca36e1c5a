//! This process as the system sees it: its signals, its children, its descriptors.
//!
//! The columns are groups of signals, the rows are what happens to them in the order of time:
//!
//! ```text
//!   started with            SIGPIPE, SIGXFSZ: anything       SIGCHLD: anything    INT, TERM, HUP: default | ignored
//!   take_over               ignored: EPIPE, EFBIG instead    default: wait works  unchanged
//!   hold                                                                          blocked | ignored
//!   watch                                                                         handled by a thread | ignored
//!   remember                                                                      remembered | ignored
//!   hold_again                                                                    blocked | ignored
//!   supervise               passed on to the child, if a process has sent them | ignored; QUIT, USR1, USR2 too
//!                           (all other deadly ones are blocked meanwhile, and passed on: outlived.rs)
//!   take_back                                                                     blocked | ignored
//!   COMMAND (hand_to)       exactly what this process was started with, the signal mask included
//! ```
//!
//! The first signal wakes the signal thread, which decides what to do (see [`watch`]). It passes the signal on to the child
//! that runs, and waits for its end. Meanwhile the main thread goes on until it needs the clean-up's mutex, has waited for
//! a child, or wants to report a failure. There it gives way ([`give_way`]): the user is to read that a signal came, not
//! which failure the signal caused.
//!
//! The signal thread is started before anything is made that must be removed, and only in a process that may have to wait.
//! Any other looks for a signal before it commits, and the main thread then does what the signal thread would do.

mod children;
mod ended;
mod environment;
mod limits;
mod masks;
mod outlived;
mod panic;
mod running;
mod signals;
mod stdio;

pub(crate) use children::{
    Next, Running, become_command, ending, hand_descriptor, hand_lock, hand_locks, keep_descriptor, start,
    start_thread, supervise, supervise_beside, supervise_step,
};
pub(crate) use limits::raise_descriptor_limit;
pub(crate) use masks::{Inherited, take_over};
pub(crate) use panic::guard;
pub(crate) use running::kill_after;
pub(crate) use signals::{about_to_wait, give_way, hold, hold_again, interrupted, remember};
pub(crate) use stdio::{InheritedFd, empty_input, is_complete, was_closed, writable};
