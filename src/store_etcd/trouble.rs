//! What goes wrong between here and etcd, in words: which endpoint, what, and what can be done.

use std::env;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError};
use serde_json::Value;

/// Why a request of awrite's has failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// etcd knows no lease with this id.
    NoSuchLease,
    /// etcd has a lease with this id.
    LeaseExists,
    /// etcd knows no users: authentication is not enabled.
    AuthIsOff,
    /// A message for a person.
    Said(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoSuchLease => f.write_str("The lease ended in etcd while it was asked for."),
            Trouble::LeaseExists => f.write_str("etcd has a lease already with the number that was chosen."),
            Trouble::AuthIsOff => f.write_str("etcd knows no users."),
            Trouble::Said(text) => f.write_str(text),
        }
    }
}

/// What one endpoint has answered, if it is not what was asked for.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Another endpoint would say the same.
    Final(Trouble),
    /// The endpoint cannot be used; another try would not help, another endpoint may.
    Unusable(Words),
    /// Another try may succeed.
    Passing(Words),
    /// The time for this try was over.
    Late,
    /// The token of authentication counts no longer.
    Token,
}

/// What happened, and what can be done about it.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) what: String,
    pub(crate) remedy: &'static str,
}

impl Words {
    pub(crate) fn new(what: &str, remedy: &'static str) -> Words {
        Words { what: what.to_owned(), remedy }
    }
}

const NO_LEADER: &str = "etcd works while more than half of its members run and reach each other; see etcdctl \
                         endpoint status";
const LISTENS: &str = "Check the address, and that etcd runs and listens there for clients (--listen-client-urls)";
const HANGS_UP_TLS: &str = "If this lasts: an etcd without a certificate wants etcd:// in the URL; one that asks its \
                            clients for theirs wants one of its own authority in ETCDCTL_CERT and ETCDCTL_KEY";
const GATEWAY: &str = "Check that this is etcd 3.4 or later, with its JSON gateway on (--enable-grpc-gateway)";

/// No answer came, or only a part of one.
pub(crate) fn unanswered(endpoint: &str, error: &ureq::Error) -> Failed {
    match error {
        ureq::Error::Timeout(_) => Failed::Late,
        ureq::Error::HostNotFound => Failed::Unusable(Words::new("there is no such host", LISTENS)),
        ureq::Error::ConnectionFailed => Failed::Unusable(Words::new("no connection", LISTENS)),
        ureq::Error::Rustls(error) => Failed::Unusable(tls(error)),
        ureq::Error::Io(error) => disturbed(endpoint, error),
        ureq::Error::Protocol(_) => Failed::Unusable(Words::new("what answers there does not speak HTTP", LISTENS)),
        error => Failed::Unusable(Words::new(&error.to_string(), LISTENS)),
    }
}

/// A system call failed, or TLS below it.
pub(crate) fn disturbed(endpoint: &str, error: &io::Error) -> Failed {
    if let Some(inner) = error.get_ref() {
        if let Some(error) = inner.downcast_ref::<rustls::Error>() {
            return Failed::Unusable(tls(error));
        }
        if let Some(error) = inner.downcast_ref::<ureq::Error>() {
            return unanswered(endpoint, error);
        }
    }
    let text = error.to_string();
    let what = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    if what.starts_with("failed to lookup address") {
        return Failed::Unusable(Words::new("there is no such host", LISTENS));
    }
    // A server that ends does that; one that sees TLS where it expects none, or the other way round; and one that sees no
    // certificate of the client's: the request is on its way already when it looks (TLS 1.3), so that what it says of
    // it may get lost.
    let hangs_up = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    );
    let (what, remedy) = match hangs_up {
        true if endpoint.starts_with("https:") => ("it hangs up".to_owned(), HANGS_UP_TLS),
        true => ("it hangs up".to_owned(), "If this lasts: an etcd with a certificate wants etcds:// in the URL"),
        false => (what, LISTENS),
    };
    let words = Words { what, remedy };
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::PermissionDenied => Failed::Unusable(words),
        _ => Failed::Passing(words),
    }
}

