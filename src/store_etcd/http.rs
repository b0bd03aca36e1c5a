//! Requests to etcd's JSON gateway: endpoint after endpoint until one answers, with a token where etcd wants one.
//!
//! A request whose answer is lost may have been carried out, and is sent again all the same. Every request that
//! leases.rs makes can bear that.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader, Read};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;

use crate::environment::{Environment, User};
use crate::trouble::{self, Failed, Trouble, Words};

/// The most that an answer may have, in bytes: a page of a list is below it.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;

const LOG: &str = "Look into etcd's log";
const DROPS: &str = "Check the address, and that no firewall drops packets to it; an etcd without a leader does not \
                     answer, either (etcdctl endpoint health)";

/// The pause before all endpoints are asked again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// etcd, as seen from here.
pub(crate) struct Gateway {
    agent: Agent,
    endpoints: Vec<String>,
    /// Which endpoint answered last.
    current: usize,
    user: Option<User>,
    /// What etcd gave the user. It counts for some minutes, or until the member that gave it restarts.
    token: Option<String>,
    /// When to give up.
    pub(crate) until: Instant,
}

impl Gateway {
    pub(crate) fn new(endpoints: Vec<String>, environment: Environment) -> Gateway {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // etcd is near; HTTP_PROXY is for the web.
            .proxy(None)
            .user_agent(concat!("awrite-store-etcd/", env!("CARGO_PKG_VERSION")));
        let config = match environment.tls {
            Some(tls) => config.tls_config(tls),
            None => config,
        };
        let agent = config.build().into();
        // Not always the first: it may be the one that is cut off, and others have work to do, too.
        let current = random() as usize % endpoints.len();
        Gateway { agent, endpoints, current, user: environment.user, token: None, until: Instant::now() }
    }

    /// What etcd answers to `body` at `/v3/PATH`. Of a stream of answers it is the first one.
    ///
    /// Each endpoint gets its share of the time until [`Gateway::until`]. When all have failed, they are asked again if
    /// one of them may only be without a leader for now.
    pub(crate) fn call(&mut self, path: &str, body: &Value) -> Result<Value, Trouble> {
        let mut pause = FIRST_PAUSE;
        // What each endpoint said the last time.
        let mut said = Vec::new();
        loop {
            let mut may_pass = false;
            for left in (1..=self.endpoints.len()).rev() {
                let time = self.time_left();
                if time.is_zero() {
                    break;
                }
                let endpoint = self.endpoints[self.current].clone();
                let until = Instant::now() + time / u32::try_from(left).unwrap_or(1);
                let (words, passes) = match self.ask(&endpoint, path, body, until) {
                    Ok(answer) => return Ok(answer),
                    Err(Failed::Final(trouble)) => return Err(trouble),
                    Err(Failed::Unusable(words)) => (Some(words), false),
                    Err(Failed::Passing(words)) => (Some(words), true),
                    Err(Failed::Late) => (None, true),
                    Err(Failed::Token) => (Some(Words::new("it refuses the token that etcd gave", LOG)), true),
                };
                may_pass |= passes;
                note(&mut said, endpoint, words);
                self.current = (self.current + 1) % self.endpoints.len();
            }
            if said.is_empty() {
                return Err(Trouble::Said("There was no time left to ask etcd. Allow it more time.".to_owned()));
            }
            if !may_pass || self.time_left() <= pause {
                return Err(Trouble::Said(trouble::all_of(&said)));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// What one endpoint answers, if need be with a new token.
    fn ask(&mut self, endpoint: &str, path: &str, body: &Value, until: Instant) -> Result<Value, Failed> {
        self.log_in(endpoint, until)?;
        match self.post(endpoint, path, body, until) {
            Err(Failed::Token) if self.user.is_some() => {
                self.token = None;
                self.log_in(endpoint, until)?;
                self.post(endpoint, path, body, until)
            }
            answer => answer,
        }
    }

    /// Gets a token, if there is a user and no token.
    fn log_in(&mut self, endpoint: &str, until: Instant) -> Result<(), Failed> {
        let Some(user) = self.user.as_ref().filter(|_| self.token.is_none()) else { return Ok(()) };
        let body = json!({ "name": user.name, "password": user.password });
        let answer = match self.post(endpoint, "auth/authenticate", &body, until) {
            // etcdctl goes on without a token, too.
            Err(Failed::Final(Trouble::AuthIsOff)) => {
                self.user = None;
                return Ok(());
            }
            answer => answer?,
        };
        self.token = answer.get("token").and_then(Value::as_str).map(str::to_owned);
        Ok(())
    }

    fn post(&self, endpoint: &str, path: &str, body: &Value, until: Instant) -> Result<Value, Failed> {
        // ureq takes no time at all for no limit.
        let time = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut request = self.agent.post(format!("{endpoint}/v3/{path}"));
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let request = request.header("content-type", "application/json").config().timeout_global(Some(time)).build();
        let mut response = request.send(body.to_string()).map_err(|error| trouble::unanswered(endpoint, &error))?;
        let status = response.status().as_u16();
        let mut text = Vec::new();
        // The answers of a stream are a line each. Others end without one.
        let body = BufReader::new(response.body_mut().as_reader());
        body.take(LONGEST_ANSWER).read_until(b'\n', &mut text).map_err(|error| trouble::disturbed(endpoint, &error))?;
        let answer = serde_json::from_slice::<Value>(&text).unwrap_or_default();
        if status == 200 && answer.is_object() && trouble::refusal(&answer).is_none() {
            return Ok(answer);
        }
        let user = self.user.as_ref().map(|user| user.name.as_str());
        Err(trouble::refused(endpoint, status, &String::from_utf8_lossy(&text), user))
    }
}

/// Keeps the last words of an endpoint. That the time was over (`None`) says less than what was said before.
fn note(said: &mut Vec<(String, Words)>, endpoint: String, words: Option<Words>) {
    let known = said.iter().position(|(known, _)| *known == endpoint);
    match (known, words) {
        (Some(at), Some(words)) => said[at].1 = words,
        (Some(_), None) => {}
        (None, words) => said.push((endpoint, words.unwrap_or(Words::new("no answer in time", DROPS)))),
    }
}

/// A random number. It is a hash, but one with random keys.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(Instant::now())
}
