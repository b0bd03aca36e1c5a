//! Two hosts with a cable between them that can be pulled: network namespaces, with nothing else in them.

use std::fs;
use std::process::{Command, Stdio};

use crate::common::{Running, TestDir, needs, needs_root, wait_until};

/// Whether such a network can be made here.
pub(crate) fn needs_network() -> bool {
    needs_root() && needs("ip") && needs("unshare") && needs("nsenter")
}

/// The address of the host that serves.
pub(crate) const SERVER: &str = "192.0.2.1";
/// The address of the other host. Both are for documentation (RFC 5737): no network has them.
const CLIENT: &str = "192.0.2.2";

pub(crate) struct Network {
    server: Running,
    client: Running,
}

/// A process in a new network namespace, which keeps it.
fn namespace(dir: &TestDir) -> Running {
    let keeper = dir.program("unshare", ["--net", "sleep", "600"]).spawn();
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let path = format!("/proc/{}/ns/net", keeper.id());
    wait_until("it has a network of its own", || fs::read_link(&path).is_ok_and(|its| its != own));
    keeper
}

/// The words before a program that run it where `keeper` is.
fn inside(keeper: &Running) -> Vec<String> {
    let path = format!("--net=/proc/{}/ns/net", keeper.id());
    vec!["nsenter".to_owned(), path]
}

fn ip(keeper: &Running, commands: &str) {
    let words = inside(keeper);
    let done = Command::new(&words[0]).args(&words[1..]).args(["ip", "-batch", "-"]).stdin(Stdio::piped()).spawn();
    let mut child = done.unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ip: {commands}");
}

impl Network {
    pub(crate) fn new(dir: &TestDir) -> Network {
        let (server, client) = (namespace(dir), namespace(dir));
        let peer = client.id();
        ip(
            &server,
            &format!(
                "link set lo up\nlink add cable type veth peer name cable netns {peer}\n\
                 addr add {SERVER}/24 dev cable\nlink set cable up\n"
            ),
        );
        ip(&client, &format!("link set lo up\naddr add {CLIENT}/24 dev cable\nlink set cable up\n"));
        Network { server, client }
    }

    /// The words before a program that run it on the host that serves.
    pub(crate) fn at_server(&self) -> Vec<String> {
        inside(&self.server)
    }

    /// The words before a program that run it on the other host.
    pub(crate) fn at_client(&self) -> Vec<String> {
        inside(&self.client)
    }

    /// Pulls the cable, or plugs it in again.
    pub(crate) fn connect(&self, is_on: bool) {
        ip(&self.server, if is_on { "link set cable up\n" } else { "link set cable down\n" });
    }
}
