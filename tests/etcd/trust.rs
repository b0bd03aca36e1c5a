//! TLS with certificates of an authority of the test's own, users and passwords.

use std::path::Path;

use crate::cluster::{Cluster, Secrets, address, needs_etcd, test_dir};
use crate::common::{TestDir, needs, wait_until};
use crate::helper::{Helper, Said};

/// Makes an authority (`ca.crt`), another one that nobody knows (`other-ca.crt`), a certificate for the address of the
/// servers and one for another name, and one for clients.
fn make_certificates(dir: &TestDir) {
    let script = r#"
        new() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "$@"; }
        for name in ca other-ca; do
            new -subj "/CN=$name" -keyout $name.key -out $name.crt
        done
        for name in server elsewhere client other-client; do
            ca=ca; [ $name != other-client ] || ca=other-ca
            host="IP:$ADDRESS"; [ $name != elsewhere ] || host=DNS:elsewhere.example
            new -subj "/CN=$name" -addext "subjectAltName=$host" -addext basicConstraints=critical,CA:FALSE \
                -CA $ca.crt -CAkey $ca.key -keyout $name.key -out $name.crt
        done"#;
    let done = dir.sh(&format!("set -e; exec 2>&1; {script}")).env("ADDRESS", address()).run();
    assert_eq!(done.code, Some(0), "{}", done.stdout);
}

fn variables(dir: &Path, pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let value = |name: &str, text: &str| match name {
        "USER" | "PASSWORD" => text.to_owned(),
        _ => dir.join(text).to_str().unwrap().to_owned(),
    };
    pairs.iter().map(|(name, text)| (format!("ETCDCTL_{name}"), value(name, text))).collect()
}

fn secrets(dir: &TestDir, server: &str, more: &[&str], client: &[(&str, &str)]) -> Secrets {
    let mut args = vec![format!("--cert-file={server}.crt"), format!("--key-file={server}.key")];
    args.extend(more.iter().map(|word| (*word).to_owned()));
    Secrets { server: args, client: variables(dir.path(), client) }
}

/// What is answered to `status` with these variables.
fn status(dir: &TestDir, url: &str, pairs: &[(&str, &str)]) -> Said {
    Helper::start_with(dir, url, &variables(dir.path(), pairs)).ask("status", &["name=x", "timeout_ms=2000"])
}

#[test]
fn a_server_is_trusted_for_its_certificate_only() {
    if !needs_etcd() || !needs("openssl") {
        return;
    }
    let dir = test_dir();
    make_certificates(&dir);
    let etcd = Cluster::start_with(&dir, 1, secrets(&dir, "server", &[], &[("CACERT", "ca.crt")]));
    let url = etcd.url("p");
    assert_eq!(etcd.helper("p").acquire("x", "o", 60_000).word(), "ok");

    let ask = |pairs: &[(&str, &str)]| status(&dir, &url, pairs);
    assert_eq!(ask(&[("CACERT", "ca.crt")]).word(), "held");
    ask(&[]).is_error(&["https://", "signed by no authority that this system trusts", "in ETCDCTL_CACERT."]);
    ask(&[("CACERT", "other-ca.crt")]).is_error(&["not signed by the authority in ETCDCTL_CACERT"]);
    ask(&[("CACERT", "none.crt")]).is_error(&["none.crt: No such file", "ETCDCTL_CACERT"]);
    ask(&[("CACERT", "ca.key")]).is_error(&["ca.key: there is no certificate", "ETCDCTL_CACERT"]);
    ask(&[("CACERT", "ca.crt"), ("CERT", "client.crt")]).is_error(&["ETCDCTL_CERT is set without ETCDCTL_KEY"]);
    ask(&[("CACERT", "ca.crt"), ("KEY", "client.key")]).is_error(&["ETCDCTL_KEY is set without ETCDCTL_CERT"]);
    let both = [("CACERT", "ca.crt"), ("CERT", "client.crt"), ("KEY", "client.crt")];
    ask(&both).is_error(&["client.crt: there is no private key", "ETCDCTL_KEY"]);
    // Without certificates where they are wanted, and the other way round.
    let plain = url.replace("etcds:", "etcd:");
    status(&dir, &plain, &[]).is_error(&["http://", "it hangs up", "etcds://"]);
    drop(etcd);
    let etcd = Cluster::start(&dir, 1);
    let url = etcd.url("p").replace("etcd:", "etcds:");
    status(&dir, &url, &[("CACERT", "ca.crt")]).is_error(&["https://", "it hangs up", "etcd://"]);
}

