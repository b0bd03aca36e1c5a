//! Servers of etcd, one or three, that end with the test.

use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;

use crate::common::{Running, TestDir, needs, wait_until};
use crate::helper::Helper;

/// Whether etcd and its client are here. Old versions of the client want to be told which protocol to speak.
pub(crate) fn needs_etcd() -> bool {
    needs("etcd") && needs("etcdctl")
}

/// An address of this process's own: all of 127.0.0.0/8 is loopback, and ids of processes have 22 bits. So no other
/// process can take a port between the choice of it and its use.
pub(crate) fn address() -> String {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    format!("127.{}.{middle}.{low}", 64 + high)
}

/// A port that no other test of this process has.
pub(crate) fn new_place() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    format!("{}:{}", address(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What TLS adds to a server and to its clients.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    pub(crate) server: Vec<String>,
    /// Variables of clients.
    pub(crate) client: Vec<(String, String)>,
}

pub(crate) struct Member {
    /// HOST:PORT for clients.
    pub(crate) place: String,
    peer: String,
    server: Option<Running>,
}

/// Servers that keep one store, below the directory of a test.
pub(crate) struct Cluster<'a> {
    dir: &'a TestDir,
    pub(crate) members: Vec<Member>,
    secrets: Secrets,
}

impl<'a> Cluster<'a> {
    /// Starts so many servers, and waits until they serve.
    pub(crate) fn start(dir: &'a TestDir, count: usize) -> Cluster<'a> {
        Cluster::start_with(dir, count, Secrets::default())
    }

    pub(crate) fn start_with(dir: &'a TestDir, count: usize, secrets: Secrets) -> Cluster<'a> {
        let member = |_| Member { place: new_place(), peer: new_place(), server: None };
        let mut cluster = Cluster { dir, members: (0..count).map(member).collect(), secrets };
        for at in 0..count {
            cluster.start_member(at);
        }
        cluster.wait_until_it_serves();
        cluster
    }

    /// Starts a member, with the data that it has, if it has any.
    pub(crate) fn start_member(&mut self, at: usize) {
        let all: Vec<String> =
            self.members.iter().enumerate().map(|(at, other)| format!("n{at}=http://{}", other.peer)).collect();
        let scheme = if self.secrets.server.is_empty() { "http" } else { "https" };
        let Member { place, peer, .. } = &self.members[at];
        let mut args: Vec<String> = [
            "--name",
            &format!("n{at}"),
            "--data-dir",
            &format!("n{at}"),
            "--listen-client-urls",
            &format!("{scheme}://{place}"),
            "--advertise-client-urls",
            &format!("{scheme}://{place}"),
            "--listen-peer-urls",
            &format!("http://{peer}"),
            "--initial-advertise-peer-urls",
            &format!("http://{peer}"),
            "--initial-cluster",
            &all.join(","),
            "--logger=zap",
            "--log-level=error",
            // The cheapest hash of passwords: they need not be safe.
            "--bcrypt-cost=4",
        ]
        .map(str::to_owned)
        .to_vec();
        args.extend(self.secrets.server.iter().cloned());
        self.members[at].server = Some(self.dir.program("etcd", args).spawn());
    }

    fn wait_until_it_serves(&mut self) {
        let url = self.url("ready");
        let mut last = String::new();
        wait_until("etcd serves", || {
            for member in &mut self.members {
                let server = member.server.as_mut().unwrap();
                assert!(!server.has_ended(), "etcd has ended:\n{}\n{last}", server.stderr());
            }
            let said = Helper::start_with(self.dir, &url, &self.secrets.client).ask("status", &["name=x"]);
            last = format!("{said:?}");
            said.word() == "ok"
        });
    }

    /// Of all members.
    pub(crate) fn url(&self, prefix: &str) -> String {
        let places: Vec<&str> = self.members.iter().map(|member| member.place.as_str()).collect();
        let scheme = if self.secrets.server.is_empty() { "etcd" } else { "etcds" };
        format!("{scheme}://{}/{prefix}", places.join(","))
    }

    pub(crate) fn helper(&self, prefix: &str) -> Helper<'a> {
        Helper::start_with(self.dir, &self.url(prefix), &self.secrets.client)
    }

    pub(crate) fn signal(&self, at: usize, signal: Signal) {
        self.members[at].server.as_ref().unwrap().signal(signal);
    }

    /// Ends a member as a crash does.
    pub(crate) fn kill(&mut self, at: usize) {
        self.signal(at, Signal::KILL);
        let mut server = self.members[at].server.take().unwrap();
        wait_until("etcd has ended", || server.has_ended());
    }

    /// Waits until so many members serve.
    pub(crate) fn wait_for_members(&self, count: usize) {
        wait_until("all members serve", || {
            let serves =
                |at: &usize| self.etcdctl_at(*at, "get x --command-timeout=1s >/dev/null && echo yes") == "yes\n";
            (0..self.members.len()).filter(serves).count() >= count
        });
    }

    /// The member that leads; `None` while there is none.
    pub(crate) fn leader(&self) -> Option<usize> {
        (0..self.members.len()).find(|at| {
            if self.members[*at].server.is_none() {
                return false;
            }
            let status = self.etcdctl_at(*at, "endpoint status --write-out=json --command-timeout=1s");
            let number = |key: &str| {
                let rest = status.split_once(&format!("\"{key}\":"))?.1;
                Some(rest[..rest.find(|c: char| !c.is_ascii_digit())?].to_owned())
            };
            number("leader").is_some_and(|leader| number("member_id") == Some(leader))
        })
    }

    /// What etcdctl says.
    pub(crate) fn etcdctl(&self, words: &str) -> String {
        self.etcdctl_at(0, words)
    }

    fn etcdctl_at(&self, at: usize, words: &str) -> String {
        let scheme = if self.secrets.server.is_empty() { "http" } else { "https" };
        let mut run = self
            .dir
            .sh(&format!("etcdctl {words}"))
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", format!("{scheme}://{}", self.members[at].place));
        for (name, value) in &self.secrets.client {
            run = run.env(name, value);
        }
        run.run().stdout
    }

    /// How many leases of etcd's there are.
    pub(crate) fn granted(&self) -> usize {
        self.etcdctl("lease list").lines().count() - 1
    }
}
