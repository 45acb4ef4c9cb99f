//! What the profile `prod` refuses although each setting is well by itself.

use std::collections::BTreeSet;
use std::iter;
use std::net::IpAddr;

use maxscale_core::config::{Config, Explanation, Profile};

use super::Settings;

/// Explains everything that is insecure in `prod`; nothing is in `dev`.
pub fn insecure(config: &Config, settings: &Settings) -> Vec<Explanation> {
    if settings.profile == Profile::Dev {
        return Vec::new();
    }
    let found = [
        plain_cookies(config, settings),
        unchosen_folder(config, settings),
        guessable_secret(config, settings),
    ];
    let databases = unsaid_tls(config, settings);
    found.into_iter().flatten().chain(databases).collect()
}

fn plain_cookies(config: &Config, settings: &Settings) -> Option<Explanation> {
    (!settings.tls()).then(|| {
        config.explain(
            "http.public_url",
            "sessions would travel in the clear in prod",
            "the URL that clients use is not https, so cookies would not be Secure",
            "put a proxy that ends TLS in front, and set the https URL that it serves",
        )
    })
}

/// A folder that depends on where the process was started is found by luck.
fn unchosen_folder(config: &Config, settings: &Settings) -> Option<Explanation> {
    let (what, instead) = if settings.nodes.is_none() {
        ("shards.nodes is unset, so the databases", "shards.nodes")
    } else {
        ("objects.url is unset, so the uploads", "objects.url")
    };
    let needed = settings.nodes.is_none() || !config.is_configured("objects.url");
    (needed && !config.is_configured("data.dir")).then(|| {
        config.explain(
            "data.dir",
            "nobody has chosen where data lies in prod",
            &format!("{what} would lie in a folder below the working directory"),
            &format!("set data.dir to a folder that is kept, or set {instead}"),
        )
    })
}

/// Fewer different characters than a random text of hex digits has.
const LEAST_CHARACTERS: usize = 10;

fn guessable_secret(config: &Config, settings: &Settings) -> Option<Explanation> {
    let characters: BTreeSet<char> = settings.secret.as_ref()?.expose().chars().collect();
    (characters.len() < LEAST_CHARACTERS).then(|| {
        config.explain(
            "keys.secret",
            "the signing key is too easy to guess for prod",
            &format!("it is made of fewer than {LEAST_CHARACTERS} different characters"),
            "draw a random one, for instance by openssl rand -hex 32",
        )
    })
}

/// Whether TLS is used must not depend on what the server happens to offer.
fn unsaid_tls(config: &Config, settings: &Settings) -> Vec<Explanation> {
    let nodes = settings.nodes.iter().flatten();
    let nodes = nodes.map(|entry| ("shards.nodes", entry));
    let replicas = settings.replicas.iter().flatten();
    let replicas = replicas.map(|entry| ("shards.replicas", entry));
    let catalog = settings.catalog.iter().map(|url| ("catalog.url", url));
    let unsaid: BTreeSet<&str> = nodes
        .chain(replicas)
        .chain(catalog)
        .filter(|(_, entry)| entry.split('|').any(is_remote_without_sslmode))
        .map(|(key, _)| key)
        .collect();
    unsaid
        .into_iter()
        .map(|key| {
            config.explain(
                key,
                "a database might be spoken to in the clear in prod",
                "the URL of a database on another host says nothing definite of sslmode",
                "end it with ?sslmode=verify-full, or with ?sslmode=disable where nobody else \
                 is on the network",
            )
        })
        .collect()
}

/// What leaves nothing to the server.
const DEFINITE: [&str; 4] = ["disable", "require", "verify-ca", "verify-full"];

/// Of an entry of nodes, or of a URL.
fn is_remote_without_sslmode(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let parameters = || query.split('&').filter_map(|text| text.split_once('='));
    let definite = parameters()
        .any(|(name, value)| matches!(name, "sslmode" | "ssl-mode") && DEFINITE.contains(&value));
    let authority = place.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let named = parameters().filter(|(name, _)| matches!(*name, "host" | "hostaddr"));
    let mut hosts = iter::once(host).chain(named.map(|(_, host)| host));
    !definite && hosts.any(is_remote) && !scheme.ends_with("sqlite")
}

/// Nothing and a path stand for a socket of this machine.
fn is_remote(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    let loopback = name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    !(loopback || name.is_empty() || name.starts_with('/') || name == "localhost")
}

#[cfg(test)]
mod tests {
    use super::is_remote_without_sslmode;

    #[test]
    fn host_of_another_machine_needs_a_definite_sslmode() {
        for unsaid in [
            "postgres://u:p@db/app",
            "eu=postgres://u:p@db:5432/app?application_name=x",
            "postgres://u:p@db/app?sslmode=prefer",
            "postgres://u:p@10.0.0.1/app?xsslmode=require",
            "postgres://u:p@localhost.example/app",
            "postgres:///app?host=db",
        ] {
            assert!(is_remote_without_sslmode(unsaid), "{unsaid}");
        }
        for said in [
            "postgres://u:p@db/app?sslmode=verify-full",
            "eu=postgres://u:p@db/app?application_name=x&sslmode=disable",
            "postgres://u:p@localhost/app",
            "postgres://u:p@127.0.0.1:5432/app",
            "postgres://u:p@[::1]/app",
            "postgres:///app?host=/run/postgresql",
            "sqlite://relative/a.db",
            "b=sqlite://a.db",
        ] {
            assert!(!is_remote_without_sslmode(said), "{said}");
        }
    }
}
