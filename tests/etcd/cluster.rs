//! Servers of etcd, one or three, that end with the test.

use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;

use crate::common::{Running, TestDir, needs, wait_until};
use crate::helper::Helper;

/// Whether etcd and its client are here. Old versions of the client want to be told which protocol to speak.
pub(crate) fn needs_etcd() -> bool {
    needs("etcd") && needs("etcdctl")
}

/// A directory for servers: in memory where there is room, for they sync every write, and that they do is not tested here.
pub(crate) fn test_dir() -> TestDir {
    // Each server sets 128 MB aside for its log.
    const ENOUGH: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let has_room = rustix::fs::statvfs(memory).is_ok_and(|of| of.f_bavail.saturating_mul(of.f_frsize) > ENOUGH);
    if has_room { TestDir::made_in(memory) } else { TestDir::new() }
}

/// An address of this process's own: all of 127.0.0.0/8 is loopback, and ids of processes have 22 bits. So no other
/// process can take a port between the choice of it and its use.
pub(crate) fn address() -> String {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    format!("127.{}.{middle}.{low}", 64 + high)
}

/// An address with a port that no other test of this process has.
pub(crate) fn new_place() -> String {
    place_at(&address())
}

fn place_at(address: &str) -> String {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    format!("{address}:{}", NEXT.fetch_add(1, Ordering::Relaxed))
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
    /// The words before a program that run it where the servers are.
    inside: Vec<String>,
}

impl<'a> Cluster<'a> {
    /// Starts so many servers, and waits until they serve.
    pub(crate) fn start(dir: &'a TestDir, count: usize) -> Cluster<'a> {
        Cluster::start_with(dir, count, Secrets::default())
    }

    pub(crate) fn start_with(dir: &'a TestDir, count: usize, secrets: Secrets) -> Cluster<'a> {
        Cluster::start_inside(dir, count, secrets, &address(), Vec::new())
    }

    /// One server in another network namespace, which has this address.
    pub(crate) fn start_there(dir: &'a TestDir, address: &str, inside: Vec<String>) -> Cluster<'a> {
        Cluster::start_inside(dir, 1, Secrets::default(), address, inside)
    }

    fn start_inside(
        dir: &'a TestDir,
        count: usize,
        secrets: Secrets,
        address: &str,
        inside: Vec<String>,
    ) -> Cluster<'a> {
        let member = |_| Member { place: place_at(address), peer: place_at(address), server: None };
        let mut cluster = Cluster { dir, members: (0..count).map(member).collect(), secrets, inside };
        for at in 0..count {
            cluster.start_member(at);
        }
        cluster.wait_for_members(count);
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
        let words: Vec<String> = self.inside.iter().cloned().chain(["etcd".to_owned()]).chain(args).collect();
        self.members[at].server = Some(self.dir.program(&words[0], &words[1..]).spawn());
    }

    /// Of all members.
    pub(crate) fn url(&self, prefix: &str) -> String {
        let places: Vec<&str> = self.members.iter().map(|member| member.place.as_str()).collect();
        self.url_of(&places, prefix)
    }

    fn url_of(&self, places: &[&str], prefix: &str) -> String {
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
    pub(crate) fn wait_for_members(&mut self, count: usize) {
        wait_until("all members serve", || {
            for server in self.members.iter_mut().filter_map(|member| member.server.as_mut()) {
                assert!(!server.has_ended(), "etcd has ended:\n{}", server.stderr());
            }
            (0..self.members.len()).filter(|at| self.serves(*at)).count() >= count
        });
    }

    fn serves(&self, at: usize) -> bool {
        if !self.inside.is_empty() {
            return self.etcdctl_at(at, "get x --command-timeout=1s && echo yes") == "yes\n";
        }
        let url = self.url_of(&[&self.members[at].place], "ready");
        let mut helper = Helper::start_with(self.dir, &url, &self.secrets.client);
        helper.ask("status", &["name=x", "timeout_ms=1000"]).word() == "ok"
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
            .sh(&format!("{} etcdctl {words}", self.inside.join(" ")))
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
