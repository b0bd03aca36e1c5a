//! What awrite costs, as ratios beside its peers, measured in one run: `cargo bench --bench ratios`.
//!
//! Every round runs each contender once, one after the other, in an order that turns from round to round, and a ratio
//! is the median of the rounds' own ratios. Absolute times say little: they are the machine's.
//!
//! | variable | default | what |
//! |---|---|---|
//! | `AWRITE_BENCH_ROUNDS` | 300 | rounds of the small writes |
//! | `AWRITE_BENCH_STREAM` | 2147483648 | bytes streamed; 0 leaves the streams out |
//! | `AWRITE_BENCH_STREAM_ROUNDS` | 5 | rounds of the streams |
//! | `AWRITE_BENCH_STATIC` | built here | a static awrite to measure |
//!
//! Peers that are not installed are left out, and said so: a C compiler with a static libc (the floor: floor.c), `sponge`.
//! As root it also makes an ext4 file system of its own; else it uses tmpfs and the target directory's file system.

// A bench is a program for the terminal.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

const SMALL: usize = 1024;

fn main() {
    // `cargo test --benches` runs this without `--bench`: nothing to test here.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let work = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let programs = Programs::find(work);

    let mut places = Vec::new();
    if Path::new("/dev/shm").is_dir() {
        places.push(Place::scratch("tmpfs", Path::new("/dev/shm")));
    }
    match Place::ext4(work) {
        Ok(place) => places.push(place),
        Err(why) => {
            println!("no ext4 of our own ({why}): using the target directory's file system");
            places.push(Place::scratch("here", work));
        }
    }

    println!("\nRatios to the first and to the last contender of each group:");
    print_row(["where", "work", "contender", "median", "x first", "x last", "peak"]);
    for place in &places {
        for sync in [true, false] {
            small_writes(place, &programs, sync);
        }
    }
    let bytes = number("AWRITE_BENCH_STREAM", 2 << 30);
    if bytes > 0 {
        stream(&places[0], &programs, bytes);
    }
}

/// One way to do the work: replace `target` by what is on standard input.
struct Contender {
    name: &'static str,
    command: Vec<OsString>,
    /// `cat`: our end opens the target for it, as the shell does.
    redirected: bool,
}

impl Contender {
    fn new(name: &'static str, words: &[&dyn AsRef<std::ffi::OsStr>]) -> Contender {
        Contender { name, command: words.iter().map(|w| w.as_ref().to_owned()).collect(), redirected: false }
    }

    fn start(&self, target: &Path, input: OwnedFd) -> Child {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(input);
        for name in ["AWRITE_LOCK_DIR", "AWRITE_KEEP_LOCK", "AWRITE_LOCK_METHOD"] {
            command.env_remove(name);
        }
        if self.redirected {
            command.stdout(File::create(target).unwrap());
        } else {
            command.arg(target).stdout(Stdio::null());
        }
        command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

fn small_writes(place: &Place, programs: &Programs, sync: bool) {
    let level = if sync { "full" } else { "none" };
    let mut contenders = Vec::new();
    if let Some(floor) = &programs.floor {
        let words: &[&dyn AsRef<std::ffi::OsStr>] = if sync { &[floor] } else { &[floor, &"-n"] };
        contenders.push(Contender::new("floor (C, static)", words));
    }
    if let Some(program) = &programs.static_awrite {
        contenders.push(Contender::new("awrite (static)", &[program, &"--sync", &level]));
    }
    contenders.push(Contender::new("awrite (dynamic)", &[&programs.awrite, &"--sync", &level]));
    if let Some(sponge) = &programs.sponge {
        contenders.push(Contender::new("sponge (never syncs)", &[sponge]));
    }

    let target = place.dir.join("small");
    let content = [b'x'; SMALL];
    let times = rounds(number("AWRITE_BENCH_ROUNDS", 300), &contenders, |contender| {
        // The whole input fits the pipe, so it is there, and ended, before the contender starts.
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        File::from(write).write_all(&content).unwrap();
        let started = Instant::now();
        let status = contender.start(&target, read).wait().unwrap();
        let took = started.elapsed();
        assert!(status.success(), "{} failed", contender.name);
        took
    });
    assert_eq!(fs::read(&target).unwrap(), content);
    print_table(place, &format!("1 KiB, --sync {level}"), &contenders, &times, &[]);
    fs::remove_file(&target).unwrap();
}

fn stream(place: &Place, programs: &Programs, bytes: u64) {
    let mut contenders = vec![Contender::new("cat > file", &[&"cat"])];
    contenders[0].redirected = true;
    if let Some(program) = &programs.static_awrite {
        contenders.push(Contender::new("awrite (static)", &[program, &"--stream", &"--sync", &"none"]));
    }
    contenders.push(Contender::new("awrite (dynamic)", &[&programs.awrite, &"--stream", &"--sync", &"none"]));
    if let Some(sponge) = &programs.sponge {
        contenders.push(Contender::new("sponge", &[sponge]));
    }

    let target = place.dir.join("stream");
    let block = vec![b'x'; 128 << 10];
    let mut peaks = vec![0; contenders.len()];
    let times = rounds(number("AWRITE_BENCH_STREAM_ROUNDS", 5), &contenders, |contender| {
        // Freeing the old content's pages takes time too; nobody is to pay for another's.
        let _ = fs::remove_file(&target);
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut producer = File::from(write);
        let started = Instant::now();
        let mut child = contender.start(&target, read);
        let mut left = bytes;
        while left > 0 {
            let n = left.min(block.len() as u64);
            producer.write_all(&block[..n as usize]).unwrap();
            left -= n;
        }
        // All input is with the contender or in the pipe, and it cannot end before the end of file that comes next.
        let index = contenders.iter().position(|c| c.name == contender.name).unwrap();
        peaks[index] = peaks[index].max(peak_memory(child.id()));
        drop(producer);
        let status = child.wait().unwrap();
        let took = started.elapsed();
        assert!(status.success(), "{} failed", contender.name);
        assert_eq!(fs::metadata(&target).unwrap().len(), bytes);
        took
    });
    print_table(place, &format!("stream {} MiB", bytes >> 20), &contenders, &times, &peaks);
    let _ = fs::remove_file(&target);
}

/// `times[contender][round]`.
fn rounds(count: u64, contenders: &[Contender], mut run: impl FnMut(&Contender) -> Duration) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::new(); contenders.len()];
    for contender in contenders {
        run(contender); // warms caches, and every contender replaces an existing file
    }
    for round in 0..count as usize {
        for place in 0..contenders.len() {
            let index = (round + place) % contenders.len();
            times[index].push(run(&contenders[index]));
        }
    }
    times
}

