//! The checked command line of `awrite`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use awrite::{Durability, Notice, Ownership, Preview, WriteOptions};

use super::super::flags::{CommandLine, Parsed, Stop};
use super::super::locking;
use super::expectations::Expectations;
use super::options::{GRAMMAR, Settings};
use super::source::same_file;
use super::validation::validation;
use crate::process::{self, Inherited};
use crate::report::{self, exit};

pub(super) struct Request {
    pub(super) output: PathBuf,
    /// Those behind the first.
    pub(super) more: Vec<PathBuf>,
    pub(super) command: Option<CommandLine>,
    pub(super) input: Option<Input>,
    pub(super) stream: bool,
    /// COMMAND edits copies.
    pub(super) edit: bool,
    /// The directory that the OUTPUTs, which are files to read then, are put into.
    pub(super) into: Option<PathBuf>,
    /// The script of `--validate`, where `options` does not have it as a check.
    pub(super) validate: Option<OsString>,
    /// What several OUTPUTs must contain.
    pub(super) expectations: Expectations,
    /// The exit status when nothing has changed.
    pub(super) unchanged_status: u8,
    pub(super) options: WriteOptions,
    pub(super) started: Instant,
}

impl Request {
    /// The options for one of several OUTPUTs.
    pub(super) fn options_for(&self, output: &Path) -> WriteOptions {
        let mut options = self.options.clone();
        options.expect = self.expectations.of(output);
        options
    }

    /// Whether a helper program is asked under which lease this is.
    pub(super) fn asks_store(&self) -> bool {
        let lock = &self.options.lock;
        lock.lease.is_some() || lock.store.is_some() && lock.claim.is_some() || awrite::runs_under_store()
    }

    /// Whether a mode or an owner is asked for, which a file with the same content gets too.
    pub(super) fn sets_metadata(&self) -> bool {
        let options = &self.options;
        options.mode.is_some() || !options.preserve_mode || options.ownership == Ownership::Writer
    }
}

/// The value of `-i`.
pub(super) enum Input {
    Stdin,
    File(PathBuf),
}

/// Finds all contradictions between options. Changes nothing.
pub(super) fn check(settings: Settings, parsed: Parsed, inherited: &Inherited) -> Result<Request, Stop> {
    if settings.install {
        return Err(install(parsed, &settings));
    }
    let edit = settings.edit;
    let is_plain = !edit && settings.into.is_none();
    if !is_plain {
        check_several(&settings, &parsed)?;
    } else if let Some(word) = parsed.more.first() {
        return Err(GRAMMAR.manual().unexpected(word));
    }
    let output = PathBuf::from(parsed.operand.ok_or_else(|| GRAMMAR.manual().missing_operand())?);
    let (more, stream) = (parsed.more.into_iter().map(PathBuf::from).collect::<Vec<_>>(), settings.stream);
    ensure_named(std::iter::once(&output).chain(&more), settings.into.is_some())?;
    let input = settings.input.map(|path| if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path) });
    let mut options = settings.options;
    // What is not changed stays as it is.
    options.if_changed |= !is_plain;
    check_options(&options, parsed.command.is_some(), input.as_ref(), &output)?;
    if settings.unchanged_status.is_some() && !options.if_changed {
        return Err(Stop::Usage("--unchanged-exit-code: needs --if-changed".to_owned()));
    }
    if let Some(limit) = settings.kill_after {
        if parsed.command.is_none() && settings.validate.is_none() {
            return Err(Stop::Usage("--kill-after: COMMAND is missing".to_owned()));
        }
        process::kill_after(limit);
    }
    if settings.into.is_none() {
        let all: Vec<&Path> = std::iter::once(&output).chain(&more).map(PathBuf::as_path).collect();
        settings.expectations.ensure_about(&all)?;
    }
    if is_plain {
        options.expect = settings.expectations.of(&output);
    }
    let (follow, names_store) = (options.lock.follow, settings.locking.names_store());
    options.lock = settings.locking.options(false)?;
    if names_store && options.lock.claim.is_none() {
        return Err(Stop::Usage("--store: needs --owner".to_owned()));
    }
    options.lock.follow = follow;
    options.preview = settings.diff.then(printed_diff);
    let mut validate = settings.validate;
    if is_plain {
        options.check = validate.take().map(|script| validation(script, *inherited, Arc::default()));
    }
    options.observer = locking::observer_and(settings.style, give_way_at_commit);
    let unchanged_status = settings.unchanged_status.unwrap_or(exit::SUCCESS);
    Ok(Request {
        output,
        more,
        command: parsed.command,
        input,
        stream,
        edit,
        into: settings.into,
        validate,
        expectations: settings.expectations,
        unchanged_status,
        options,
        started: Instant::now(),
    })
}

