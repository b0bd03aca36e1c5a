//! Everything that the commands say. Messages go to standard error, as text or as JSON; results, such as the text of
//! `--help`, go to standard output.
//!
//! With `--json-fd` every message goes to that descriptor too, as JSON.
//!
//! A message is written by one write(2), so that lines of processes that share a log do not mix. A message that cannot
//! be written is dropped: there is no other place to report that, and a full or closed log must not make a write fail.
//!
//! JSON is one object a line. `time`, `level`, `event` and `message` come first, in this order, then the event's
//! fields. A field whose value is not known is left out.
//!
//! | event | level | fields |
//! |---|---|---|
//! | `waiting` | info | `path` `lock_file` `timeout_ms` `leased` |
//! | `lock_acquired` | info | `path` `lock_file` `method` `wait_time_ms` |
//! | `lock_released` | info | `lock_file` `held_ms` |
//! | `backed_up` | info | `path` `backup` `method` (`link`, `copy`) |
//! | `backup_deleted` | info | `path` `backup` |
//! | `committed` | info | `path` `bytes` `changed` `backup` `digest` `duration_ms` |
//! | `would_replace` | info | `path` `bytes` `changed` |
//! | `warning` | warn | `path` |
//! | `info`, `debug` | the same | `path` |
//! | `interrupted` | error | `exit_code` |
//! | `cleaning_up` | info | `files` |
//! | `summary`, `kept`, `not_entered` | | see report/housekeep.rs, which also lists the events on standard output |
//! | `error` | error | `path` `exit_code` `errno` `hint` `holder_pid` |
//! | `conflict` | error | the same, and `expected` `found` |
//! | `status`, `lease_acquired`, `lease_refreshed`, `lease_released`, `lease_broken` | | see report/lease.rs |
//! | `hold` | | see report/holds.rs |

pub(crate) mod diff;
pub(crate) mod exit;
mod failures;
pub(crate) mod holds;
pub(crate) mod housekeep;
pub(crate) mod lease;
mod listing;
mod message;
mod notices;
mod output;
mod progress;
mod remedy;

pub(crate) use failures::{error, failure, interrupted, note, reading_terminal, warning};
pub(crate) use message::{Level, Style, use_style};
pub(crate) use notices::{notice_reporter, warnings};
pub(crate) use output::{end_progress, print, raw, stdout_was_closed, use_events};
