//! A lease that a store keeps, through its helper program.
//!
//! The store's clock and this host's are not compared. A lease ends in the store no earlier than its time after a request
//! was sent; here it ends that long after the boot clock was read, before the request was sent. So it is over here before
//! it is over there. A request that fails moves nothing.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::id as pid;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::helper::{Answered, Client};
use super::message::{Answer, Question, Said, written_name};
use super::percent::decoded;
use super::store::{check_reason_of, ensure_ttl};
use super::visitor::{AGAIN, Leased};
use crate::cleanup::{self, Ticket, Undo};
use crate::duration::shown_duration;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Patience, Pauses};
use crate::notice::Observer;
use crate::options::{Claim, LockOptions, Wait, check_owner, is_plain_name};
use crate::sys::host::{boot_clock, host_name};
use crate::target::{Resolve, Target};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same where the caller gives less time to the whole.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
/// The pauses of a process that waits for the end of another's lease. Each look is a request to the store.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often it asks the observer meanwhile.
const SLICE: Duration = Duration::from_millis(100);

/// A lease by its name in a store.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    pub(super) client: Arc<Client>,
    /// As requests have it.
    pub(super) name: String,
    /// The target as the caller gave it, for messages.
    given: PathBuf,
}

/// Who has a lease.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) owner: String,
    pub(super) token: u64,
    pub(super) left: Duration,
    /// When that is over, on this host's boot clock.
    pub(super) ends: Duration,
    pub(super) reason: Option<String>,
    pub(super) host: String,
    pub(super) pid: u32,
}

impl Holding {
    /// `None`: the answer says of nobody.
    fn of(answer: &Answer, sent: Duration) -> Option<Holding> {
        let left = answer.left.unwrap_or_default();
        Some(Holding {
            owner: answer.owner.clone()?,
            token: answer.token?,
            left,
            ends: sent.saturating_add(left),
            reason: answer.reason.clone(),
            host: answer.host.clone().unwrap_or_default(),
            pid: answer.pid.unwrap_or_default(),
        })
    }
}

/// While it lives, a lease that this process has asked for is given back if the process is told to end now.
#[derive(Debug)]
pub(super) struct GivenBack(Ticket);

struct Asked {
    /// With a client of its own, which has no helper: dropping one needs the list that this is in.
    remote: Remote,
    owner: String,
}

impl Undo for Asked {
    /// Whoever has asked does not know yet whether it was given. A lease that the owner had before is another process's.
    fn undo(&self) -> io::Result<()> {
        let is_own = |held: &Holding| held.owner == self.owner && (held.host.as_str(), held.pid) == (&*host(), pid());
        if let Some(held) = self.remote.status(SHORTEST_TIMEOUT)?.filter(is_own) {
            self.remote.release(&Claim::of(&self.owner, held.token), SHORTEST_TIMEOUT)?;
        }
        Ok(())
    }
}

impl Drop for GivenBack {
    fn drop(&mut self) {
        if self.0.is_own() {
            self.0.keep();
        }
    }
}

/// This host, as a request has it.
fn host() -> String {
    host_name().replace(char::is_control, "?")
}

/// A lease that was had: its token, and its end on this host's boot clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Had {
    pub(super) token: u64,
    pub(super) ends: Duration,
}

/// Whether the target is the plain name of a lease.
pub(super) fn is_plain_target(given: &Path) -> bool {
    is_plain_name(given.as_os_str().as_bytes())
}

/// The name of the lease of a target that is resolved: its whole path.
pub(super) fn name_of_path(target: &Target) -> Result<PathBuf> {
    target.whole_path().map_err(|e| Error::io(&target.given, e))
}

impl Remote {
    /// The lease of the target `given`, which may be a plain name. Asks nothing.
    pub(super) fn of(url: &str, given: &Path, options: &LockOptions) -> Result<Remote> {
        let client = Arc::new(Client::new(url)?);
        if is_plain_target(given) {
            return Remote::named(client, given, given);
        }
        let target = Target::resolve(given, Resolve { follow: options.follow, mkdir: false })?;
        Remote::named(client, &name_of_path(&target)?, given)
    }

