//! `awrite`: the write applet.
//!
//! ```text
//!   awrite [OPTIONS] OUTPUT                      stdin -> OUTPUT
//!   awrite [OPTIONS] -i FILE OUTPUT              FILE -> OUTPUT
//!   awrite [OPTIONS] OUTPUT -- COMMAND [ARG...]  OUTPUT -> COMMAND -> OUTPUT, the lock held throughout
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use awrite::{
    AtomicFile, BackupOptions, Check, Durability, Error, ErrorKind, Notice, Ownership, WriteOptions, read_all,
};
use rustix::fs::FileType;

use super::common::{self, Tells};
use super::completions::{self, SHELLS};
use super::flags::{Complete, Flag, Grammar, Page, Parsed, Spec, Stop};
use super::install;
use super::locking::{self, Locking, Locks};
use super::report::{self, Style};
use super::values::{parse_mode, parse_path, parse_suffix, quoted};
use crate::process::{self, Inherited};

/// What the options have said.
#[derive(Default)]
pub(super) struct Settings {
    style: Style,
    locking: Locking,
    /// All that needs no more than a value.
    options: WriteOptions,
    backup: bool,
    backup_options: BackupOptions,
    input: Option<PathBuf>,
    stream: bool,
    validate: Option<OsString>,
    install: bool,
}

impl Tells for Settings {
    fn style(&mut self) -> &mut Style {
        &mut self.style
    }
}

impl Locks for Settings {
    fn locking(&mut self) -> &mut Locking {
        &mut self.locking
    }
}

pub(super) static GRAMMAR: Grammar<Settings> = Grammar { page: PAGE, flags: FLAGS };

const PAGE: Page = Page {
    name: "awrite",
    synopsis: &["[OPTIONS] OUTPUT", "[OPTIONS] -i FILE OUTPUT", "[OPTIONS] OUTPUT -- COMMAND [ARG...]"],
    about: "Replaces the content of OUTPUT all-or-nothing and durably, under a lock that every other awrite takes too. \
            The content comes from standard input, from FILE, or from COMMAND, which reads the current content.",
    operand: "OUTPUT",
    complete_operand: Complete::File,
    takes_command: true,
    epilogue: "\
Examples:
  make-config | awrite config.json        the pipe form: a producer that dies
                                          half-way is not noticed
  awrite config.json -- jq .x=1           read, change, write, under one lock;
                                          if jq fails, nothing is changed
  awrite -b -w 5 -i new.conf app.conf     keep a backup, wait 5 seconds at most
  awrite --validate 'visudo -cf \"$AWRITE_NEW\"' -i new /etc/sudoers

Exit codes:
  0  success
  1  error: I/O, permission, bad usage, bad input
  2  the lock was not acquired
  3  interrupted (SIGINT, SIGTERM, SIGHUP)
",
};

const INPUT: &str = "Input";
const CONTENT: &str = "How it is written";
const BACKUP: &str = "Backup";
const METADATA: &str = "Mode and owner";
const MESSAGES: &str = "Messages";
const OTHER: &str = "Other";

