//! All that `/proc/locks` says about locks by `flock` (proc_locks(5)), read at one moment.

use super::proc_locks::{Line, find, has_open, parse, readings};
use crate::holder::Holder;
use crate::sys::FileId;
use crate::sys::host::is_there;

/// The `flock`s of this moment, as some readings of the list show them. Empty where there is no such list.
#[derive(Debug)]
pub(crate) struct LockTable(Vec<Vec<Row>>);

#[derive(Debug)]
struct Row {
    line: Line,
    waits: bool,
}

impl LockTable {
    pub(crate) fn read() -> LockTable {
        LockTable(readings().take(3).map(|locks| rows(&locks)).collect())
    }

    /// As [`of`](LockTable::of), but looks for longer: somebody does hold it.
    pub(crate) fn of_held(id: FileId) -> (Vec<Holder>, Vec<Holder>) {
        let found = readings().map(|locks| LockTable(vec![rows(&locks)]).of(id));
        found.into_iter().find(|(holding, _)| !holding.is_empty()).unwrap_or_default()
    }

    /// Those who hold a lock of this file, and those who wait for it.
    pub(crate) fn of(&self, id: FileId) -> (Vec<Holder>, Vec<Holder>) {
        // Where the device numbers differ, ask what the process has open.
        let is_of = |line: &Line| line.ino == id.ino && (line.is_on(id.dev) || has_open(line.pid, id));
        let who = |rows: &Vec<Row>| {
            let (mut holding, mut waiting) = (Vec::new(), Vec::new());
            for Row { line, waits } in rows.iter().filter(|row| is_of(&row.line)) {
                let pids = if *waits { &mut waiting } else { &mut holding };
                if !pids.contains(&line.pid) {
                    pids.push(line.pid);
                }
            }
            (holding, waiting)
        };
        // A reading may have skipped some.
        let fullest = self.0.iter().map(who).max_by_key(|(holding, waiting)| holding.len() + waiting.len());
        let (holding, waiting) = fullest.unwrap_or_default();
        // Whoever took the lock may have ended, and left it to another process.
        let holder = |pid: u32| {
            let heir = if is_there(pid) { None } else { find(id) };
            heir.unwrap_or_else(|| Holder::here(pid))
        };
        (holding.into_iter().map(holder).collect(), waiting.into_iter().map(Holder::here).collect())
    }
}

fn rows(locks: &str) -> Vec<Row> {
    locks.lines().filter_map(row).collect()
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
        let locks = "\
            12: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF\n\
            12: -> FLOCK  ADVISORY  WRITE 4712 fe:00:1234 0 EOF\n\
            13: OFDLCK ADVISORY  READ -1 fe:00:1234 0 0\n\
            14: FLOCK  ADVISORY  READ 4713 fe:00:99 0 EOF\n";
        let who = |readings: &[&str]| {
            let table = LockTable(readings.iter().map(|locks| rows(locks)).collect());
            let (holding, waiting) = table.of(FileId { dev: rustix::fs::makedev(0xfe, 0), ino: 1234 });
            let pids = |holders: Vec<Holder>| holders.iter().map(|holder| holder.pid).collect::<Vec<_>>();
            (pids(holding), pids(waiting))
        };
        let right = (vec![4711], vec![4712]);
        assert_eq!(who(&[locks]), right);
        // The list changes between two pieces of it.
        assert_eq!(who(&[&locks.repeat(2)]), right, "lines that are there twice");
        let skipped = locks.lines().skip(1).collect::<String>();
        assert_eq!(who(&["", locks, &skipped]), right, "lines that were skipped");
        assert_eq!(who(&["", ""]), (vec![], vec![]));
    }
}