    pub(super) fn named(client: Arc<Client>, name: &Path, given: &Path) -> Result<Remote> {
        let name = written_name(name).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "the name of the lease is too long for a store: 4 KiB at most").on(given)
        })?;
        Ok(Remote { client, name, given: given.to_owned() })
    }

    /// The name itself.
    pub(super) fn path(&self) -> PathBuf {
        decoded(&self.name).map(PathBuf::from).unwrap_or_default()
    }

    fn question(&self, request: &str, timeout: Duration) -> Question {
        Question::new(request, timeout).with("name", &self.name)
    }

    /// Asks, and returns the one answer. An `error` of the store is an error.
    fn ask(&self, question: &Question, timeout: Duration) -> Result<(Answer, Duration)> {
        let Answered { mut answers, sent } =
            self.client.ask(question, timeout, false).map_err(|e| e.on(&self.given))?;
        match answers.pop() {
            Some(answer) if answer.said != Said::Error => Ok((answer, sent)),
            Some(Answer { message: Some(message), .. }) => Err(refused_by_store(&message).on(&self.given)),
            _ => Err(self.nonsense()),
        }
    }

    /// The helper has answered, but not what was asked.
    fn nonsense(&self) -> Error {
        Error::new(ErrorKind::Store, "the helper of the store gave an answer that does not fit the request")
            .on(&self.given)
            .with_hint("awrite-store(7) has what a helper may answer")
    }

    /// What `ok` says of a lease that is had.
    fn had(&self, answer: &Answer, sent: Duration, ttl: Option<Duration>) -> Result<Had> {
        let (Some(token), Some(left)) = (answer.token, answer.left) else { return Err(self.nonsense()) };
        Ok(Had { token, ends: sent.saturating_add(ttl.map_or(left, |ttl| ttl.min(left))) })
    }

    /// Takes it for `owner`, or refreshes it where `owner` has it already. Waits for the end of another's as `options` say.
    /// From when it is asked for, the end of this process gives it back.
    pub(super) fn acquire(
        &self,
        owner: &str,
        ttl: Duration,
        options: &LockOptions,
        observer: &Observer,
    ) -> Result<(Had, GivenBack)> {
        check_owner(owner)?;
        ensure_ttl(ttl)?;
        check_reason_of(options)?;
        let mut patience = Patience::new(&self.given, options, observer);
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        // Listed before the helper, which so is killed before another one is asked.
        let remote = Remote { client: Arc::new(self.client.for_the_end()), ..self.clone() };
        let asked = Asked { remote, owner: owner.to_owned() };
        let given_back = GivenBack(cleanup::make(|| Ok::<_, Error>(((), asked)))?.1);
        loop {
            let left = patience.limit().map(|limit| limit.saturating_sub(patience.started.elapsed()));
            let timeout = left.map_or(TIMEOUT, |left| left.clamp(SHORTEST_TIMEOUT, TIMEOUT));
            let question = self
                .question("acquire", timeout)
                .with("owner", owner)
                .with("ttl_ms", &milliseconds(ttl))
                .with_some("reason", options.reason.as_deref())
                .with("host", &host())
                .with("pid", &pid().to_string());
            let (answer, sent) = self.ask(&question, timeout).map_err(|e| e.during("cannot take the lease"))?;
            let leased = match (answer.said, Holding::of(&answer, sent)) {
                (Said::Ok, _) => return Ok((self.had(&answer, sent, Some(ttl))?, given_back)),
                (Said::Held, Some(held)) => Leased::new(held.owner, held.left, held.reason),
                _ => return Err(self.nonsense()),
            };
            if patience.wait == Wait::No {
                return Err(leased.refusal(&self.given));
            }
            patience.tell_waiting_for(Path::new(&self.name), Some(&format!("leased by {leased}")));
            let Some(pause) = pauses.next(&patience) else {
                let waited = shown_duration(patience.limit().unwrap_or_default());
                return Err(leased.refusal(&self.given).with_hint(format!("waited {waited} for its end")));
            };
            let mut pause = pause.min(leased.left.max(FIRST_PAUSE));
            while !pause.is_zero() {
                if !patience.goes_on(Path::new(&self.name)) {
                    return Err(patience.given_up());
                }
                let slice = pause.min(SLICE);
                sleep(slice);
                pause -= slice;
            }
        }
    }

    /// Extends the lease that `claim` says, by `ttl` or by its last time, if the answer comes within `limit`.
    pub(super) fn refresh(
        &self,
        claim: &Claim,
        ttl: Option<Duration>,
        options: &LockOptions,
        limit: Duration,
    ) -> Result<Had> {
        ttl.map_or(Ok(()), ensure_ttl)?;
        check_reason_of(options)?;
        let timeout = limit.min(TIMEOUT);
        let question = self
            .claimed("refresh", claim, timeout)
            .with_some("ttl_ms", ttl.map(milliseconds).as_deref())
            .with_some("reason", options.reason.as_deref());
        let (answer, sent) = self.ask(&question, timeout).map_err(|e| e.during("cannot refresh the lease"))?;
        match answer.said {
            Said::Ok => self.had(&answer, sent, ttl),
            Said::Lost => Err(self.lost(claim, &answer, sent)),
            _ => Err(self.nonsense()),
        }
    }

    /// Gives back the lease that `claim` says, if the answer comes within `limit`.
    pub(super) fn release(&self, claim: &Claim, limit: Duration) -> Result<()> {
        let timeout = limit.min(TIMEOUT);
        let question = self.claimed("release", claim, timeout);
        let (answer, sent) = self.ask(&question, timeout).map_err(|e| e.during("cannot give the lease back"))?;
        match answer.said {
            Said::Ok => Ok(()),
            Said::Lost => Err(self.lost(claim, &answer, sent)),
            _ => Err(self.nonsense()),
        }
    }

    fn claimed(&self, request: &str, claim: &Claim, timeout: Duration) -> Question {
        let token = claim.token().map(|token| token.to_string());
        self.question(request, timeout).with("owner", claim.owner()).with_some("token", token.as_deref())
    }

    /// Ends it, whoever has it, and returns who had.
    pub(super) fn break_any(&self) -> Result<Option<Holding>> {
        let question = self.question("break", TIMEOUT);
        let (answer, sent) = self.ask(&question, TIMEOUT).map_err(|e| e.during("cannot break the lease"))?;
        match answer.said {
            Said::Ok => Ok(Holding::of(&answer, sent)),
            _ => Err(self.nonsense()),
        }
    }

    /// Who has it, if anybody, and if the answer comes within `limit`.
    pub(super) fn status(&self, limit: Duration) -> Result<Option<Holding>> {
        let timeout = limit.min(TIMEOUT);
        let question = self.question("status", timeout);
        let (answer, sent) = self.ask(&question, timeout).map_err(|e| e.during("cannot ask the store of the lease"))?;
        match (answer.said, Holding::of(&answer, sent)) {
            (Said::Ok, _) => Ok(None),
            (Said::Held, Some(held)) => Ok(Some(held)),
            _ => Err(self.nonsense()),
        }
    }

    /// Makes sure that the lease is the one that is claimed, and that its time is not over here.
    pub(super) fn ensure_had(&self, claim: &Claim) -> Result<Holding> {
        let held = self.status(TIMEOUT)?;
        let is_it =
            |held: &Holding| held.owner == claim.owner() && claim.token().is_none_or(|token| held.token == token);
        match held {
            Some(held) if is_it(&held) => match boot_clock() < held.ends {
                true => Ok(held),
                false => Err(self.over(claim.owner())),
            },
            held => Err(self.taken(claim, held.as_ref())),
        }
    }

    /// The error of a lease whose time is over by this host's clock.
    pub(super) fn over(&self, owner: &str) -> Error {
        Error::new(ErrorKind::LockLost, format!("The time of {owner}'s lease is over here"))
            .on(&self.given)
            .with_hint(AGAIN)
    }

    fn lost(&self, claim: &Claim, answer: &Answer, sent: Duration) -> Error {
        self.taken(claim, Holding::of(answer, sent).as_ref())
    }

    fn taken(&self, claim: &Claim, held: Option<&Holding>) -> Error {
        let why = match (held, claim.token()) {
            (None, _) => format!("Not leased by {} (any more)", claim.owner()),
            (Some(held), Some(token)) if held.owner == claim.owner() => {
                format!("The lease with token {token} is over: {} has token {} now", held.owner, held.token)
            }
            (Some(held), _) => {
                let leased = Leased::new(held.owner.clone(), held.left, held.reason.clone());
                format!("Leased by {leased}")
            }
        };
        Error::new(ErrorKind::LockLost, why).on(&self.given).with_hint(AGAIN)
    }
}