const FLAGS: &[Flag<Settings>] = &[
    Flag {
        spec: Spec {
            group: INPUT,
            long: &["input"],
            short: &['i'],
            value: Some("FILE"),
            help: "read FILE instead of standard input; it may be OUTPUT itself. With COMMAND: what COMMAND reads, - for \
               standard input",
            complete: Complete::File,
        },
        apply: |settings, value| {
            settings.input = Some(parse_path(value)?);
            Ok(())
        },
    },
    Flag::switch(
        INPUT,
        &["stream"],
        &[],
        "write while input arrives, in constant memory, instead of reading all of it first",
        |settings, _| {
            settings.stream = true;
            Ok(())
        },
    ),
    Flag::switch(INPUT, &["append"], &['a'], "the new content is the current content plus the input", |settings, _| {
        settings.options.append = true;
        Ok(())
    }),
    Flag::switch(INPUT, &["allow-empty"], &[], "accept empty input", |settings, _| {
        settings.options.refuse_empty = false;
        Ok(())
    }),
    locking::wait(),
    locking::timeout(),
    locking::no_wait(),
    Flag::switch("Locking", &["lock-on-commit"], &[], "take the lock only once all input is there", |settings, _| {
        settings.options.lock_on_commit = true;
        Ok(())
    }),
    locking::lock_file(),
    locking::lock_dir(),
    locking::lock_mode(),
    locking::keep_lock(),
    locking::lock_method(),
    locking::owner(),
    locking::token(),
    Flag::switch(BACKUP, &["backup"], &['b'], "keep the current content as OUTPUT.backup", |settings, _| {
        settings.backup = true;
        Ok(())
    }),
    Flag {
        spec: Spec {
            group: BACKUP,
            long: &["backup-suffix"],
            short: &[],
            value: Some("SUFFIX"),
            help: "end the backup's name in SUFFIX instead of .backup; implies -b",
            complete: Complete::Nothing,
        },
        apply: |settings, value| {
            settings.backup = true;
            settings.backup_options.suffix = parse_suffix(value)?;
            Ok(())
        },
    },
    Flag {
        spec: Spec {
            group: BACKUP,
            long: &["backup-dir"],
            short: &[],
            value: Some("DIR"),
            help: "put the backup in DIR; implies -b",
            complete: Complete::Dir,
        },
        apply: |settings, value| {
            settings.backup = true;
            settings.backup_options.dir = Some(parse_path(value)?);
            Ok(())
        },
    },
    Flag::switch(
        BACKUP,
        &["backup-timestamp"],
        &[],
        "name it OUTPUT.YYYYMMDD-HHMMSS.backup, in local time; implies -b",
        |settings, _| {
            settings.backup = true;
            settings.backup_options.timestamp = true;
            Ok(())
        },
    ),
    Flag {
        spec: Spec {
            group: BACKUP,
            long: &["backup-mode"],
            short: &[],
            value: Some("OCTAL"),
            help: "mode of the backup; default: the original's; implies -b",
            complete: Complete::Nothing,
        },
        apply: |settings, value| {
            settings.backup = true;
            settings.backup_options.mode = Some(parse_mode(&value)?);
            Ok(())
        },
    },
    Flag {
        spec: Spec {
            group: METADATA,
            long: &["mode"],
            short: &['m'],
            value: Some("OCTAL"),
            help: "mode of the new file",
            complete: Complete::Nothing,
        },
        apply: |settings, value| {
            settings.options.mode = Some(parse_mode(&value)?);
            Ok(())
        },
    },
    Flag::switch(METADATA, &["preserve-mode"], &[], "keep the original's mode (the default)", |settings, _| {
        settings.options.preserve_mode = true;
        Ok(())
    }),
    Flag::switch(METADATA, &["no-preserve-mode"], &[], "give the new file the umask's default mode", |settings, _| {
        settings.options.preserve_mode = false;
        Ok(())
    }),
    Flag::switch(METADATA, &["preserve-owner"], &[], "keep owner and group; failing to is an error", |settings, _| {
        settings.options.ownership = Ownership::Keep;
        Ok(())
    }),
    Flag::switch(
        METADATA,
        &["try-preserve-owner"],
        &[],
        "keep owner and group where that is permitted",
        |settings, _| {
            settings.options.ownership = Ownership::TryKeep;
            Ok(())
        },
    ),
    Flag::switch(
        METADATA,
        &["no-preserve-xattrs"],
        &[],
        "do not carry extended attributes and ACLs over",
        |settings, _| {
            settings.options.preserve_xattrs = false;
            Ok(())
        },
    ),
    Flag::switch(
        CONTENT,
        &["if-changed"],
        &[],
        "leave OUTPUT untouched when the content is identical",
        |settings, _| {
            settings.options.if_changed = true;
            Ok(())
        },
    ),
    Flag {
        spec: Spec {
            group: CONTENT,
            long: &["validate"],
            short: &[],
            value: Some("CMD"),
            help: "run sh -c CMD first, the new content in the file $AWRITE_NEW, and write only if it succeeds",
            complete: Complete::Command,
        },
        apply: |settings, value| {
            if value.is_empty() {
                return Err(Stop::Usage("an empty command accepts anything".to_owned()));
            }
            settings.validate = Some(value);
            Ok(())
        },
    },
    Flag::switch(CONTENT, &["force"], &['f'], "replace a file that is not writable for you", |settings, _| {
        settings.options.force = true;
        Ok(())
    }),
    Flag::switch(
        CONTENT,
        &["no-follow"],
        &[],
        "replace a symbolic link itself, not the file behind it",
        |settings, _| {
            settings.options.lock.follow = false;
            Ok(())
        },
    ),
    Flag::switch(
        CONTENT,
        &["in-place"],
        &[],
        "where OUTPUT cannot be replaced (it is a mount point), overwrite it under the lock: not atomic",
        |settings, _| {
            settings.options.in_place = true;
            Ok(())
        },
    ),
    Flag {
        spec: Spec {
            group: CONTENT,
            long: &["sync"],
            short: &[],
            value: Some("full|data|none"),
            help: "what survives power loss: the new content (full, the default), old or new (data), nothing is certain (none)",
            complete: Complete::Words(&["full", "data", "none"]),
        },
        apply: |settings, value| {
            settings.options.durability = match value.to_str() {
                Some("full") => Durability::Full,
                Some("data") => Durability::Data,
                Some("none") => Durability::None,
                _ => return Err(Stop::Usage(format!("{} is none of full, data, none", quoted(&value)))),
            };
            Ok(())
        },
    },
    Flag::switch(CONTENT, &["mkdir"], &['D'], "create missing parent directories", |settings, _| {
        settings.options.mkdir = true;
        Ok(())
    }),
    Flag::switch(MESSAGES, &["progress"], &[], "show progress on a terminal", |settings, _| {
        settings.style.progress = true;
        Ok(())
    }),
    common::verbose(),
    common::quiet(),
    common::json(),
    Flag::switch(OTHER, &["list"], &[], "print the names of the applets and exit", |_, _| {
        Err(Stop::Print(super::list()))
    }),
    Flag::switch(
        OTHER,
        &["install"],
        &[],
        "make links to this program, one for each name, in a directory, given as OUTPUT; --force replaces what stands there",
        |settings, _| {
            settings.install = true;
            Ok(())
        },
    ),
    Flag {
        spec: Spec {
            group: OTHER,
            long: &["completions"],
            short: &[],
            value: Some("bash|zsh|fish"),
            help: "print completions for a shell and exit",
            complete: Complete::Words(SHELLS),
        },
        apply: |_, value| Err(Stop::Print(completions::for_shell(&value)?)),
    },
    common::help(),
    common::version(),
];