fn print_table(place: &Place, work: &str, contenders: &[Contender], times: &[Vec<Duration>], peaks: &[u64]) {
    let ratio = |own: &[Duration], other: &[Duration]| {
        let pairs = own.iter().zip(other);
        let mut ratios: Vec<f64> = pairs.map(|(own, other)| own.as_secs_f64() / other.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        format!("{:.2}", ratios[ratios.len() / 2])
    };
    println!();
    for (index, contender) in contenders.iter().enumerate() {
        let mut own = times[index].clone();
        own.sort();
        let median = own[own.len() / 2];
        let median = if median < Duration::from_millis(50) {
            format!("{} µs", median.as_micros())
        } else {
            format!("{} ms", median.as_millis())
        };
        let first = ratio(&times[index], &times[0]);
        let last = ratio(&times[index], &times[times.len() - 1]);
        let peak = peaks.get(index).map_or(String::new(), |kib| format!("{kib} KiB"));
        print_row([place.name, work, contender.name, &median, &first, &last, &peak]);
    }
}

fn print_row(cells: [&str; 7]) {
    let [place, work, contender, median, first, last, peak] = cells;
    println!("{place:<6} {work:<19} {contender:<20} {median:>9} {first:>8} {last:>8} {peak:>11}");
}

/// The most memory that the process has had resident so far, in KiB. (`ru_maxrss` would do after its end, but counts
/// what this process had when it forked.)
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: not a number: {text}")),
        Err(_) => default,
    }
}

struct Programs {
    awrite: PathBuf,
    static_awrite: Option<PathBuf>,
    floor: Option<PathBuf>,
    sponge: Option<PathBuf>,
}

impl Programs {
    fn find(work: &Path) -> Programs {
        let sponge = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|dir| dir.join("sponge"))
            .find(|file| file.is_file());
        if sponge.is_none() {
            println!("sponge is not installed: left out");
        }
        Programs {
            awrite: env!("CARGO_BIN_EXE_awrite").into(),
            static_awrite: std::env::var_os("AWRITE_BENCH_STATIC").map(PathBuf::from).or_else(|| build_static(work)),
            floor: build_floor(work),
            sponge,
        }
    }
}

fn build_floor(work: &Path) -> Option<PathBuf> {
    let output = work.join("floor");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/floor.c");
    let done = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&output).arg(source).status();
    if done.is_ok_and(|status| status.success()) {
        return Some(output);
    }
    println!("no C compiler with a static libc: the floor is left out");
    None
}

fn build_static(work: &Path) -> Option<PathBuf> {
    let rustc = Command::new("rustc").arg("-vV").output().ok()?;
    let text = String::from_utf8(rustc.stdout).ok()?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "))?;
    let target_dir = work.join("static");
    // `--target` keeps the flag from build scripts and proc macros, which cannot be static.
    let done = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--bin", "awrite", "--target", host, "--target-dir"])
        .arg(&target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        .status();
    if done.is_ok_and(|status| status.success()) {
        return Some(target_dir.join(host).join("release/awrite"));
    }
    println!("no static build: left out");
    None
}

/// A directory of our own on some file system, removed at the end.
struct Place {
    name: &'static str,
    dir: PathBuf,
    mounted: Option<PathBuf>,
}

impl Place {
    fn scratch(name: &'static str, parent: &Path) -> Place {
        let dir = parent.join(format!("awrite-bench-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Place { name, dir, mounted: None }
    }

    fn ext4(work: &Path) -> Result<Place, &'static str> {
        if !rustix::process::geteuid().is_root() {
            return Err("not root");
        }
        let mut place = Place::scratch("ext4", work);
        let image = place.dir.with_extension("img");
        File::create(&image).and_then(|file| file.set_len(256 << 20)).map_err(|_| "no space")?;
        let made = run(Command::new("mkfs.ext4").arg("-q").arg(&image))
            && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place.dir));
        place.mounted = Some(image);
        if made { Ok(place) } else { Err("no mkfs.ext4 or no loop mount") }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(image) = &self.mounted {
            run(Command::new("umount").arg(&self.dir));
            let _ = fs::remove_file(image);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn run(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
