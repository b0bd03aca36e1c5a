//! The options of `awrite`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use awrite::{BackupOptions, Durability, Expect, Ownership, WriteOptions};

use super::super::common;
use super::super::flags::{Brief, Flag, Grammar, Page, Stop, Value, put};
use super::super::locking::{self, Locking};
use super::super::values::{
    one_of, parse_duration, parse_kept, parse_mode, parse_path, parse_shell, parse_status, parse_suffix,
};
use super::expectations::Expectations;
use crate::report::Style;

/// The values of the options.
#[derive(Default)]
pub(crate) struct Settings {
    pub(super) style: Style,
    pub(super) locking: Locking,
    /// The values that go to the library as they are.
    pub(super) options: WriteOptions,
    pub(super) input: Option<PathBuf>,
    pub(super) stream: bool,
    pub(super) edit: bool,
    pub(super) into: Option<PathBuf>,
    pub(super) validate: Option<OsString>,
    pub(super) diff: bool,
    pub(super) kill_after: Option<Duration>,
    pub(super) unchanged_status: Option<u8>,
    pub(super) expectations: Expectations,
    pub(super) digest: bool,
    pub(super) install: bool,
}

impl Settings {
    /// The options of the backup. Each of them implies one.
    fn backup(&mut self) -> &mut BackupOptions {
        self.options.backup.get_or_insert_default()
    }
}

locking::has_style_and_locking!(Settings);

pub(crate) static GRAMMAR: Grammar<Settings> = Grammar { page: PAGE, flags: FLAGS };

const PAGE: Page = Page {
    name: "awrite",
    synopsis: &[
        "[OPTIONS] OUTPUT",
        "[OPTIONS] -i FILE OUTPUT",
        "[OPTIONS] OUTPUT -- COMMAND [ARG...]",
        "[OPTIONS] -e OUTPUT... -- COMMAND [ARG...]",
        "[OPTIONS] --into DIR FILE...",
        "--digest FILE",
    ],
    about: "Replaces the content of OUTPUT all-or-nothing and durably, under a lock that every other awrite takes too. \
            The content comes from standard input, from FILE, or from COMMAND, which reads the current content, or \
            with -e edits a copy of it. Several files are replaced together, or none of them.",
    operand: Value::File("OUTPUT"),
    several: true,
    takes_command: true,
    epilogue: "\
Examples:
  make-config | awrite config.json        the pipe form: a producer that dies
                                          half-way is not noticed
  awrite config.json -- jq .x=1           read, change, write, under one lock;
                                          if jq fails, nothing is changed
  awrite -e config.json -- yq -i .x=1     for programs that edit files
  awrite --into /etc/app build/           all files of a tree, or none
  awrite -b -w 5 -i new.conf app.conf     keep a backup, wait 5 seconds at most
  awrite --validate 'visudo -cf \"$AWRITE_NEW\"' -i new /etc/sudoers

Exit codes:
  0  success
  1  error: I/O, permission, bad usage, bad input
  2  the lock was not acquired, or was lost
  3  interrupted (SIGINT, SIGTERM, SIGHUP)
  4  conflict: OUTPUT is not what --if-match expects
",
    brief: Brief {
        about: "Replaces OUTPUT all-or-nothing and durably, under a lock.",
        options: &[
            ("input", "read FILE instead of standard input"),
            ("append", "add the input to the current content"),
            ("edit", "COMMAND edits copies: sed -i, yq -i, an editor"),
            ("into", "replace what has the name of FILE in DIR"),
            ("backup", "keep the old content as OUTPUT.backup"),
            ("mode", "mode of the new file"),
            ("if-changed", "leave it untouched if the content is the same"),
            ("if-match", "only if it still is what --digest has printed"),
            ("validate", "only if CMD accepts the content: 'jq empty'"),
            ("diff", "print what changes; --dry-run: change nothing"),
            ("timeout", "wait at most this long for the lock: 30, 500ms, 2m"),
            ("no-wait", "fail at once if the lock is held"),
        ],
        codes: "Exit codes: 0 success, 1 error, 2 no lock, 3 interrupted, 4 not as --if-match",
    },
};

const INPUT: &str = "Input";
const CONTENT: &str = "How it is written";
const BACKUP: &str = "Backup";
const METADATA: &str = "Mode and owner";
const OTHER: &str = "Other";

