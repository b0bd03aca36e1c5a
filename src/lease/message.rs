//! What awrite and the helper program of a store say to each other: awrite-store(7).
//!
//! A message is lines `key=value`, and an empty line. Keys that are not known are passed over.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::percent::decoded;
use super::record::MAX_TOKEN;
use crate::options::{check_owner, check_reason};

/// Longer messages are not read.
pub(super) const LONGEST: usize = 64 * 1024;
const LONGEST_LINE: usize = 4 * 1024;

/// A request, key by key, without its id.
#[derive(Debug)]
pub(super) struct Question(String);

impl Question {
    pub(super) fn new(request: &str, timeout: Duration) -> Question {
        Question(format!("request={request}\ntimeout_ms={}\n", timeout.as_millis()))
    }

    /// The value must be one line.
    pub(super) fn with(mut self, key: &str, value: &str) -> Question {
        self.0.push_str(&format!("{key}={value}\n"));
        self
    }

    pub(super) fn with_some(self, key: &str, value: Option<&str>) -> Question {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// The whole message.
    pub(super) fn text(&self, id: u64) -> String {
        format!("version=1\nid={id}\n{}\n", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Ok,
    Held,
    Lost,
    Error,
}

/// An answer. What is not in it is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) said: Said,
    /// Of the request.
    pub(super) id: Option<u64>,
    pub(super) name: Option<PathBuf>,
    pub(super) owner: Option<String>,
    pub(super) token: Option<u64>,
    pub(super) left: Option<Duration>,
    pub(super) reason: Option<String>,
    pub(super) host: Option<String>,
    pub(super) pid: Option<u32>,
    pub(super) message: Option<String>,
}

impl Answer {
    /// Reads a message without the empty line at its end. The error says why it is none, for a message.
    pub(super) fn parse(text: &[u8]) -> Result<Answer, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut said = None;
        let mut answer = Answer {
            said: Said::Error,
            id: None,
            name: None,
            owner: None,
            token: None,
            left: None,
            reason: None,
            host: None,
            pid: None,
            message: None,
        };
        for line in text.lines() {
            let (key, value) = line.split_once('=').ok_or_else(|| format!("\"{}\" is no key=value", brief(line)))?;
            if line.len() > LONGEST_LINE || value.contains(char::is_control) {
                return Err(format!("the value of {} is too long, or not one line of text", brief(key)));
            }
            let bad = || format!("{key}={} is not possible", brief(value));
            match key {
                "answer" => said = Some(said_by(value).ok_or_else(bad)?),
                "id" => answer.id = Some(number(value).ok_or_else(bad)?),
                "name" => answer.name = Some(decoded(value).map(PathBuf::from).ok_or_else(bad)?),
                "owner" => answer.owner = Some(check_owner(value).map(|()| value.to_owned()).map_err(|_| bad())?),
                "token" => answer.token = Some(number(value).filter(|n| (1..=MAX_TOKEN).contains(n)).ok_or_else(bad)?),
                "left_ms" => answer.left = Some(Duration::from_millis(number(value).ok_or_else(bad)?)),
                "reason" if value.is_empty() => {}
                "reason" => answer.reason = Some(check_reason(value).map(|()| value.to_owned()).map_err(|_| bad())?),
                "host" => answer.host = Some(value.to_owned()),
                "pid" => answer.pid = Some(number(value).and_then(|n| u32::try_from(n).ok()).ok_or_else(bad)?),
                "message" => answer.message = Some(value.to_owned()),
                _ => {}
            }
        }
        answer.said = said.ok_or("it has no \"answer\"")?;
        match answer.said {
            // Who has it, and for how long.
            Said::Held if answer.owner.is_none() || answer.token.is_none() || answer.left.is_none() => {
                Err("\"held\" is without owner, token or left_ms".to_owned())
            }
            Said::Error if answer.message.is_none() => Err("\"error\" is without message".to_owned()),
            _ => Ok(answer),
        }
    }

    /// Whether it is the answer to the request with this id. Whoever has not understood a request may not know its id.
    pub(super) fn is_to(&self, id: u64) -> bool {
        self.id == Some(id) || self.id.is_none() && self.said == Said::Error
    }
}

fn said_by(value: &str) -> Option<Said> {
    Some(match value {
        "ok" => Said::Ok,
        "held" => Said::Held,
        "lost" => Said::Lost,
        "error" => Said::Error,
        _ => return None,
    })
}

/// Decimal digits alone.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// As much of a text as a message can take.
fn brief(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// The name of a lease as a value. `None`: it is too long for a line.
pub(super) fn written_name(name: &Path) -> Option<String> {
    let mut text = String::new();
    for chunk in name.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '%' => text.push_str("%25"),
                c if c.is_control() => c.to_string().bytes().for_each(|b| text.push_str(&format!("%{b:02X}"))),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| text.push_str(&format!("%{b:02X}")));
    }
    (text.len() + "name=".len() <= LONGEST_LINE).then_some(text)
}

