//! The lines of awrite-store(7): requests read, answers written.

use std::io::{self, BufRead, Read, Write};

/// The most that a message may have, in bytes.
const LONGEST_MESSAGE: usize = 64 * 1024;
/// The most that one of its lines may have, without its end.
const LONGEST_LINE: usize = 4 * 1024;
/// The most that an owner or a reason may have.
const LONGEST_TEXT: usize = 255;

/// An hour.
const LONGEST_TIMEOUT_MS: u64 = 3_600_000;

/// The lines of a message.
pub(crate) type Message = Vec<(String, String)>;

/// The next message; `None` at the end of the input. An error is a message for a person: what follows on the input
/// cannot be understood.
pub(crate) fn read(input: &mut impl BufRead) -> Result<Option<Message>, String> {
    let (mut message, mut length) = (Message::new(), 0);
    loop {
        let mut line = Vec::new();
        let limit = (LONGEST_LINE + 1).min(LONGEST_MESSAGE - length) as u64;
        input.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|e| format!("Cannot read a request: {e}."))?;
        length += line.len();
        if line.is_empty() && limit > 0 {
            // awrite has ended: nobody waits for an answer.
            return Ok(None);
        }
        let Some(b'\n') = line.pop() else {
            let ended = line.len() as u64 + 1 < limit;
            return if ended {
                Ok(None)
            } else {
                Err("A request is too long: 4 KiB a line, 64 KiB in all.".to_owned())
            };
        };
        if line.is_empty() {
            return Ok(Some(message));
        }
        let line = String::from_utf8(line).map_err(|_| "A request is not UTF-8.".to_owned())?;
        let (key, value) =
            line.split_once('=').ok_or_else(|| format!("A line of a request has no \"=\": {line:?}."))?;
        message.push((key.to_owned(), value.to_owned()));
    }
}

/// The id of a request, which its answers have too.
pub(crate) fn id_of(message: &Message) -> Option<&str> {
    message.iter().find(|(key, _)| key == "id").map(|(_, id)| id.as_str())
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Acquire,
    Refresh,
    Release,
    Status,
    Break,
    List,
}

/// A request that has what its verb needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    /// awrite waits this long.
    pub(crate) timeout_ms: u64,
    /// Of the lease. Empty for [`Verb::List`].
    pub(crate) name: String,
    /// Empty for the verbs that need none.
    pub(crate) owner: String,
    pub(crate) token: Option<u64>,
    /// Not 0. There is one for [`Verb::Acquire`].
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) reason: String,
    pub(crate) host: String,
    pub(crate) pid: String,
}

impl Request {
    /// An error is a message for a person.
    pub(crate) fn parse(message: &Message) -> Result<Request, String> {
        let value = |key: &str| message.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        let number = |key: &str| match value(key) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(format!("A request has \"{key}={text}\", which is no number.")),
            },
        };
        if value("version") != Some("1") {
            let version = value("version").unwrap_or("none");
            return Err(format!(
                "This awrite-store-etcd speaks version 1 of the protocol, awrite version {version}. Install both from \
                 the same release."
            ));
        }
        let verb = match value("request") {
            Some("acquire") => Verb::Acquire,
            Some("refresh") => Verb::Refresh,
            Some("release") => Verb::Release,
            Some("status") => Verb::Status,
            Some("break") => Verb::Break,
            Some("list") => Verb::List,
            other => return Err(format!("There is no request {:?}.", other.unwrap_or(""))),
        };
        let text = |key: &str| value(key).unwrap_or_default().to_owned();
        let request = Request {
            verb,
            timeout_ms: number("timeout_ms")?.unwrap_or(10_000).min(LONGEST_TIMEOUT_MS),
            name: text("name"),
            owner: text("owner"),
            token: number("token")?,
            ttl_ms: number("ttl_ms")?,
            reason: text("reason"),
            host: text("host"),
            pid: text("pid"),
        };
        for (key, is_missing) in [
            ("name", request.name.is_empty() && verb != Verb::List),
            ("owner", request.owner.is_empty() && matches!(verb, Verb::Acquire | Verb::Refresh | Verb::Release)),
            ("ttl_ms", request.ttl_ms == Some(0) || request.ttl_ms.is_none() && verb == Verb::Acquire),
        ] {
            if is_missing {
                return Err(format!("A request has no {key}, which it needs."));
            }
        }
        Ok(request)
    }
}