/// All leases of a store, with their names.
pub(super) fn list(url: &str) -> Result<Vec<(PathBuf, Holding)>> {
    let client = Client::new(url)?;
    let said = |e: Error| e.on(url).during("cannot list the leases of the store");
    let Answered { answers, sent } = client.ask(&Question::new("list", TIMEOUT), TIMEOUT, true).map_err(said)?;
    let mut all = Vec::with_capacity(answers.len());
    for answer in answers {
        match (answer.said, &answer.name, &answer.message, Holding::of(&answer, sent)) {
            (Said::Held, Some(name), _, Some(held)) => all.push((name.clone(), held)),
            (Said::Ok, ..) => {}
            (Said::Error, _, Some(message), _) => return Err(said(refused_by_store(message))),
            _ => {
                return Err(said(
                    Error::new(ErrorKind::Store, "a lease in the answer has no name, or is lost")
                        .with_hint("awrite-store(7) has what a helper may answer"),
                ));
            }
        }
    }
    Ok(all)
}

/// The cause, and behind the first full stop the remedy.
fn refused_by_store(message: &str) -> Error {
    match message.split_once(". ") {
        Some((cause, remedy)) => Error::new(ErrorKind::Store, cause).with_hint(remedy.trim_end_matches('.')),
        None => Error::new(ErrorKind::Store, message.trim_end_matches('.')),
    }
}

/// Rounded up: a lease of less than a millisecond is a lease, too.
fn milliseconds(time: Duration) -> String {
    time.as_nanos().div_ceil(1_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_remedy_behind_the_first_stop() {
        for (message, reason, hint) in [
            ("full. Make room.", "full", Some("Make room")),
            ("full. Make room. Soon.", "full", Some("Make room. Soon")),
            ("full.", "full", None),
            ("f.txt full", "f.txt full", None),
        ] {
            let error = refused_by_store(message);
            assert_eq!((error.reason(), error.hint()), (reason.to_owned(), hint.map(str::to_owned)), "{message}");
        }
    }

    #[test]
    fn less_than_a_millisecond_is_one() {
        for (time, text) in [(1, "1"), (1_000_000, "1"), (1_000_001, "2"), (1_500_000_000, "1500")] {
            assert_eq!(milliseconds(Duration::from_nanos(time)), text);
        }
    }
}
