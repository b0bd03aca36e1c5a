//! All that `/proc/locks` says about locks by `flock` (proc_locks(5)), read once.

use super::proc_locks::{Line, find, has_open, parse};
use crate::holder::Holder;
use crate::sys::FileId;
use crate::sys::host::is_there;

/// The `flock`s of this moment. Empty where there is no such list.
#[derive(Debug)]
pub(crate) struct LockTable(Vec<Row>);

#[derive(Debug)]
struct Row {
    line: Line,
    waits: bool,
}

impl LockTable {
    pub(crate) fn read() -> LockTable {
        let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        LockTable(text.lines().filter_map(row).collect())
    }

    /// Those who hold a lock of this file, and those who wait for it.
    pub(crate) fn of(&self, id: FileId) -> (Vec<Holder>, Vec<Holder>) {
        // Where the device numbers differ, ask what the process has open.
        let is_of = |line: &Line| line.ino == id.ino && (line.is_on(id.dev) || has_open(line.pid, id));
        let mut found: Vec<&Row> = self.0.iter().filter(|row| is_of(&row.line)).collect();
        // The kernel gives the list in pieces. If another lock is taken between two of them, a line comes twice.
        found.sort_by_key(|row| (row.waits, row.line.pid));
        found.dedup_by_key(|row| (row.waits, row.line.pid));
        let (waiting, holding): (Vec<&Row>, Vec<&Row>) = found.into_iter().partition(|row| row.waits);
        // Whoever took the lock may have ended, and left it to another process.
        let holder = |row: &Row| {
            let heir = if is_there(row.line.pid) { None } else { find(id) };
            heir.unwrap_or_else(|| Holder::here(row.line.pid))
        };
        let waiter = |row: &Row| Holder::here(row.line.pid);
        (holding.into_iter().map(holder).collect(), waiting.into_iter().map(waiter).collect())
    }
}

/// A waiter's line has `->` behind the first number.
fn row(text: &str) -> Option<Row> {
    let waits = text.contains("-> ");
    parse(&text.replacen("-> ", "", 1)).map(|line| Row { line, waits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_and_waiters() {
        let rows: Vec<Row> = [
            "12: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF",
            "12: -> FLOCK  ADVISORY  WRITE 4712 fe:00:1234 0 EOF",
            "13: OFDLCK ADVISORY  READ -1 fe:00:1234 0 0",
            "14: FLOCK  ADVISORY  READ 4713 fe:00:99 0 EOF",
            "13: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF",
            "13: -> FLOCK  ADVISORY  WRITE 4712 fe:00:1234 0 EOF",
        ]
        .into_iter()
        .filter_map(row)
        .collect();
        let (holding, waiting) = LockTable(rows).of(FileId { dev: rustix::fs::makedev(0xfe, 0), ino: 1234 });
        let pids = |holders: Vec<Holder>| holders.iter().map(|holder| holder.pid).collect::<Vec<_>>();
        assert_eq!((pids(holding), pids(waiting)), (vec![4711], vec![4712]));
    }
}