/// The two ends do not trust each other, or one of them does not speak TLS.
fn tls(error: &rustls::Error) -> Words {
    let has = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let (what, remedy) = match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer if has("ETCDCTL_CACERT") => (
                "its certificate is not signed by the authority in ETCDCTL_CACERT",
                "Name the file with the certificate of etcd's authority there",
            ),
            CertificateError::UnknownIssuer => (
                "its certificate is signed by no authority that this system trusts",
                "Name a file with the certificate of etcd's authority in ETCDCTL_CACERT",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                "its certificate is for another host",
                "Write one of the names in its certificate into the URL, or give etcd a certificate with this one",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                ("its certificate has expired", "Give etcd a new one, or set the clock right")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("its certificate does not count yet", "Set the clock right, here or where it was made")
            }
            _ => return Words { what: error.to_string(), remedy: "Check etcd's certificate (--cert-file)" },
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied
                if has("ETCDCTL_CERT") =>
            {
                (
                    "it does not accept the certificate in ETCDCTL_CERT",
                    "Name one of etcd's authority (--trusted-ca-file)",
                )
            }
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate => (
                "it wants to see a certificate",
                "Name the files of one in ETCDCTL_CERT and ETCDCTL_KEY, signed by etcd's --trusted-ca-file",
            ),
            _ => return Words { what: error.to_string(), remedy: "Check etcd's certificates and settings of TLS" },
        },
        rustls::Error::InvalidMessage(_) => {
            ("what answers there does not speak TLS", "Use etcd:// if etcd has no certificate")
        }
        _ => return Words { what: error.to_string(), remedy: "Check etcd's certificates and settings of TLS" },
    };
    Words::new(what, remedy)
}

/// What etcd answered instead of what was asked for: the error of its gateway, or something that is not etcd's at all.
pub(crate) fn refused(endpoint: &str, status: u16, text: &str, user: Option<&str>) -> Failed {
    let unusable = |what: String, remedy| Failed::Unusable(Words { what, remedy });
    let Some((code, message)) = serde_json::from_str(text).ok().and_then(|answer| refusal(&answer)) else {
        return match status {
            400 if text.contains("HTTP request to an HTTPS server") => {
                unusable("it speaks TLS".to_owned(), "Use etcds:// in the URL")
            }
            502..=504 => Failed::Passing(Words { what: format!("HTTP status {status}"), remedy: NO_LEADER }),
            _ => unusable(format!("HTTP status {status}, not an answer of etcd"), GATEWAY),
        };
    };
    said_no(endpoint, code, &message, user)
}

/// Code and text of an error, as the gateways of etcd 3.4 to 3.6 write them: on top, or within `error`.
pub(crate) fn refusal(answer: &Value) -> Option<(u64, String)> {
    let error = answer.get("error").filter(|error| error.is_object()).unwrap_or(answer);
    let code = error.get("code").or_else(|| error.get("grpc_code"))?.as_u64()?;
    let text = error.get("message").and_then(Value::as_str).unwrap_or_default();
    Some((code, text.trim_start_matches("etcdserver: ").to_owned()))
}

// Codes of gRPC.
const DEADLINE_EXCEEDED: u64 = 4;
const NOT_FOUND: u64 = 5;
const PERMISSION_DENIED: u64 = 7;
const FAILED_PRECONDITION: u64 = 9;
const UNAVAILABLE: u64 = 14;