/// Who has a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) owner: String,
    pub(crate) token: u64,
    /// 0: it may end at any moment.
    pub(crate) left_ms: u64,
    pub(crate) reason: String,
    pub(crate) host: String,
    pub(crate) pid: String,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done, or nobody has it.
    Done,
    /// It is the asker's.
    Granted {
        token: u64,
        left_ms: u64,
    },
    /// It was taken from this holder.
    Broken(Holder),
    /// This holder has it.
    Held(Holder),
    /// The same, in a list.
    Listed {
        name: String,
        holder: Holder,
    },
    /// It is not the asker's; it is this holder's, if anybody's.
    Lost(Option<Holder>),
    Error(String),
}

impl Answer {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let with = |word: &str, holder: &Holder, is_list: Option<&str>| {
            let mut lines = vec![("answer", word.to_owned())];
            lines.extend(is_list.map(|name| ("name", name.to_owned())));
            lines.push(("owner", holder.owner.clone()));
            lines.push(("token", holder.token.to_string()));
            lines.push(("left_ms", holder.left_ms.to_string()));
            for (key, value) in [("reason", &holder.reason), ("host", &holder.host), ("pid", &holder.pid)] {
                if !value.is_empty() {
                    lines.push((key, value.clone()));
                }
            }
            lines
        };
        match self {
            Answer::Done => vec![("answer", "ok".to_owned())],
            Answer::Granted { token, left_ms } => {
                vec![("answer", "ok".to_owned()), ("token", token.to_string()), ("left_ms", left_ms.to_string())]
            }
            Answer::Broken(holder) => with("ok", holder, None),
            Answer::Held(holder) => with("held", holder, None),
            Answer::Listed { name, holder } => with("held", holder, Some(name)),
            Answer::Lost(None) => vec![("answer", "lost".to_owned())],
            Answer::Lost(Some(holder)) => with("lost", holder, None),
            Answer::Error(said) => vec![("answer", "error".to_owned()), ("message", said.clone())],
        }
    }
}