/// Refuses `-` among the operands: the files that `--into` puts somewhere, or the OUTPUTs.
fn ensure_named<'a>(mut operands: impl Iterator<Item = &'a PathBuf>, into: bool) -> Result<(), Stop> {
    let reason = match operands.any(|path| path.as_os_str() == "-") {
        false => return Ok(()),
        true if into => "FILE: standard input has no name in DIR; a file of that name is ./-",
        true => "OUTPUT: standard output cannot be replaced; a file of that name is ./-",
    };
    Err(Stop::Usage(reason.to_owned()))
}

fn printed_diff() -> Preview {
    Preview::new(|target, old, new| {
        // The reader may take its time.
        process::about_to_wait()?;
        report::end_progress();
        report::diff::print(target, old, new)
    })
}

/// The disk may have been slow, and a signal may have come meanwhile.
fn give_way_at_commit(notice: &Notice<'_>) {
    if matches!(notice, Notice::Committing { .. }) {
        process::give_way();
    }
}

/// What contradicts another option of the library's, COMMAND or the input.
fn check_options(options: &WriteOptions, has_command: bool, input: Option<&Input>, output: &Path) -> Result<(), Stop> {
    if options.lock_on_commit {
        let conflict = if has_command {
            Some("COMMAND")
        } else if matches!(input, Some(Input::File(file)) if same_file(file, output, options.lock.follow)) {
            Some("-i OUTPUT")
        } else {
            None
        };
        if let Some(conflict) = conflict {
            let reason = "another writer's update between reading and locking would be lost";
            return Err(Stop::Usage(format!("--lock-on-commit: contradicts {conflict}: {reason}")));
        }
    }
    if options.verify && options.durability == Durability::None {
        let reason = "what is not synced cannot be read back from the disk";
        return Err(Stop::Usage(format!("--verify: contradicts --sync none: {reason}")));
    }
    Ok(())
}

/// What contradicts `-e` or `--into`.
fn check_several(settings: &Settings, parsed: &Parsed) -> Result<(), Stop> {
    let usage = |reason: String| Err(Stop::Usage(reason));
    let (name, work) = match &settings.into {
        Some(_) => ("--into", "the content comes from the FILEs"),
        None => ("--edit", "COMMAND edits a copy of OUTPUT"),
    };
    let others = [
        (settings.into.is_some() && settings.edit, "--edit"),
        (settings.into.is_some() && parsed.command.is_some(), "COMMAND"),
        (settings.input.is_some(), "--input"),
        (settings.stream, "--stream"),
        (settings.options.append, "--append"),
    ];
    if let Some((_, other)) = others.into_iter().find(|(given, _)| *given) {
        return usage(format!("{name}: contradicts {other}: {work}"));
    }
    if settings.options.lock_on_commit {
        return usage(format!("--lock-on-commit: contradicts {name}: the locks are taken first"));
    }
    match (&settings.into, &parsed.operand, &parsed.command) {
        (Some(_), None, _) => usage("--into: FILE is missing".to_owned()),
        (None, Some(_), None) => usage("--edit: COMMAND is missing: awrite -e OUTPUT -- COMMAND".to_owned()),
        _ => Ok(()),
    }
}

/// The operand of `--digest`.
pub(super) fn to_digest(parsed: Parsed) -> Result<PathBuf, Stop> {
    match parsed {
        Parsed { command: Some(_), .. } => Err(Stop::Usage("--digest: takes no COMMAND".to_owned())),
        Parsed { operand: None, .. } => Err(Stop::Usage("--digest: FILE is missing".to_owned())),
        Parsed { more, .. } if !more.is_empty() => Err(GRAMMAR.manual().unexpected(&more[0])),
        Parsed { operand: Some(file), .. } if file == "-" => {
            Err(Stop::Usage("--digest: standard input is no file; one of that name is ./-".to_owned()))
        }
        Parsed { operand: Some(file), .. } => Ok(file.into()),
    }
}

