//! The progress line on a terminal.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::output::{CLEAR_LINE, PROGRESS_SHOWN, write_all_at_once, write_fully};

pub(super) const REDRAW_AFTER: Duration = Duration::from_millis(100);

/// The progress line.
pub(super) struct Meter {
    started: Instant,
    drawn: Option<Instant>,
}

impl Meter {
    pub(super) fn new() -> Meter {
        Meter { started: Instant::now(), drawn: None }
    }

    pub(super) fn show(&mut self, bytes: u64, total: Option<u64>) {
        let now = Instant::now();
        // Not before the first tenth of a second either: what is done by then needs no meter.
        if now.duration_since(self.drawn.unwrap_or(self.started)) < REDRAW_AFTER {
            return;
        }
        self.drawn = Some(now);
        let line = progress_line(bytes, total, now.duration_since(self.started));
        let _ = write_fully(rustix::stdio::stderr(), format!("{CLEAR_LINE}{line}").as_bytes());
        PROGRESS_SHOWN.store(true, Ordering::Relaxed);
    }
}

/// Takes the progress line off the terminal.
pub(crate) fn end_progress() {
    if PROGRESS_SHOWN.load(Ordering::Relaxed) {
        write_all_at_once("");
    }
}

/// Short enough for any terminal: a line that wraps could not be redrawn.
fn progress_line(bytes: u64, total: Option<u64>, took: Duration) -> String {
    let millis = took.as_millis().max(1);
    let rate = u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX);
    let mut line = format!("{}, {}/s", human_size(bytes), human_size(rate));
    if let Some(total) = total.filter(|total| *total > 0) {
        let percent = (u128::from(bytes) * 100 / u128::from(total)).min(100);
        line.push_str(&format!(", {percent}%"));
    }
    line
}

pub(super) fn human_size(bytes: u64) -> String {
    let mut unit = 1_u64;
    for name in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if bytes / unit < 1024 || name == "TiB" {
            if unit == 1 {
                return format!("{bytes} B");
            }
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        unit *= 1024;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress() {
        let second = Duration::from_secs(1);
        assert_eq!(progress_line(0, None, Duration::ZERO), "0 B, 0 B/s");
        assert_eq!(progress_line(1536, Some(3072), second), "1.5 KiB, 1.5 KiB/s, 50%");
        assert_eq!(progress_line(10, Some(5), second), "10 B, 10 B/s, 100%");
        assert_eq!(progress_line(10, Some(0), second), "10 B, 10 B/s");
        assert_eq!(human_size(1023), "1023 B");
        assert_eq!(human_size(1 << 20), "1.0 MiB");
        assert_eq!(human_size(u64::MAX), "16777215.9 TiB");
        assert!(progress_line(u64::MAX, Some(1), Duration::from_nanos(1)).len() < 50);
    }
}