/// Writes answers to the request with this id, each with its empty line, at once.
pub(crate) fn write(output: &mut impl Write, answers: &[Answer], id: Option<&str>) -> io::Result<()> {
    let mut text = String::new();
    for answer in answers {
        let id = id.map(|id| ("id", id.to_owned()));
        for (key, value) in answer.lines().into_iter().chain(id) {
            let longest = if key == "message" { LONGEST_LINE / 2 } else { LONGEST_TEXT };
            let value = if key == "name" { value } else { fit(&value, longest) };
            text.extend([key, "=", &value, "\n"]);
        }
        text.push('\n');
    }
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Whether it is the name of a lease as awrite writes it, and not the key of somebody else.
pub(crate) fn is_name(text: &str) -> bool {
    let is_digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    let mut escapes = bytes.iter().enumerate().filter(|(_, b)| **b == b'%');
    (1..=LONGEST_LINE - "name=".len()).contains(&text.len())
        && !text.contains(char::is_control)
        && escapes.all(|(at, _)| is_digit(bytes.get(at + 1)) && is_digit(bytes.get(at + 2)))
}

/// A value as it may stand in a line. awrite's own values do already; what others have written into etcd need not.
fn fit(value: &str, longest: usize) -> String {
    if value.len() <= longest && !value.contains(char::is_control) {
        return value.to_owned();
    }
    let mut text = String::new();
    for c in value.chars() {
        let mut bytes = [0; 4];
        let mut next = c.encode_utf8(&mut bytes).to_owned();
        if c.is_control() {
            next = next.bytes().map(|byte| format!("%{byte:02X}")).collect();
        }
        if text.len() + next.len() + "...".len() > longest {
            text.push_str("...");
            break;
        }
        text.push_str(&next);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut input: &[u8]) -> (Vec<Message>, Option<String>) {
        let mut all = Vec::new();
        loop {
            match read(&mut input) {
                Ok(Some(message)) => all.push(message),
                Ok(None) => return (all, None),
                Err(said) => return (all, Some(said)),
            }
        }
    }

    #[test]
    fn messages_end_with_an_empty_line() {
        let (all, error) = read_all(b"a=1\nb==2=\n\n\nc=\n\nd=half");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(all, [vec![pair("a", "1"), pair("b", "=2=")], vec![], vec![pair("c", "")]]);
        assert_eq!(error, None);
    }

    #[test]
    fn nonsense_is_not_read_on() {
        for (input, said) in [
            (b"a=1\nnothing\n\n".to_vec(), "no \"=\""),
            (b"a=\xff\n\n".to_vec(), "not UTF-8"),
            (vec![b'='; LONGEST_LINE + 1], "too long"),
            ([b"=".repeat(LONGEST_LINE), b"\n".to_vec()].concat().repeat(17), "too long"),
        ] {
            let (all, error) = read_all(&input);
            assert!(all.is_empty());
            assert!(error.as_ref().is_some_and(|error| error.contains(said)), "{said}: {error:?}");
        }
        // As long as they may be.
        let whole = [b"=".repeat(LONGEST_LINE), b"\n".to_vec()].concat().repeat(15);
        assert_eq!(read_all(&[whole, b"\n".to_vec()].concat()).1, None);
    }

    fn request(text: &str) -> Result<Request, String> {
        Request::parse(&read(&mut text.as_bytes()).unwrap().unwrap())
    }

    #[test]
    fn requests_have_what_they_need() {
        let asked = request(
            "version=1\nrequest=acquire\ntimeout_ms=5\nname=/a=b\nowner=o\nttl_ms=1500\nreason=r\nhost=h\npid=7\nnew=x\n\n",
        );
        let asked = asked.unwrap();
        assert_eq!((asked.verb, asked.timeout_ms, asked.name.as_str()), (Verb::Acquire, 5, "/a=b"));
        assert_eq!((asked.ttl_ms, asked.token, asked.pid.as_str()), (Some(1500), None, "7"));
        for (text, said) in [
            ("request=list", "awrite version none"),
            ("version=2\nrequest=list", "awrite version 2"),
            ("version=1", "no request \"\""),
            ("version=1\nrequest=steal", "no request \"steal\""),
            ("version=1\nrequest=status", "no name"),
            ("version=1\nrequest=acquire\nname=n\nttl_ms=1", "no owner"),
            ("version=1\nrequest=acquire\nname=n\nowner=o", "no ttl_ms"),
            ("version=1\nrequest=refresh\nname=n\nowner=o\nttl_ms=0", "no ttl_ms"),
            ("version=1\nrequest=release\nname=n\nowner=o\ntoken=-1", "\"token=-1\", which is no number"),
        ] {
            let error = request(&format!("{text}\n\n")).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn answers_are_lines() {
        let holder =
            Holder { owner: "o".into(), token: 7, left_ms: 900, reason: "two\nlines".into(), ..Holder::default() };
        for (answer, text) in [
            (Answer::Done, "answer=ok\n\n"),
            (Answer::Granted { token: 7, left_ms: 5 }, "answer=ok\ntoken=7\nleft_ms=5\n\n"),
            (Answer::Broken(holder.clone()), "answer=ok\nowner=o\ntoken=7\nleft_ms=900\nreason=two%0Alines\n\n"),
            (Answer::Held(holder.clone()), "answer=held\nowner=o\ntoken=7\nleft_ms=900\nreason=two%0Alines\n\n"),
            (
                Answer::Listed { name: "n".into(), holder: Holder { reason: String::new(), ..holder } },
                "answer=held\nname=n\nowner=o\ntoken=7\nleft_ms=900\n\n",
            ),
            (Answer::Lost(None), "answer=lost\n\n"),
            (Answer::Error("why".into()), "answer=error\nmessage=why\n\n"),
        ] {
            let mut output = Vec::new();
            write(&mut output, std::slice::from_ref(&answer), None).unwrap();
            assert_eq!(String::from_utf8(output).unwrap(), text);
            let mut output = Vec::new();
            write(&mut output, &[answer], id_of(&vec![("id".into(), "x=1".into())])).unwrap();
            assert_eq!(String::from_utf8(output).unwrap(), text.replace("\n\n", "\nid=x=1\n\n"));
        }
    }

    #[test]
    fn values_of_others_are_made_fit() {
        for (value, text) in [
            ("x".repeat(255), "x".repeat(255)),
            ("x".repeat(256), format!("{}...", "x".repeat(252))),
            ("ä".repeat(200), format!("{}...", "ä".repeat(126))),
            ("\n".repeat(9), "%0A".repeat(9)),
            ("\u{85}".repeat(50), format!("{}...", "%C2%85".repeat(42))),
        ] {
            assert_eq!(fit(&value, 255), text);
        }
    }

    #[test]
    fn names_are_told_from_other_keys() {
        for name in ["a", "/etc/app.conf", "job:x", "a%0Ab%25", "ä%FF"] {
            assert!(is_name(name), "{name}");
        }
        for other in ["", "a\n", "100%", "100%0", "%0x", "%-1"] {
            assert!(!is_name(other), "{other}");
        }
        assert!(is_name(&"x".repeat(LONGEST_LINE - 5)) && !is_name(&"x".repeat(LONGEST_LINE - 4)));
    }
}
