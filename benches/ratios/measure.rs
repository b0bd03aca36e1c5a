//! Runs rounds, takes medians, and reports the results.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::places::Place;

/// One way to do some work.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    command: Vec<OsString>,
    /// `cat`: the bench opens the target for it, as the shell does.
    pub(crate) redirected: bool,
}

impl Contender {
    pub(crate) fn new(name: &'static str, words: &[&dyn AsRef<OsStr>]) -> Contender {
        Contender { name, command: words.iter().map(|w| w.as_ref().to_owned()).collect(), redirected: false }
    }

    /// The command, in an environment that does not change the measurement.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        for name in ["AWRITE_LOCK_DIR", "AWRITE_KEEP_LOCK", "AWRITE_LOCK_METHOD", "AWRITE_HELD"] {
            command.env_remove(name);
        }
        command
    }

    /// Starts it. It replaces `target` by its standard input.
    pub(crate) fn start(&self, target: &Path, input: OwnedFd) -> Child {
        let mut command = self.command();
        command.stdin(input);
        if self.redirected {
            command.stdout(File::create(target).unwrap());
        } else {
            command.arg(target).stdout(Stdio::null());
        }
        command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Runs it to its end, in `dir`.
    pub(crate) fn run_in(&self, dir: &Path) {
        let status = self.command().current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).status();
        assert!(status.unwrap_or_else(|e| panic!("{}: {e}", self.name)).success(), "{} failed", self.name);
    }
}

/// What each contender took in each round.
pub(crate) struct Times {
    names: Vec<&'static str>,
    /// By contender.
    rounds: Vec<Vec<Duration>>,
}

impl Times {
    /// Runs every contender `count` times. One run before these warms caches and does not count.
    pub(crate) fn of(
        count: usize,
        contenders: &[Contender],
        mut run: impl FnMut(usize, &Contender) -> Duration,
    ) -> Times {
        for (index, contender) in contenders.iter().enumerate() {
            run(index, contender);
        }
        let mut rounds = vec![Vec::new(); contenders.len()];
        for round in 0..count {
            for place in 0..contenders.len() {
                let index = (round + place) % contenders.len();
                rounds[index].push(run(index, &contenders[index]));
            }
        }
        Times { names: contenders.iter().map(|contender| contender.name).collect(), rounds }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }

    /// How many times longer one took than the other. `None`: one of them is missing.
    pub(crate) fn ratio(&self, own: &str, other: &str) -> Option<f64> {
        Some(self.ratio_of(self.index(own)?, self.index(other)?))
    }

    fn ratio_of(&self, own: usize, other: usize) -> f64 {
        let pairs = self.rounds[own].iter().zip(&self.rounds[other]);
        median(pairs.map(|(own, other)| own.as_secs_f64() / other.as_secs_f64()))
    }

    pub(crate) fn median(&self, name: &str) -> Option<Duration> {
        Some(median_time(&self.rounds[self.index(name)?]))
    }

    /// `peaks`: the most memory that each contender had, in KiB.
    pub(crate) fn print(&self, place: &Place, work: &str, peaks: &[u64]) {
        println!();
        for (index, name) in self.names.iter().enumerate() {
            let took = median_time(&self.rounds[index]);
            let took = if took < Duration::from_millis(50) {
                format!("{} µs", took.as_micros())
            } else {
                format!("{} ms", took.as_millis())
            };
            let first = format!("{:.2}", self.ratio_of(index, 0));
            let last = format!("{:.2}", self.ratio_of(index, self.names.len() - 1));
            let peak = peaks.get(index).map_or(String::new(), |kib| format!("{kib} KiB"));
            print_row([place.name, work, name, &took, &first, &last, &peak]);
        }
    }
}

pub(crate) fn print_head() {
    println!("\nRatios to the first and to the last contender of each group:");
    print_row(["where", "work", "contender", "median", "x first", "x last", "peak"]);
}

fn print_row(cells: [&str; 7]) {
    let [place, work, contender, median, first, last, peak] = cells;
    println!("{place:<6} {work:<26} {contender:<20} {median:>9} {first:>8} {last:>8} {peak:>11}");
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn median_time(times: &[Duration]) -> Duration {
    Duration::from_secs_f64(median(times.iter().map(Duration::as_secs_f64)))
}

/// The goals, and the measured values.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    work: String,
    measured: Option<f64>,
    unit: &'static str,
    /// `None`: no goal was set.
    limit: Option<f64>,
}

impl Report {
    /// `measured` may be at most `limit`; `None`: it could not be measured here.
    pub(crate) fn goal(&mut self, work: impl Into<String>, measured: Option<f64>, limit: f64, unit: &'static str) {
        self.rows.push(Row { work: work.into(), measured, unit, limit: Some(limit) });
    }

    /// A figure without a goal.
    pub(crate) fn figure(&mut self, work: impl Into<String>, measured: Option<f64>, unit: &'static str) {
        self.rows.push(Row { work: work.into(), measured, unit, limit: None });
    }

    /// Prints the table in Markdown.
    pub(crate) fn print(&self) {
        println!("\n| work | measured | to reach | |\n|---|---|---|---|");
        for Row { work, measured, unit, limit } in &self.rows {
            let number = |value: f64| match value {
                v if v >= 100.0 || (v.fract() == 0.0 && v >= 10.0) => format!("{v:.0} {unit}").trim().to_owned(),
                v => format!("{v:.2} {unit}"),
            };
            let verdict = match (measured, limit) {
                (None, _) => "not measured here",
                (_, None) => "",
                (Some(value), Some(limit)) if value <= limit => "reached",
                _ => "**missed**",
            };
            let measured = measured.map_or("-".to_owned(), number);
            println!(
                "| {work} | {measured} | {} | {verdict} |",
                limit.map_or(String::new(), |l| format!("<= {}", number(l)))
            );
        }
    }
}
