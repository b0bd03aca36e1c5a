//! A proxy between the helper and etcd, which does to their talk what a test wants.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cluster::new_place;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    /// It never arrives.
    RequestLost,
    /// It arrives, and is carried out.
    AnswerLost,
    /// Its answer comes from another term than the ones before.
    OtherTerm,
}

/// Says what becomes of a request, by its number from 0 and its path below /v3/.
type Rule = Box<dyn FnMut(usize, &str) -> Fate + Send>;

struct State {
    rule: Rule,
    paths: Vec<String>,
}

/// A proxy that listens at [`Proxy::place`] until the process ends.
pub(crate) struct Proxy {
    pub(crate) place: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Lets all requests pass to `etcd`, HOST:PORT.
    pub(crate) fn start(etcd: &str) -> Proxy {
        let place = new_place();
        let listener = TcpListener::bind(&place).unwrap();
        let state = Arc::new(Mutex::new(State { rule: Box::new(|_, _| Fate::Pass), paths: Vec::new() }));
        let (shared, etcd) = (Arc::clone(&state), etcd.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, etcd) = (Arc::clone(&shared), etcd.clone());
                // What goes wrong is for the client to see.
                std::thread::spawn(move || drop(serve(client, &etcd, &shared)));
            }
        });
        Proxy { place, state }
    }

    pub(crate) fn url(&self, prefix: &str) -> String {
        format!("etcd://{}/{prefix}", self.place)
    }

    /// From now on, requests are counted anew, and `rule` decides.
    pub(crate) fn rule(&self, rule: impl FnMut(usize, &str) -> Fate + Send + 'static) {
        *self.state.lock().unwrap() = State { rule: Box::new(rule), paths: Vec::new() };
    }

    /// The paths that have been asked for, below /v3/, since the last rule.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().paths.clone()
    }
}

/// One request, and its answer; then the connection ends.
fn serve(mut client: TcpStream, etcd: &str, shared: &Mutex<State>) -> std::io::Result<()> {
    let request = read_request(&mut client)?;
    let path = request.split(' ').nth(1).and_then(|path| path.strip_prefix("/v3/")).unwrap_or_default().to_owned();
    let fate = {
        let mut state = shared.lock().unwrap();
        let at = state.paths.len();
        state.paths.push(path.clone());
        (state.rule)(at, &path)
    };
    if fate == Fate::RequestLost {
        return Ok(());
    }
    let mut server = TcpStream::connect(etcd)?;
    server.set_read_timeout(Some(Duration::from_secs(20)))?;
    server.write_all(request.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes())?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    if fate == Fate::AnswerLost {
        return Ok(());
    }
    if let Some((head, rest)) = answer.split_once("\"raft_term\":\"").filter(|_| fate == Fate::OtherTerm) {
        answer = format!("{head}\"raft_term\":\"9{}", &rest[1..]);
    }
    client.write_all(answer.as_bytes())
}

/// Reads a request: what stands before the empty line, and as much as it says.
fn read_request(client: &mut TcpStream) -> std::io::Result<String> {
    client.set_read_timeout(Some(Duration::from_secs(20)))?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            if length.is_none_or(|length| length.parse().is_ok_and(|length: usize| body.len() >= length)) {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        match client.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
