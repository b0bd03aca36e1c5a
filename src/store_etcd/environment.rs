//! What etcdctl's variables say: who asks, and which certificates count.

use std::env;
use std::fs;
use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Who asks, and how it is known that etcd answers.
pub(crate) struct Environment {
    pub(crate) user: Option<User>,
    /// `None` without TLS.
    pub(crate) tls: Option<TlsConfig>,
}

/// A user of etcd's.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// Where systems keep the certificates of the authorities that they trust.
const BUNDLES: [&str; 5] = [
    // Debian, Alpine, Arch
    "/etc/ssl/certs/ca-certificates.crt",
    // Red Hat
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    // SUSE
    "/etc/ssl/ca-bundle.pem",
    // the BSDs, macOS
    "/etc/ssl/cert.pem",
];

impl Environment {
    /// An error is a message for a person.
    pub(crate) fn read(is_tls: bool) -> Result<Environment, String> {
        let user = variable("ETCDCTL_USER").map(|user| User::new(user, variable("ETCDCTL_PASSWORD"))).transpose()?;
        let tls = if is_tls { Some(tls()?) } else { None };
        Ok(Environment { user, tls })
    }
}

impl User {
    /// As etcdctl reads it: with a password of its own, the whole text is the name.
    fn new(user: String, password: Option<String>) -> Result<User, String> {
        if let Some(password) = password {
            return Ok(User { name: user, password });
        }
        match user.split_once(':') {
            Some((name, password)) => Ok(User { name: name.to_owned(), password: password.to_owned() }),
            None => {
                Err("ETCDCTL_USER has no password in it. Set it to name:password, or set ETCDCTL_PASSWORD too."
                    .to_owned())
            }
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn tls() -> Result<TlsConfig, String> {
    let skips = variable("ETCDCTL_INSECURE_SKIP_TLS_VERIFY").is_some_and(|value| matches!(&*value, "1" | "true"));
    let roots = match variable("ETCDCTL_CACERT") {
        Some(path) => certificates("ETCDCTL_CACERT", &path)?,
        None if skips => Vec::new(),
        None => {
            let bundle = BUNDLES.into_iter().find(|path| fs::metadata(path).is_ok());
            let bundle = variable("SSL_CERT_FILE").or(bundle.map(str::to_owned)).ok_or_else(|| {
                "No certificates of authorities are installed here. Name etcd's authority in ETCDCTL_CACERT.".to_owned()
            })?;
            certificates("SSL_CERT_FILE", &bundle)?
        }
    };
    let client = match (variable("ETCDCTL_CERT"), variable("ETCDCTL_KEY")) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            Some(ClientCert::new_with_certs(&certificates("ETCDCTL_CERT", &cert)?, private_key(&key)?))
        }
        (Some(_), None) => return Err("ETCDCTL_CERT is set without ETCDCTL_KEY: set both or neither.".to_owned()),
        (None, Some(_)) => return Err("ETCDCTL_KEY is set without ETCDCTL_CERT: set both or neither.".to_owned()),
    };
    let config = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::from(roots))
        .client_cert(client)
        .disable_verification(skips);
    Ok(config.build())
}

/// What stands in a PEM file; an error says which variable names it.
fn items(variable: &str, path: &str) -> Result<Vec<PemItem<'static>>, String> {
    let bytes = fs::read(path).map_err(|error| {
        let text = error.to_string();
        format!("{path}: {}. {variable} names this file.", text.split(" (os error").next().unwrap_or_default())
    })?;
    parse_pem(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{path}: this is no PEM file (-----BEGIN ...), which {variable} must name."))
}

fn certificates(variable: &str, path: &str) -> Result<Vec<Certificate<'static>>, String> {
    let is_one = |item| if let PemItem::Certificate(certificate) = item { Some(certificate) } else { None };
    let found: Vec<_> = items(variable, path)?.into_iter().filter_map(is_one).collect();
    if found.is_empty() {
        return Err(format!("{path}: there is no certificate in this file, which {variable} names."));
    }
    Ok(found)
}

fn private_key(path: &str) -> Result<PrivateKey<'static>, String> {
    let is_one = |item| if let PemItem::PrivateKey(key) = item { Some(key) } else { None };
    items("ETCDCTL_KEY", path)?.into_iter().find_map(is_one).ok_or_else(|| {
        format!("{path}: there is no private key without a passphrase in this file, which ETCDCTL_KEY names.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_as_etcdctl_reads_them() {
        let user = |text: &str, password: Option<&str>| {
            User::new(text.to_owned(), password.map(str::to_owned)).map(|user| (user.name, user.password))
        };
        let pair = |name: &str, password: &str| Ok((name.to_owned(), password.to_owned()));
        assert_eq!(user("a:b", None), pair("a", "b"));
        assert_eq!(user("a:b:c", None), pair("a", "b:c"));
        assert_eq!(user("a:b", Some("c")), pair("a:b", "c"));
        assert_eq!(user("a:", None), pair("a", ""));
        assert!(user("a", None).unwrap_err().contains("ETCDCTL_PASSWORD"));
    }

    #[test]
    fn a_file_that_will_not_do_is_named_with_its_variable() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("text"), "hello\n").unwrap();
        fs::write(path("broken"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
        for (name, said) in [("none", "No such file"), ("text", "no certificate"), ("broken", "no PEM file")] {
            let error = certificates("ETCDCTL_CACERT", &path(name)).unwrap_err();
            assert!(error.starts_with(&path(name)) && error.contains(said), "{error}");
            assert!(error.contains("ETCDCTL_CACERT") && !error.contains("os error"), "{error}");
        }
        assert!(private_key(&path("text")).unwrap_err().contains("ETCDCTL_KEY"));
    }
}