/// A checked request.
struct Job {
    output: PathBuf,
    command: Option<Vec<OsString>>,
    input: Option<Input>,
    stream: bool,
    options: WriteOptions,
}

/// What `-i` says.
enum Input {
    Stdin,
    File(PathBuf),
}

pub(super) fn run(args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Error> {
    // The defaults that are this applet's and not the library's.
    let mut settings = Settings::default();
    settings.options.refuse_empty = true;
    let parsed = match GRAMMAR.parse(args, &mut settings) {
        Ok(parsed) => parsed,
        Err(stop) => return GRAMMAR.stop(stop),
    };
    report::use_style(settings.style);
    if settings.install {
        return install(parsed, &settings);
    }
    match check(settings, parsed, inherited) {
        Ok(job) => work(job, inherited).map(|()| 0),
        Err(stop) => GRAMMAR.stop(stop),
    }
}

fn install(parsed: Parsed, settings: &Settings) -> Result<u8, Error> {
    let dir = match parsed {
        Parsed { command: Some(_), .. } => return GRAMMAR.stop(Stop::Usage("--install: takes no COMMAND".to_owned())),
        Parsed { operand: Some(dir), .. } => PathBuf::from(dir),
        _ => return GRAMMAR.stop(Stop::Usage("--install: DIR is missing".to_owned())),
    };
    install::install(&super::link_names(), &dir, settings.options.force).map(|()| 0)
}

/// What the options come to, all contradictions found. Changes nothing.
fn check(settings: Settings, parsed: Parsed, inherited: &Inherited) -> Result<Job, Stop> {
    let output = PathBuf::from(parsed.operand.ok_or_else(|| GRAMMAR.manual().missing_operand())?);
    if output.as_os_str() == "-" {
        return Err(Stop::Usage("OUTPUT: standard output cannot be replaced; a file of that name is ./-".to_owned()));
    }
    let input = settings.input.map(|path| if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path) });
    let mut options = settings.options;
    if options.lock_on_commit {
        let conflict = if parsed.command.is_some() {
            Some("COMMAND")
        } else if matches!(&input, Some(Input::File(file)) if same_file(file, &output, options.lock.follow)) {
            Some("-i OUTPUT")
        } else {
            None
        };
        if let Some(conflict) = conflict {
            let reason = "another writer's update between reading and locking would be lost";
            return Err(Stop::Usage(format!("--lock-on-commit: contradicts {conflict}: {reason}")));
        }
    }
    let follow = options.lock.follow;
    options.lock = settings.locking.options()?;
    options.lock.follow = follow;
    options.backup = settings.backup.then_some(settings.backup_options);
    options.check = settings.validate.map(|script| validation(script, *inherited));
    options.observer = report::observer_and(settings.style, |notice| {
        if matches!(notice, Notice::Committing { .. }) {
            // The disk may have taken its time.
            process::give_way();
        }
    });
    Ok(Job { output, command: parsed.command, input, stream: settings.stream, options })
}