#[test]
fn a_certificate_for_another_name_is_none() {
    if !needs_etcd() || !needs("openssl") {
        return;
    }
    let dir = test_dir();
    make_certificates(&dir);
    // Its own client is told not to look.
    let mut secrets = secrets(&dir, "elsewhere", &[], &[]);
    secrets.client.push(("ETCDCTL_INSECURE_SKIP_TLS_VERIFY".to_owned(), "true".to_owned()));
    let etcd = Cluster::start_with(&dir, 1, secrets);
    let said = status(&dir, &etcd.url("p"), &[("CACERT", "ca.crt")]);
    said.is_error(&["its certificate is for another host", "Write one of the names"]);
}

#[test]
fn a_server_may_want_certificates_of_its_clients() {
    if !needs_etcd() || !needs("openssl") {
        return;
    }
    let dir = test_dir();
    make_certificates(&dir);
    let client = [("CACERT", "ca.crt"), ("CERT", "client.crt"), ("KEY", "client.key")];
    let wants = ["--client-cert-auth", "--trusted-ca-file=ca.crt"];
    let etcd = Cluster::start_with(&dir, 1, secrets(&dir, "server", &wants, &client));
    let url = etcd.url("p");
    assert_eq!(status(&dir, &url, &client).word(), "ok");
    // Whether what it says arrives before it hangs up is open.
    status(&dir, &url, &client[..1]).is_error(&["https://", "in ETCDCTL_CERT and ETCDCTL_KEY"]);
    let other = [("CACERT", "ca.crt"), ("CERT", "other-client.crt"), ("KEY", "other-client.key")];
    status(&dir, &url, &other).is_error(&["https://", "in ETCDCTL_CERT"]);
}

#[test]
fn a_user_needs_a_password_and_a_role() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let mut etcd = Cluster::start(&dir, 1);
    let done = etcd.etcdctl(
        "user add root:secret && etcdctl user grant-role root root && etcdctl role add r &&
        etcdctl role grant-permission r --prefix=true readwrite p/ && etcdctl user add jobs:pass:word &&
        etcdctl user grant-role jobs r && etcdctl auth enable",
    );
    assert!(done.contains("Authentication Enabled"), "{done}");
    let url = etcd.url("p");
    let ask = |pairs: &[(&str, &str)]| status(&dir, &url, pairs);
    ask(&[]).is_error(&["etcd wants to know who asks. Set ETCDCTL_USER"]);
    ask(&[("USER", "jobs")]).is_error(&["ETCDCTL_USER has no password", "ETCDCTL_PASSWORD"]);
    ask(&[("USER", "jobs:wrong")]).is_error(&["does not know user \"jobs\" with this password", "ETCDCTL_USER"]);
    ask(&[("USER", "nobody:x")]).is_error(&["does not know user \"nobody\""]);
    assert_eq!(ask(&[("USER", "jobs"), ("PASSWORD", "pass:word")]).word(), "ok");
    for said in [ask(&[("USER", "jobs:wrong")]), ask(&[("USER", "jobs"), ("PASSWORD", "guess")])] {
        assert!(!format!("{said:?}").contains("guess") && !format!("{said:?}").contains("wrong"), "{said:?}");
    }

    let jobs = variables(dir.path(), &[("USER", "jobs:pass:word")]);
    let mut helper = Helper::start_with(&dir, &url, &jobs);
    let token = helper.acquire("job", "a", 60_000).token();
    assert_eq!(helper.ask("refresh", &["name=job", "owner=a"]).token(), token);
    assert_eq!(helper.list().len(), 1);
    for (verb, lines) in
        [("acquire", &["name=job", "owner=a", "ttl_ms=60000"][..]), ("status", &["name=job"]), ("list", &[])]
    {
        let said = Helper::start_with(&dir, &etcd.url("other"), &jobs).ask(verb, lines);
        said.is_error(&["does not let user \"jobs\" do this", "role grant-permission"]);
    }

    // The token of authentication goes with the server that gave it; the helper gets another one.
    etcd.kill(0);
    etcd.start_member(0);
    let mut said = helper.ask("refresh", &["name=job", "owner=a"]);
    wait_until("etcd serves again", || {
        let is_served = !said.value("message").contains("connection refused");
        if !is_served {
            said = helper.ask("refresh", &["name=job", "owner=a"]);
        }
        is_served
    });
    assert_eq!(said.token(), token);
}

#[test]
fn a_user_where_there_are_none_is_no_error() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    assert_eq!(status(&dir, &etcd.url("p"), &[("USER", "a:b")]).word(), "ok");
}