fn install(parsed: Parsed, settings: &Settings) -> Stop {
    match parsed {
        Parsed { command: Some(_), .. } => Stop::Usage("--install: takes no COMMAND".to_owned()),
        Parsed { more, .. } if !more.is_empty() => GRAMMAR.manual().unexpected(&more[0]),
        Parsed { operand: Some(dir), .. } => Stop::Install { dir: dir.into(), force: settings.options.force },
        _ => Stop::Usage("--install: DIR is missing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settled options, or the reason why there are none.
    fn settled(args: &[&str]) -> Result<WriteOptions, String> {
        let mut settings = Settings::default();
        let inherited = process::take_over();
        let parsed = GRAMMAR.parse(args.iter().map(Into::into).collect(), &mut settings);
        match parsed.and_then(|parsed| check(settings, parsed, &inherited)) {
            Ok(request) => Ok(request.options),
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
            (&["--backup-keep=0", "f"], "--backup-keep: at least 1 must be kept"),
            (&["--backup-keep", "all", "f"], "--backup-keep: 'all' is not a number of backups"),
            (&["--backup-dir=", "f"], "--backup-dir: an empty string"),
            (&["-i", "", "f"], "--input: an empty string"),
            (&["--validate", "", "f"], "--validate: an empty command"),
            (&["--kill-after=1", "f"], "--kill-after: COMMAND is missing"),
            (&["--verify", "--sync=none", "f"], "--verify: contradicts --sync none"),
            (&["--unchanged-exit-code=5", "f"], "--unchanged-exit-code: needs --if-changed"),
            (&["--unchanged-exit-code=256", "--if-changed", "f"], "--unchanged-exit-code: '256' is not a number"),
            (&["--sync", "all", "f"], "--sync: 'all' is none of full, data, none"),
            (&["--completions", "ksh"], "--completions: 'ksh' is none of bash, zsh, fish"),
            (&["--owner", "", "f"], "--owner: the owner of a lease must have a name"),
            (&["--owner", "a\nb", "f"], "--owner: the name of a lease's owner must not contain control characters"),
            (&["--token", "1", "f"], "--token: needs --owner"),
            (&["--token", "-1", "--owner", "me", "f"], "--token: '-1' is not a token"),
            (&["--token", "", "--owner", "me", "f"], "--token: '' is not a token"),
            (&["--if-match", "", "f"], "--if-match: '' is not sha256: and"),
            (&["--if-match", "g=absent", "f"], "--if-match: 'g' is no OUTPUT"),
            (&["--if-match", "absent", "--if-match-file", "g", "f"], "--if-match-file: contradicts --if-match"),
            (&["--if-match-file", "g", "--if-match=absent", "f"], "--if-match: contradicts --if-match-file"),
            (&["--if-match-file", "", "f"], "--if-match-file: an empty string"),
            (&["--lock-method", "nfs", "f"], "--lock-method: 'nfs' is none of auto, flock, link"),
            (&[], "OUTPUT is missing"),
            (&["-v"], "OUTPUT is missing"),
            (&["-e", "f"], "--edit: COMMAND is missing"),
            (&["-e"], "OUTPUT is missing"),
            (&["-e", "-i", "g", "f", "--", "vi"], "--edit: contradicts --input"),
            (&["-e", "--stream", "f", "--", "vi"], "--edit: contradicts --stream"),
            (&["-ea", "f", "--", "vi"], "--edit: contradicts --append"),
            (&["-e", "--lock-on-commit", "f", "--", "vi"], "--lock-on-commit: contradicts --edit"),
            (&["-e", "f", "-", "--", "vi"], "OUTPUT: standard output cannot be replaced"),
            (&["f", "g"], "'g': unexpected argument; put -- before COMMAND"),
            (&["--into", "d"], "--into: FILE is missing"),
            (&["--into", "d", "-"], "FILE: standard input has no name in DIR"),
            (&["--into", "d", "f", "--", "cat"], "--into: contradicts COMMAND"),
            (&["--into", "d", "-e", "f", "--", "cat"], "--into: contradicts --edit"),
            (&["--into", "d", "-i", "f", "g"], "--into: contradicts --input"),
            (&["--into", "d", "--stream", "g"], "--into: contradicts --stream"),
            (&["--into", "d", "-a", "g"], "--into: contradicts --append"),
            (&["--into", "d", "--lock-on-commit", "g"], "--lock-on-commit: contradicts --into"),
            (&["--into", "", "g"], "--into: an empty string"),
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
        for implying in
            ["-b", "--backup-suffix=.x", "--backup-dir=d", "--backup-timestamp", "--backup-mode=600", "--backup-keep=1"]
        {
            assert!(settled(&["f", implying]).unwrap().backup.is_some(), "{implying}");
        }
        assert!(settled(&["f", "--no-preserve-mode", "--preserve-mode"]).unwrap().preserve_mode);
        assert!(!settled(&["f", "--preserve-mode", "--no-preserve-mode"]).unwrap().preserve_mode);
        assert!(!settled(&["f"]).unwrap().allow_empty);
        assert!(settled(&["f", "--allow-empty"]).unwrap().allow_empty);
        assert!(!settled(&["f", "--no-follow"]).unwrap().lock.follow);
        assert!(settled(&["f", "--lock-method=flock"]).is_ok());
        assert!(settled(&["f", "--lock-on-commit", "-i", "src/main.rs"]).is_ok());
    }
}
