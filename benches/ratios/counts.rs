//! Measures what does not vary with the machine: instructions, system calls, sizes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::measure::{Contender, Report};
use crate::places::Place;
use crate::programs::{Programs, find};
use crate::writes;

/// Replaces a file of 1 KiB by another, and runs `true` under a lock.
pub(crate) fn of_one_run(place: &Place, programs: &Programs) {
    let (valgrind, strace) = (find("valgrind"), find("strace"));
    println!("\n{:<34} {:>13} {:>13}", "one run", "instructions", "system calls");
    let target = place.dir.join("f");
    fs::write(&target, "old").unwrap();

    let count = |work: &str, contender: &Contender, with_target: bool| {
        let words = || {
            let command = contender.command();
            let mut words: Vec<_> =
                std::iter::once(command.get_program()).chain(command.get_args()).map(|w| w.to_owned()).collect();
            words.extend(with_target.then(|| target.clone().into_os_string()));
            words
        };
        let run = |tool: &Path, options: &[&str]| {
            let output = Command::new(tool)
                .args(options)
                .args(words())
                .current_dir(&place.dir)
                .stdin(crate::writes::kibibyte())
                .stdout(Stdio::null())
                .output()
                .unwrap();
            output.status.success().then(|| String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let instructions = valgrind.as_ref().and_then(|tool| {
            let said = run(tool, &["--tool=callgrind", "--callgrind-out-file=/dev/null"])?;
            said.lines().find_map(|line| line.split_once("Collected : ").map(|(_, count)| count.trim().to_owned()))
        });
        let calls = strace.as_ref().and_then(|tool| {
            let said = run(tool, &["-f", "-c", "-U", "calls,name"])?;
            said.lines().rev().find_map(|line| line.trim().strip_suffix(" total").map(|count| count.trim().to_owned()))
        });
        let shown = |count: Option<String>| count.unwrap_or_else(|| "-".to_owned());
        println!("{:<34} {:>13} {:>13}", format!("{work}, {}", contender.name), shown(instructions), shown(calls));
    };
    for contender in writes::once(programs) {
        count("1 KiB", &contender, true);
    }
    // This includes COMMAND's own system calls.
    let lock = |name, program: &Path| Contender::new(name, &[&program, &"lock", &"f", &"--", &"/bin/true"]);
    count("lock and true", &lock("awrite (static)", programs.awrite()), false);
    count("lock and true", &lock("awrite (dynamic)", &programs.dynamic), false);
    if let Some(flock) = &programs.flock {
        count("lock and true", &Contender::new("flock(1)", &[flock, &"f.lck", &"/bin/true"]), false);
    }
}

pub(crate) fn sizes(programs: &Programs, report: &mut Report) {
    let kib = |path: &Path| fs::metadata(path).ok().map(|meta| meta.len() as f64 / 1024.0);
    report.goal("size of the binary, dynamic", kib(&programs.dynamic), 800.0, "KiB");
    let size = programs.static_glibc.as_deref().and_then(kib);
    report.goal("size of the binary, static (glibc)", size, 1.7 * 1024.0, "KiB");
    report.goal("size of the binary, static (musl)", programs.static_musl.as_deref().and_then(kib), 800.0, "KiB");
}
