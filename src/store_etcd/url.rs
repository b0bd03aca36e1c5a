//! `etcd://HOST:PORT,…/PREFIX`: where etcd is, and where in it the leases are.

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// `etcds`.
    pub(crate) is_tls: bool,
    /// `http://HOST:PORT` or `https://HOST:PORT`, at least one.
    pub(crate) endpoints: Vec<String>,
    /// What the keys begin with, without the slash behind it.
    pub(crate) prefix: String,
}

/// The port at which etcd serves its clients (IANA).
const PORT: &str = "2379";

impl Place {
    /// An error is a message for a person.
    pub(crate) fn parse(url: &str) -> Result<Place, String> {
        let wrong = |what: &str| format!("{url}: {what}. The form is etcd://HOST:PORT[,HOST:PORT...]/PREFIX.");
        let (is_tls, rest) = match url.split_once("://") {
            Some(("etcd", rest)) => (false, rest),
            Some(("etcds", rest)) => (true, rest),
            _ => return Err(wrong("the URL begins neither with etcd:// nor with etcds://")),
        };
        if url.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(wrong("a space or control character stands in the URL"));
        }
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') {
            // Not shown: there may be a password in it.
            return Err("The URL has a user in it, where everybody can read the password. Set ETCDCTL_USER to \
                        name:password instead."
                .to_owned());
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return Err(wrong("there is no PREFIX, which keeps the leases apart from other data"));
        }
        if prefix.contains(['?', '#', '%']) {
            return Err(wrong("PREFIX has one of ? # % in it"));
        }
        let scheme = if is_tls { "https" } else { "http" };
        let endpoint = |host: &str| match authority(host) {
            Some(authority) => Ok(format!("{scheme}://{authority}")),
            None => Err(wrong(&format!("\"{host}\" is no HOST:PORT; an IPv6 address needs brackets, [::1]:{PORT}"))),
        };
        let endpoints = hosts.split(',').map(endpoint).collect::<Result<_, _>>()?;
        Ok(Place { is_tls, endpoints, prefix: prefix.to_owned() })
    }
}

/// `HOST:PORT` with the port that is meant; `None` if it is none.
fn authority(text: &str) -> Option<String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (format!("[{address}]"), port.strip_prefix(':').or(port.is_empty().then_some(PORT))?)
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, PORT));
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            (!host.is_empty() && host.chars().all(is_name)).then(|| (host.to_owned(), port))?
        }
    };
    let number: u16 = port.parse().ok().filter(|_| port.bytes().all(|digit| digit.is_ascii_digit()))?;
    (number > 0).then(|| format!("{host}:{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant() {
        for (url, endpoints, prefix) in [
            ("etcd://127.0.0.1:2379/p", &["http://127.0.0.1:2379"][..], "p"),
            ("etcd://a/p/q/", &["http://a:2379"], "p/q"),
            ("etcds://a:1,b.example.org:2,c/p", &["https://a:1", "https://b.example.org:2", "https://c:2379"], "p"),
            ("etcd://[::1]:77,[fe80::1]/p", &["http://[::1]:77", "http://[fe80::1]:2379"], "p"),
            ("etcd://a//locks", &["http://a:2379"], "/locks"),
        ] {
            let place = Place::parse(url).unwrap();
            assert_eq!((place.endpoints.as_slice(), place.prefix.as_str()), (&endpoints.map_to_strings()[..], prefix));
            assert_eq!(place.is_tls, url.starts_with("etcds:"));
        }
    }

    trait MapToStrings {
        fn map_to_strings(&self) -> Vec<String>;
    }

    impl MapToStrings for &[&str] {
        fn map_to_strings(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, said) in [
            ("", "neither"),
            ("http://a/p", "neither"),
            ("etcd:a/p", "neither"),
            ("etcd:///p", "is no HOST:PORT"),
            ("etcd://a", "no PREFIX"),
            ("etcd://a/", "no PREFIX"),
            ("etcd://a//", "no PREFIX"),
            ("etcd://a,/p", "\"\" is no HOST:PORT"),
            ("etcd://a:0/p", "is no HOST:PORT"),
            ("etcd://a:+1/p", "is no HOST:PORT"),
            ("etcd://a:65536/p", "is no HOST:PORT"),
            ("etcd://a:/p", "is no HOST:PORT"),
            ("etcd://::1/p", "needs brackets"),
            ("etcd://[::1/p", "is no HOST:PORT"),
            ("etcd://[x]:1/p", "is no HOST:PORT"),
            ("etcd://[::1]1/p", "is no HOST:PORT"),
            ("etcd://a/p?x", "one of ? # %"),
            ("etcd://a/p q", "a space"),
        ] {
            let error = Place::parse(url).unwrap_err();
            assert!(error.contains(said), "{url}: {error}");
        }
        let error = Place::parse("etcd://root:secret@a/p").unwrap_err();
        assert!(error.contains("ETCDCTL_USER") && !error.contains("secret"), "{error}");
    }
}