const FLAGS: &[Flag<Settings>] = &[
    Flag::value(
        INPUT,
        &["-i", "--input"],
        Value::File("FILE"),
        "read FILE instead of standard input; it may be OUTPUT itself. With COMMAND: what COMMAND reads, - for standard \
         input",
        |s, value| put(&mut s.input, parse_path(value)),
    ),
    Flag::set(
        INPUT,
        &["--stream"],
        "write while input arrives, in constant memory, instead of reading all of it first",
        |s| s.stream = true,
    ),
    Flag::set(INPUT, &["-a", "--append"], "the new content is the current content plus the input", |s| {
        s.options.append = true;
    }),
    Flag::set(
        INPUT,
        &["-e", "--edit"],
        "for a COMMAND that edits files: it gets the path of a private copy of each OUTPUT behind its arguments, and what \
         it leaves there is the new content",
        |s| s.edit = true,
    ),
    Flag::value(
        INPUT,
        &["--into"],
        Value::Dir("DIR"),
        "replace the file in DIR that has the name of FILE, for each FILE, or none of them; a directory stands for the \
         files below it",
        |s, value| put(&mut s.into, parse_path(value)),
    ),
    Flag::set(INPUT, &["--allow-empty"], "accept empty input", |s| s.options.allow_empty = true),
    Flag::value(
        INPUT,
        &["--kill-after"],
        Value::Text("DURATION"),
        "kill a COMMAND that still runs this long after a signal has told it to end",
        |s, value| put(&mut s.kill_after, parse_duration(&value)),
    ),
    locking::wait(),
    locking::timeout(),
    locking::no_wait(),
    Flag::set("Locking", &["--lock-on-commit"], "take the lock only once all input is there", |s| {
        s.options.lock_on_commit = true;
    }),
    locking::lock_file(),
    locking::lock_dir(),
    locking::lock_mode(),
    locking::keep_lock(),
    locking::lock_method(),
    locking::owner(),
    locking::token(),
    locking::store(),
    locking::lease(),
    Flag::set(BACKUP, &["-b", "--backup"], "keep the current content as OUTPUT.backup", |s| {
        s.backup();
    }),
    Flag::value(
        BACKUP,
        &["--backup-suffix"],
        Value::Text("SUFFIX"),
        "end the backup's name in SUFFIX instead of .backup; implies -b",
        |s, value| put(&mut s.backup().suffix, parse_suffix(value)),
    ),
    Flag::value(BACKUP, &["--backup-dir"], Value::Dir("DIR"), "put the backup in DIR; implies -b", |s, value| {
        put(&mut s.backup().dir, parse_path(value))
    }),
    Flag::set(
        BACKUP,
        &["--backup-timestamp"],
        "name it OUTPUT.YYYYMMDD-HHMMSS.backup, in local time; implies -b",
        |s| s.backup().timestamp = true,
    ),
    Flag::value(
        BACKUP,
        &["--backup-keep"],
        Value::Text("N"),
        "then delete all dated backups of OUTPUT but the N newest; implies --backup-timestamp",
        |s, value| put(&mut s.backup().keep_newest, parse_kept(&value)),
    ),
    Flag::value(
        BACKUP,
        &["--backup-mode"],
        Value::Text("OCTAL"),
        "mode of the backup; default: the original's; implies -b",
        |s, value| put(&mut s.backup().mode, parse_mode(&value)),
    ),
    Flag::value(METADATA, &["-m", "--mode"], Value::Text("OCTAL"), "mode of the new file", |s, value| {
        put(&mut s.options.mode, parse_mode(&value))
    }),
    Flag::set(METADATA, &["--preserve-mode"], "keep the original's mode (the default)", |s| {
        s.options.preserve_mode = true;
    }),
    Flag::set(METADATA, &["--no-preserve-mode"], "give the new file the umask's default mode", |s| {
        s.options.preserve_mode = false;
    }),
    Flag::set(METADATA, &["--try-preserve-owner"], "keep owner and group where permitted (the default)", |s| {
        s.options.ownership = Ownership::TryKeep;
    }),
    Flag::set(METADATA, &["--preserve-owner"], "keep owner, group and set-id bits; failing to is an error", |s| {
        s.options.ownership = Ownership::Keep;
    }),
    Flag::set(METADATA, &["--no-preserve-owner"], "make the new file yours", |s| {
        s.options.ownership = Ownership::Writer;
    }),
    Flag::set(METADATA, &["--no-preserve-xattrs"], "do not carry extended attributes and ACLs over", |s| {
        s.options.preserve_xattrs = false;
    }),
    Flag::value(
        CONTENT,
        &["--if-match"],
        Value::Text("DIGEST"),
        "replace OUTPUT only if its content has this digest, of --digest or sha256sum; absent: only if it does not exist. \
         Otherwise exit 4",
        |s, value| s.expectations.add(&value),
    ),
    Flag::value(
        CONTENT,
        &["--if-match-file"],
        Value::File("COPY"),
        "replace OUTPUT only if its content is that of COPY; otherwise exit 4",
        |s, value| s.expectations.set(Expect::SameAs(parse_path(value)?)),
    ),
    Flag::set(CONTENT, &["--if-changed"], "leave OUTPUT untouched when the content is identical", |s| {
        s.options.if_changed = true;
    }),
    Flag::value(
        CONTENT,
        &["--unchanged-exit-code"],
        Value::Text("N"),
        "with --if-changed: end with N when nothing has changed",
        |s, value| put(&mut s.unchanged_status, parse_status(&value)),
    ),
    Flag::value(
        CONTENT,
        &["--validate"],
        Value::Command("CMD"),
        "run sh -c CMD first, the new content on its standard input and in the file $AWRITE_NEW; write only if it \
         succeeds",
        |s, value| put(&mut s.validate, parse_script(value)),
    ),
    Flag::set(CONTENT, &["--diff"], "print what changes on standard output first, as diff -u does", |s| s.diff = true),
    Flag::set(
        CONTENT,
        &["--verify"],
        "before OUTPUT is replaced, read the new content back from the disk and compare it with the input",
        |s| s.options.verify = true,
    ),
    Flag::set(CONTENT, &["--dry-run"], "do everything but the commit, and say whether OUTPUT would be replaced", |s| {
        s.options.dry_run = true;
    }),
    Flag::set(CONTENT, &["-f", "--force"], "replace a file that is not writable for you", |s| s.options.force = true),
    Flag::set(CONTENT, &["--no-follow"], "replace a symbolic link itself, not the file behind it", |s| {
        s.options.lock.follow = false;
    }),
    Flag::set(
        CONTENT,
        &["--in-place"],
        "where OUTPUT cannot be replaced (a mount point, a directory that you may not write), overwrite it: not atomic",
        |s| s.options.in_place = true,
    ),
    Flag::set(
        CONTENT,
        &["--keep-inode"],
        "write into the existing file, for its other hard links and mounts; atomic only where the file system can",
        |s| s.options.keep_inode = true,
    ),
    Flag::value(
        CONTENT,
        &["--sync"],
        Value::OneOf(&["full", "data", "none"]),
        "what survives power loss: the new content (full, the default), old or new (data), nothing is certain (none)",
        |s, value| put(&mut s.options.durability, parse_durability(&value)),
    ),
    Flag::set(CONTENT, &["-D", "--mkdir"], "create missing parent directories, and that of --backup-dir", |s| {
        s.options.mkdir = true
    }),
    common::progress(),
    common::verbose(),
    common::quiet(),
    common::json(),
    common::json_fd(),
    Flag::set(OTHER, &["--digest"], "print what --if-match takes, of the file given as OUTPUT, and exit", |s| {
        s.digest = true;
    }),
    Flag::check(OTHER, &["--list"], "print the names of the applets and exit", |_, _| Err(Stop::List)),
    Flag::set(
        OTHER,
        &["--install"],
        "make links to this program, one for each name, in a directory, given as OUTPUT; --force replaces what stands there",
        |s| s.install = true,
    ),
    Flag::value(
        OTHER,
        &["--completions"],
        Value::OneOf(&["bash", "zsh", "fish"]),
        "print completions for a shell and exit",
        |_, value| Err(Stop::Completions(parse_shell(&value)?)),
    ),
    common::help(),
    common::version(),
];

fn parse_script(script: OsString) -> Result<OsString, String> {
    if script.is_empty() { Err("an empty command accepts anything".to_owned()) } else { Ok(script) }
}

fn parse_durability(text: &OsStr) -> Result<Durability, String> {
    one_of(text, &[("full", Durability::Full), ("data", Durability::Data), ("none", Durability::None)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;

    #[test]
    fn the_table_is_sound() {
        super::super::super::help::check_table(&GRAMMAR.manual());
    }

    #[test]
    fn the_last_of_quiet_and_verbose_wins() {
        let level = |args: &[&str]| {
            let mut settings = Settings::default();
            assert!(GRAMMAR.parse(args.iter().map(Into::into).collect(), &mut settings).is_ok());
            settings.style.level
        };
        assert_eq!(level(&[]), Level::Warn);
        assert_eq!(level(&["-v"]), Level::Info);
        assert_eq!(level(&["-vv"]), Level::Debug);
        assert_eq!(level(&["-vvv"]), Level::Debug);
        assert_eq!(level(&["-vvq"]), Level::Error);
        assert_eq!(level(&["-qv"]), Level::Info);
    }
}