fn work(job: Job, inherited: &Inherited) -> Result<(), Error> {
    process::hold(inherited);
    // Before the lock: a missing file is told without waiting.
    let source = match &job.input {
        Some(Input::File(path)) => {
            if !path.is_file() {
                // To open a FIFO is to wait for its writer.
                process::about_to_wait()?;
            }
            Some(Source::open(path)?)
        }
        Some(Input::Stdin) | None => None,
    };
    let file = AtomicFile::open(&job.output, &job.options)?;
    let source = match source {
        // What OUTPUT was before the lock was held does not count.
        Some(source) if same_file(&source.name, &job.output, job.options.lock.follow) => {
            Some(Source::open(&source.name)?)
        }
        source => source,
    };
    let outcome = match &job.command {
        None => transfer(file, source, &job),
        Some(command) => transform(file, source, &job, command, inherited),
    };
    report::end_progress();
    outcome
}

/// Whether so much of OUTPUT's current content has to be read that it may take a while.
fn reads_much(job: &Job) -> bool {
    let options = &job.options;
    (options.append || options.if_changed || options.backup.is_some())
        && std::fs::metadata(&job.output).is_ok_and(|output| output.len() > SMALL)
}

/// Input -> OUTPUT.
fn transfer(mut file: AtomicFile, source: Option<Source>, job: &Job) -> Result<(), Error> {
    let source = match source {
        Some(source) => source,
        None => Source::stdin()?,
    };
    if !source.is_at_hand() || reads_much(job) {
        process::about_to_wait()?;
    }
    if job.stream || source.is_regular {
        // A regular file is all there already; the kernel can share or copy it.
        file.fill_from(source.fd(), &source.name)?;
    } else {
        let content = read_all(source.fd(), &source.name, &job.options.observer)?;
        file.fill(&content)?;
    }
    // The signal that ended a producer came here as well, and what it had written is not what was meant.
    process::give_way();
    file.commit().map(drop)
}

/// OUTPUT (or input) -> COMMAND -> OUTPUT.
fn transform(
    mut file: AtomicFile,
    source: Option<Source>,
    job: &Job,
    command: &[OsString],
    inherited: &Inherited,
) -> Result<(), Error> {
    let (program, args) = command.split_first().ok_or_else(|| Error::new(ErrorKind::Usage, "no COMMAND"))?;
    let cannot_run = |e: io::Error| {
        let reason = Error::io(program, e).to_string();
        Error::new(ErrorKind::Io, format!("cannot run {reason}")).on(&job.output)
    };
    let stdin = match (source, &job.input) {
        (Some(source), _) => source.into_stdio(),
        (None, Some(_)) => Stdio::inherit(),
        (None, None) => match file.original()? {
            Some(original) => original.into(),
            None => process::nothing().map_err(cannot_run)?.into(),
        },
    };
    let mut child = Command::new(program);
    child.args(args).stdin(stdin).stdout(Stdio::piped());
    let lock = file.hand_over()?;
    process::hand_lock(&mut child, &lock);
    let mut child = process::start(child, inherited).map_err(cannot_run)?;
    drop(lock);
    // From here on, every way out that does not wait for the child ends it (its Drop).
    let stdout = child.take_stdout().ok_or_else(|| cannot_run(io::ErrorKind::BrokenPipe.into()))?;
    let name = Path::new(program);
    let content = if job.stream {
        file.fill_from(&stdout, name)?;
        None
    } else {
        Some(read_all(&stdout, name, &job.options.observer)?)
    };
    drop(stdout);
    let status = child.wait().map_err(cannot_run)?;
    if !status.success() {
        let reason = format!("command failed: {}", process::ending(status));
        return Err(Error::new(ErrorKind::Refused, reason).on(&job.output));
    }
    if let Some(content) = content {
        file.fill(&content)?;
    }
    file.commit().map(drop)
}