/// What holds for any answer.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_answer(text: &[u8]) {
    match Answer::parse(text) {
        Ok(answer) => {
            let texts = [&answer.owner, &answer.reason, &answer.host, &answer.message];
            assert!(texts.into_iter().flatten().all(|text| !text.contains(char::is_control)), "{answer:?}");
            assert!(answer.token.is_none_or(|token| token > 0));
        }
        // It becomes part of a message.
        Err(why) => assert!(!why.contains(char::is_control), "{why:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::options::is_plain_name;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn answers(
            bytes: Vec<u8>,
            keys in prop::collection::vec("(answer|name|owner|token|left_ms|reason|pid|message|x)=(ok|held|lost|error|[0-9]{1,20}|.{0,8})\n", 0..6),
        ) {
            any_answer(&bytes);
            any_answer(keys.concat().as_bytes());
        }

        #[test]
        fn names_of_any_bytes(bytes in prop::collection::vec(1..=255_u8, 1..40)) {
            let text = written_name(Path::new(std::ffi::OsStr::from_bytes(&bytes))).unwrap();
            prop_assert!(!text.contains(char::is_control), "{}", text);
            prop_assert_eq!(decoded(&text).unwrap().into_vec(), bytes);
        }
    }

    #[test]
    fn what_a_helper_may_say() {
        let held = Answer::parse(b"answer=held\nowner=a=b\ntoken=7\nleft_ms=0\nreason=\nnew=1\npid=3\n").unwrap();
        assert_eq!((held.said, held.owner.as_deref(), held.token), (Said::Held, Some("a=b"), Some(7)));
        assert_eq!((held.left, held.reason, held.pid), (Some(Duration::ZERO), None, Some(3)));
        let lost = Answer::parse(b"answer=lost\nhost=h\nname=/a%0A\nreason=why\nid=5\n").unwrap();
        assert_eq!((lost.said, lost.host.as_deref(), lost.id), (Said::Lost, Some("h"), Some(5)));
        assert_eq!((lost.name, lost.reason.as_deref()), (Some("/a\n".into()), Some("why")));
        for nonsense in [
            "",
            "ok",
            "owner=a",
            "answer=yes",
            "answer=held\nowner=a\ntoken=7",
            "answer=held\nowner=\ntoken=7\nleft_ms=1",
            "answer=ok\ntoken=0",
            "answer=ok\ntoken=+7",
            "answer=ok\ntoken=9007199254740993",
            "answer=ok\nleft_ms=-1",
            "answer=ok\npid=99999999999",
            "answer=ok\nid=x",
            "answer=ok\nname=%",
            "answer=held\nowner=a\nleft_ms=1",
            "answer=held\ntoken=7\nleft_ms=1",
            "answer=ok\nhost=a\tb",
            "answer=error",
            "answer=ok\n\u{1b}",
        ] {
            assert!(Answer::parse(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
        let longest = |n: usize| Answer::parse(format!("answer=ok\nx={}", "y".repeat(n - 2)).as_bytes());
        assert!(longest(4096).is_ok() && longest(4097).is_err());
        // It becomes part of a message.
        let why = Answer::parse(format!("answer={}\n", "y".repeat(100)).as_bytes()).unwrap_err();
        assert_eq!(why, format!("answer={} is not possible", "y".repeat(60)));
    }

    #[test]
    fn answers_have_the_id_of_their_request() {
        let to = |text: &str| Answer::parse(text.as_bytes()).unwrap().is_to(7);
        assert!(to("answer=ok\nid=7") && to("answer=error\nmessage=m\nid=7") && to("answer=error\nmessage=m"));
        assert!(!to("answer=ok") && !to("answer=ok\nid=6") && !to("answer=error\nmessage=m\nid=6"));
        let question = Question::new("list", Duration::from_millis(1500)).with("a", "b=").with_some("c", None);
        let text = question.with_some("d", Some("e")).text(3);
        assert_eq!(text, "version=1\nid=3\nrequest=list\ntimeout_ms=1500\na=b=\nd=e\n\n");
    }

    #[test]
    fn names() {
        for plain in ["job:x", "a:/b", "http://x", "x::"] {
            assert!(is_plain_name(plain.as_bytes()), "{plain}");
        }
        for path in ["job", "./job:x", "/a:b", "a/b:c", ":x", "x:", "", ":"] {
            assert!(!is_plain_name(path.as_bytes()), "{path}");
        }
        assert_eq!(written_name(Path::new("/a b%\n")).unwrap(), "/a b%25%0A");
        let long = |n| written_name(Path::new(&"x".repeat(n))).map(|text| text.len());
        assert_eq!((long(4091), long(4092)), (Some(4091), None));
    }
}
