//! The progress line on a terminal, redrawn every tenth of a second.

use std::time::{Duration, Instant};

use super::message::{Level, Style};
use super::output::draw_progress;

pub(super) const REDRAW_AFTER: Duration = Duration::from_millis(100);

pub(super) struct ProgressLine {
    started: Instant,
    drawn: Option<Instant>,
}

impl ProgressLine {
    /// `None` if it is not wanted, or if standard error is no terminal: in a log the line would be garbage.
    pub(super) fn new(style: Style) -> Option<ProgressLine> {
        let wanted = style.progress && !style.json && style.level > Level::Error;
        let shown = wanted && rustix::termios::isatty(rustix::stdio::stderr());
        shown.then(|| ProgressLine { started: Instant::now(), drawn: None })
    }

    /// Shows the line that `text` returns for the time since the start. It must be short enough for any terminal: a
    /// line that wraps could not be redrawn.
    pub(super) fn draw(&mut self, text: impl FnOnce(Duration) -> String) {
        let now = Instant::now();
        // Work that is done in the first tenth of a second needs no progress line.
        if now.duration_since(self.drawn.unwrap_or(self.started)) >= REDRAW_AFTER {
            self.drawn = Some(now);
            draw_progress(&text(now.duration_since(self.started)));
        }
    }
}

/// The text for `bytes` transferred so far: their rate, and their percentage of `total`.
pub(super) fn transferred(bytes: u64, total: Option<u64>, took: Duration) -> String {
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
        assert_eq!(transferred(0, None, Duration::ZERO), "0 B, 0 B/s");
        assert_eq!(transferred(1536, Some(3072), second), "1.5 KiB, 1.5 KiB/s, 50%");
        assert_eq!(transferred(10, Some(5), second), "10 B, 10 B/s, 100%");
        assert_eq!(transferred(10, Some(0), second), "10 B, 10 B/s");
        assert_eq!(human_size(1023), "1023 B");
        assert_eq!(human_size(1 << 20), "1.0 MiB");
        assert_eq!(human_size(u64::MAX), "16777215.9 TiB");
        assert!(transferred(u64::MAX, Some(1), Duration::from_nanos(1)).len() < 50);
    }
}