/// `--validate`.
fn validation(script: OsString, inherited: Inherited) -> Check {
    Check::new(move |new, target| {
        let cannot_run = |e: io::Error| {
            let reason = Error::io("sh", e).to_string();
            Error::new(ErrorKind::Io, format!("cannot run {reason}")).on(target)
        };
        let mut command = Command::new("sh");
        command.arg("-c").arg(&script).env("AWRITE_NEW", new).env("AWRITE_TARGET", target);
        command.stdin(process::nothing().map_err(cannot_run)?);
        let status = process::start(command, &inherited).and_then(process::Running::wait).map_err(cannot_run)?;
        if status.success() {
            return Ok(());
        }
        let reason = format!("validation failed: {}", process::ending(status));
        Err(Error::new(ErrorKind::Refused, reason).on(target))
    })
}

/// Where the content comes from.
struct Source {
    /// `None`: standard input.
    file: Option<File>,
    /// For messages.
    name: PathBuf,
    is_regular: bool,
    size: u64,
}

/// A file of this size is copied before anybody could press a key.
const SMALL: u64 = 1 << 20;

impl Source {
    fn open(path: &Path) -> Result<Source, Error> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        Source::new(Some(file), path.to_owned())
    }

    fn stdin() -> Result<Source, Error> {
        Source::new(None, "standard input".into())
    }

    fn new(file: Option<File>, name: PathBuf) -> Result<Source, Error> {
        let mut source = Source { file, name, is_regular: false, size: 0 };
        let status = rustix::fs::fstat(source.fd()).map_err(|e| Error::io(&source.name, e))?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {
                source.is_regular = true;
                source.size = u64::try_from(status.st_size).unwrap_or(u64::MAX);
            }
            // Opening one is no error, only reading it is: later than it has to be told.
            FileType::Directory => {
                return Err(Error::io(&source.name, io::Error::from_raw_os_error(libc::EISDIR)));
            }
            _ => {}
        }
        Ok(source)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.file {
            Some(file) => file.as_fd(),
            None => rustix::stdio::stdin(),
        }
    }

    /// Whether reading it takes no time that a signal could fall into.
    fn is_at_hand(&self) -> bool {
        if self.is_regular { self.size <= SMALL } else { process::is_complete(self.fd()) }
    }

    fn into_stdio(self) -> Stdio {
        self.file.map_or_else(Stdio::inherit, Stdio::from)
    }
}

