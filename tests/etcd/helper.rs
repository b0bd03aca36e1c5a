//! awrite's side of awrite-store(7).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{Run, Running, TestDir, wait_until};

/// The helper under test.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_awrite-store-etcd");

/// A helper that runs.
pub(crate) struct Helper<'a> {
    /// It must outlive this.
    _dir: &'a TestDir,
    running: Running,
    answers: PathBuf,
    /// How much of it has been read.
    seen: usize,
    /// The id of the last request.
    id: u32,
}

/// An answer: its lines.
#[derive(Debug)]
pub(crate) struct Said(BTreeMap<String, String>);

impl Said {
    fn parse(message: &str) -> Said {
        let pair = |line: &str| {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{message:?}"));
            (key.to_owned(), value.to_owned())
        };
        assert!(message.starts_with("answer="), "{message:?}");
        Said(message.lines().map(pair).collect())
    }

    /// The value of a key; empty if there is none.
    pub(crate) fn value(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub(crate) fn word(&self) -> &str {
        self.value("answer")
    }

    #[track_caller]
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.value(key).parse().unwrap_or_else(|_| panic!("{key}: {self:?}"))
    }

    /// It grants a lease. Which token it has.
    #[track_caller]
    pub(crate) fn token(&self) -> u64 {
        assert_eq!(self.word(), "ok", "{self:?}");
        assert!(self.number("left_ms") > 0, "{self:?}");
        self.number("token")
    }

    /// It is exactly this, key by key.
    #[track_caller]
    pub(crate) fn is(&self, lines: &[(&str, &str)]) {
        let lines: BTreeMap<String, String> =
            lines.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(self.0, lines);
    }

    /// It is an error with these words, fit to be shown to a person.
    #[track_caller]
    pub(crate) fn is_error(&self, words: &[&str]) {
        assert_eq!(self.word(), "error", "{self:?}");
        let message = self.value("message");
        for word in words {
            assert!(message.contains(word), "wanted {word:?}: {message}");
        }
        assert!(message.ends_with('.') && !message.contains("os error") && !message.contains("panicked"), "{message}");
    }
}

impl<'a> Helper<'a> {
    pub(crate) fn start(dir: &'a TestDir, url: &str) -> Helper<'a> {
        Helper::start_with(dir, url, &[])
    }

    pub(crate) fn start_with(dir: &'a TestDir, url: &str, variables: &[(String, String)]) -> Helper<'a> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let answers = dir.file(format!("answers-{}", NEXT.fetch_add(1, Ordering::Relaxed)), "");
        let mut run: Run = dir.program("sh", ["-c", "exec \"$HELPER\" \"$URL\" >\"$ANSWERS\""]);
        // Settings of the caller's must not count.
        for name in ["CACERT", "CERT", "KEY", "USER", "PASSWORD"] {
            run = run.env(&format!("ETCDCTL_{name}"), "");
        }
        for (name, value) in variables {
            run = run.env(name, value);
        }
        let run = run.env("HELPER", HELPER).env("URL", url).env("ANSWERS", &answers);
        Helper { _dir: dir, running: run.stdin_open().spawn(), answers, seen: 0, id: 0 }
    }

    /// Asks without waiting for the answer. awrite waits ten seconds.
    pub(crate) fn send(&mut self, verb: &str, lines: &[&str]) {
        self.id += 1;
        let mut text = format!("version=1\nid={}\nrequest={verb}\n", self.id);
        if !lines.iter().any(|line| line.starts_with("timeout_ms=")) {
            text.push_str("timeout_ms=10000\n");
        }
        for line in lines {
            text.extend([line, "\n"]);
        }
        text.push('\n');
        self.running.feed(text.as_bytes());
    }

    /// Waits for the next answer.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Said {
        let mut message = String::new();
        wait_until("the helper answers", || {
            let all = fs::read_to_string(&self.answers).unwrap();
            match all[self.seen..].split_once("\n\n") {
                Some((first, _)) => message = first.to_owned(),
                None => assert!(!self.running.has_ended(), "the helper has ended: {}", self.running.stderr()),
            }
            !message.is_empty()
        });
        self.seen += message.len() + 2;
        let mut said = Said::parse(&message);
        assert_eq!(said.0.remove("id"), Some(self.id.to_string()), "{said:?}");
        said
    }

    /// What is answered to a request.
    #[track_caller]
    pub(crate) fn ask(&mut self, verb: &str, lines: &[&str]) -> Said {
        self.send(verb, lines);
        self.answer()
    }

    #[track_caller]
    pub(crate) fn acquire(&mut self, name: &str, owner: &str, ttl_ms: u64) -> Said {
        let (name, owner, ttl) = (format!("name={name}"), format!("owner={owner}"), format!("ttl_ms={ttl_ms}"));
        self.ask("acquire", &[&name, &owner, &ttl])
    }

    /// The answers to `list` but for its last.
    #[track_caller]
    pub(crate) fn list(&mut self) -> Vec<Said> {
        self.send("list", &[]);
        let mut all = Vec::new();
        loop {
            let said = self.answer();
            if said.word() == "ok" {
                return all;
            }
            assert_eq!(said.word(), "held", "{said:?}");
            all.push(said);
        }
    }

    /// Sends what is no request, and returns what is answered before it ends.
    #[track_caller]
    pub(crate) fn last_words(mut self, bytes: &[u8]) -> (String, Option<i32>) {
        self.running.feed(bytes);
        let done = self.running.finish();
        assert_eq!(done.stderr, "");
        (fs::read_to_string(&self.answers).unwrap()[self.seen..].to_owned(), done.code)
    }
}
