//! `awrite-store-etcd`: the leases of `awrite --store etcd://…`, kept by etcd.
//!
//! awrite starts it with the URL and speaks awrite-store(7) with it over standard input and output. It talks to etcd's
//! JSON gateway. Nothing is kept here from one request to the next but connections and a token of authentication: what
//! is true stands in etcd, so that awrite may kill this process at any time.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

mod base64;
mod environment;
mod etcd;
mod http;
mod leases;
mod protocol;
mod trouble;
mod url;

use environment::Environment;
use etcd::Etcd;
use protocol::{Answer, Request};
use url::Place;

const USAGE: &str = "\
Usage: awrite-store-etcd etcd://HOST[:PORT][,HOST[:PORT]...]/PREFIX
       awrite-store-etcd etcds://HOST[:PORT][,HOST[:PORT]...]/PREFIX

Keeps leases in etcd for awrite --store. awrite starts it; see awrite-store(7) for
what it reads from standard input and writes to standard output.

Environment: ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY (files, for etcds),
ETCDCTL_USER (name:password, or the name only), ETCDCTL_PASSWORD.
";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [argument] = arguments.as_slice() else {
        let _ = io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(1);
    };
    let said = match argument.to_str() {
        Some("-h" | "--help") => io::stdout().write_all(USAGE.as_bytes()),
        Some("-V" | "--version") => {
            io::stdout().write_all(concat!("awrite-store-etcd ", env!("CARGO_PKG_VERSION"), "\n").as_bytes())
        }
        url => return serve(url.unwrap_or_default()),
    };
    if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Answers requests until there are no more. What is wrong with the URL or the environment is said in the answers:
/// awrite shows them.
fn serve(url: &str) -> ExitCode {
    let mut place = Place::parse(url).and_then(|place| {
        let environment = Environment::read(place.is_tls)?;
        Ok(Etcd::new(place, environment))
    });
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    loop {
        let message = match protocol::read(&mut input) {
            Ok(None) => return ExitCode::SUCCESS,
            Ok(Some(message)) => message,
            // Where the next request begins is not known.
            Err(said) => {
                let _ = protocol::write(&mut output, &[Answer::Error(said)], None);
                return ExitCode::from(1);
            }
        };
        let answers = match (Request::parse(&message), &mut place) {
            (Err(said), _) => vec![Answer::Error(said)],
            (Ok(_), Err(said)) => vec![Answer::Error(said.clone())],
            (Ok(request), Ok(etcd)) => answers(etcd, &request),
        };
        if protocol::write(&mut output, &answers, protocol::id_of(&message)).is_err() {
            return ExitCode::from(1);
        }
    }
}

fn answers(etcd: &mut Etcd, request: &Request) -> Vec<Answer> {
    // awrite kills what has not answered by its deadline. The last part is for tidying up.
    let now = Instant::now();
    let part = |percent| now + Duration::from_millis(request.timeout_ms).saturating_mul(percent) / 100;
    etcd.give_up_at(part(80), part(95));
    leases::answer(etcd, request).unwrap_or_else(|trouble| vec![Answer::Error(trouble.to_string())])
}