/// Whether two names mean one file now.
fn same_file(input: &Path, output: &Path, follow: bool) -> bool {
    let output = if follow { fs::metadata(output) } else { fs::symlink_metadata(output) };
    match (fs::metadata(input), output) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::flags::check_table;
    use super::*;

    #[test]
    fn the_table_is_sound() {
        check_table(&GRAMMAR.manual());
    }

    /// The settled options, or the reason why there are none.
    fn settled(args: &[&str]) -> Result<WriteOptions, String> {
        let mut settings = Settings::default();
        settings.options.refuse_empty = true;
        let inherited = process::take_over();
        let parsed = GRAMMAR.parse(args.iter().map(Into::into).collect(), &mut settings);
        match parsed.and_then(|parsed| check(settings, parsed, &inherited)) {
            Ok(job) => Ok(job.options),
            Err(Stop::Usage(reason)) => Err(reason),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn contradictions() {
        for (args, named) in [
            (&["f", "-w", "5", "-n"][..], "--timeout: contradicts --no-wait"),
            (&["f", "--wait", "-n"], "--wait: contradicts --no-wait"),
            (&["f", "--wait", "-w0"], "--wait: contradicts --timeout 0"),
            (&["f", "--lock-file", "l", "--lock-dir", "d"], "--lock-file: contradicts --lock-dir"),
            (&["f", "--lock-on-commit", "--", "cat"], "--lock-on-commit: contradicts COMMAND"),
            (
                &["src/main.rs", "--lock-on-commit", "-i", "src/../src/main.rs"],
                "--lock-on-commit: contradicts -i OUTPUT",
            ),
            (&["-w", "soon", "f"], "--timeout: 'soon' is not a duration"),
            (&["--wait=5", "f"], "--wait: takes no value"),
            (&["-m", "rw", "f"], "--mode: 'rw' is not an octal mode"),
            (&["-m", "17777", "f"], "--mode: '17777' is not an octal mode"),
            (&["--lock-mode", "9", "f"], "--lock-mode: '9' is not"),
            (&["--backup-mode", "", "f"], "--backup-mode: '' is not"),
            (&["--backup-suffix", "", "f"], "--backup-suffix: an empty suffix"),
            (&["--backup-suffix", "a/b", "f"], "--backup-suffix: 'a/b' contains a slash"),
            (&["--backup-dir=", "f"], "--backup-dir: an empty string"),
            (&["-i", "", "f"], "--input: an empty string"),
            (&["--validate", "", "f"], "--validate: an empty command"),
            (&["--sync", "all", "f"], "--sync: 'all' is none of full, data, none"),
            (&["--completions", "ksh"], "--completions: 'ksh' is none of bash, zsh, fish"),
            (&["--owner", "", "f"], "--owner: the owner of a lease must have a name"),
            (&["--owner", "a\nb", "f"], "--owner: the name of a lease's owner must not contain control characters"),
            (&["--token", "1", "f"], "--token: needs --owner"),
            (&["--token", "-1", "--owner", "me", "f"], "--token: '-1' is not a token"),
            (&["--token", "", "--owner", "me", "f"], "--token: '' is not a token"),
            (&["--lock-method", "nfs", "f"], "--lock-method: 'nfs' is none of auto, flock, link"),
            (&[], "OUTPUT is missing"),
            (&["-v"], "OUTPUT is missing"),
            (&["-"], "OUTPUT: standard output cannot be replaced"),
        ] {
            let reason = settled(args).err().unwrap_or_default();
            assert!(reason.starts_with(named), "{args:?}: {reason}");
        }
    }

    #[test]
    fn options_that_go_together() {
        use awrite::Wait;
        use std::time::Duration;
        let wait = |args: &[&str]| settled(args).unwrap().lock.wait;
        assert_eq!(wait(&["f"]), Wait::Forever);
        assert_eq!(wait(&["f", "--wait"]), Wait::Forever);
        assert_eq!(wait(&["f", "-n"]), Wait::No);
        assert_eq!(wait(&["f", "-w0"]), Wait::No);
        assert_eq!(wait(&["f", "-w0", "-n"]), Wait::No);
        assert_eq!(wait(&["f", "--wait", "-t", "1.5"]), Wait::For(Duration::from_millis(1500)));
        assert_eq!(wait(&["f", "-w5", "-w", "2m"]), Wait::For(Duration::from_secs(120)));
        assert!(settled(&["f"]).unwrap().backup.is_none());
        for implying in ["-b", "--backup-suffix=.x", "--backup-dir=d", "--backup-timestamp", "--backup-mode=600"] {
            assert!(settled(&["f", implying]).unwrap().backup.is_some(), "{implying}");
        }
        assert!(settled(&["f", "--no-preserve-mode", "--preserve-mode"]).unwrap().preserve_mode);
        assert!(!settled(&["f", "--preserve-mode", "--no-preserve-mode"]).unwrap().preserve_mode);
        assert!(settled(&["f"]).unwrap().refuse_empty);
        assert!(!settled(&["f", "--allow-empty"]).unwrap().refuse_empty);
        assert!(!settled(&["f", "--no-follow"]).unwrap().lock.follow);
        assert!(settled(&["f", "--lock-method=flock"]).is_ok());
        assert!(settled(&["f", "--lock-on-commit", "-i", "src/main.rs"]).is_ok());
    }

    #[test]
    fn the_last_of_quiet_and_verbose_wins() {
        let level = |args: &[&str]| {
            let mut settings = Settings::default();
            assert!(GRAMMAR.parse(args.iter().map(Into::into).collect(), &mut settings).is_ok());
            settings.style.level
        };
        use report::Level;
        assert_eq!(level(&[]), Level::Warn);
        assert_eq!(level(&["-v"]), Level::Info);
        assert_eq!(level(&["-vv"]), Level::Debug);
        assert_eq!(level(&["-vvv"]), Level::Debug);
        assert_eq!(level(&["-vvq"]), Level::Error);
        assert_eq!(level(&["-qv"]), Level::Info);
    }

    #[test]
    fn one_file_by_two_names() {
        assert!(same_file(Path::new("src/main.rs"), Path::new("./src/main.rs"), true));
        assert!(!same_file(Path::new("src/main.rs"), Path::new("src/lib.rs"), true));
        assert!(!same_file(Path::new("src/none"), Path::new("src/none"), true));
        assert!(!same_file(Path::new(""), Path::new(""), true));
    }
}