fn said_no(endpoint: &str, code: u64, message: &str, user: Option<&str>) -> Failed {
    let last = |text: &str| Failed::Final(Trouble::Said(format!("{endpoint}: {text}")));
    match (code, message) {
        (NOT_FOUND, "requested lease not found") => Failed::Final(Trouble::NoSuchLease),
        (FAILED_PRECONDITION, "lease already exists") => Failed::Final(Trouble::LeaseExists),
        (FAILED_PRECONDITION, "authentication is not enabled") => Failed::Final(Trouble::AuthIsOff),
        (_, "invalid auth token" | "revision of auth store is old") => Failed::Token,
        (UNAVAILABLE | DEADLINE_EXCEEDED, _) | (_, "too many requests") => {
            Failed::Passing(Words { what: format!("etcd says \"{message}\""), remedy: NO_LEADER })
        }
        (PERMISSION_DENIED, _) => last(&format!(
            "etcd does not let {} do this. Grant a role of this user read and write for all keys under PREFIX of the \
             URL: etcdctl role grant-permission ROLE --prefix=true readwrite PREFIX/.",
            user.map_or("this client".to_owned(), |user| format!("user \"{user}\"")),
        )),
        (_, "user name is empty" | "user name not found") if user.is_none() => {
            last("etcd wants to know who asks. Set ETCDCTL_USER to name:password.")
        }
        (_, "authentication failed, invalid user ID or password" | "user name not found") => last(&format!(
            "etcd does not know user \"{}\" with this password. Check ETCDCTL_USER (name:password) and \
             ETCDCTL_PASSWORD.",
            user.unwrap_or_default(),
        )),
        (_, "too large lease TTL") => last("the lease is too long for etcd. Ask for a shorter one."),
        (_, "mvcc: database space exceeded") => last(
            "etcd's database is full. Compact and defragment it, then disarm the alarm: etcdctl compact, defrag, \
             alarm disarm.",
        ),
        _ => last(&format!("etcd says \"{message}\".")),
    }
}

/// What all endpoints have said, in a line.
pub(crate) fn all_of(said: &[(String, Words)]) -> String {
    let mut text = String::new();
    for (at, (endpoint, words)) in said.iter().enumerate() {
        text.extend([if at > 0 { "; " } else { "" }, endpoint, ": ", &words.what]);
    }
    if let Some((_, words)) = said.last() {
        text.extend([". ", words.remedy, "."]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As etcd 3.4, 3.5 and 3.6 write it; the last two are answers of a stream.
    #[test]
    fn errors_of_all_gateways_are_understood() {
        for text in [
            r#"{"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14}"#,
            r#"{"code":14,"message":"etcdserver: no leader","details":[]}"#,
            r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"x"}}"#,
            r#"{"error":{"code":14,"message":"etcdserver: no leader","details":[]}}"#,
        ] {
            assert_eq!(refusal(&serde_json::from_str(text).unwrap()), Some((14, "no leader".to_owned())), "{text}");
            assert!(matches!(refused("e", 503, text, None), Failed::Passing(_)), "{text}");
        }
        for text in [r#"{"header":{"revision":"7"},"succeeded":true}"#, r#"{"result":{"ID":"7","TTL":"2"}}"#] {
            assert_eq!(refusal(&serde_json::from_str(text).unwrap()), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_etcd_is_told_apart() {
        let said = |status, text| match refused("http://h:1", status, text, None) {
            Failed::Unusable(words) | Failed::Passing(words) => format!("{}. {}.", words.what, words.remedy),
            Failed::Final(trouble) => trouble.to_string(),
            Failed::Token => "token".to_owned(),
            Failed::Late => "late".to_owned(),
        };
        for (status, text, words) in [
            (400, "Client sent an HTTP request to an HTTPS server.\n", "Use etcds://"),
            (404, "404 page not found", "--enable-grpc-gateway"),
            (200, "<html>", "HTTP status 200, not an answer of etcd"),
            (502, "bad gateway", "HTTP status 502"),
            (401, r#"{"code":16,"message":"etcdserver: invalid auth token"}"#, "token"),
            (
                429,
                r#"{"code":8,"message":"etcdserver: mvcc: database space exceeded"}"#,
                "http://h:1: etcd's database is",
            ),
            (500, r#"{"code":13,"message":"odd"}"#, "http://h:1: etcd says \"odd\"."),
        ] {
            assert!(said(status, text).contains(words), "{status} {text}: {}", said(status, text));
        }
    }
}
