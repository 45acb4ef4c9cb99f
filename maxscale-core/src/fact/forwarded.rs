//! Who is behind a proxy, as far as proxies can be believed.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use super::{ClientIp, Networks};

/// The header in which the proxies in front name whom they speak for. The other one
/// is not looked at: it may come from the client, through proxies that leave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third one in use")]
pub enum ForwardedBy {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
}

/// Longer chains are somebody's invention.
const HOPS: usize = 16;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

// === impl ClientIp ===

impl ClientIp {
    /// The client of a request that came from `peer`: itself, unless it is a proxy
    /// that is `trusted`.
    ///
    /// Each proxy adds whom it heard from at the end, so the list is read from
    /// there: the first address that is no trusted proxy is the client, whatever it
    /// wrote before that. Where a proxy names none, or something that is no address,
    /// the proxy is the client; of a chain that is too long too.
    pub fn behind(peer: IpAddr, headers: &HeaderMap, by: ForwardedBy, trusted: &Networks) -> Self {
        let mut client = peer.to_canonical();
        let name = match by {
            ForwardedBy::XForwardedFor => X_FORWARDED_FOR,
            ForwardedBy::Forwarded => FORWARDED,
        };
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        let lines = lines.into_iter().rev();
        // Only what a proxy wrote itself has to be text: the client wrote the rest.
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let entries = entries.map(|entry| str::from_utf8(entry).unwrap_or("?"));
        for entry in entries.take(HOPS) {
            if !trusted.contains(client) {
                break;
            }
            let entry = match by {
                ForwardedBy::XForwardedFor => Some(entry.trim()),
                ForwardedBy::Forwarded => of_forwarded(entry),
            };
            let Some(before) = entry.and_then(address) else {
                break;
            };
            client = before;
        }
        Self(client)
    }
}

/// The `for` of one element of a `Forwarded` header.
///
/// None where a quoted text was torn apart, or may hide a second `for`: a `host` is
/// what the client says it is.
fn of_forwarded(element: &str) -> Option<&str> {
    let quoted = element.split('"').skip(1).step_by(2);
    if !element.matches('"').count().is_multiple_of(2)
        || quoted.into_iter().any(|text| text.contains(';'))
    {
        return None;
    }
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(value.trim().trim_matches('"'))
}

/// With or without a port, an IPv6 address also in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let found = match bare.unwrap_or(text).parse() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(found.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> Networks {
        "10.0.0.0/8, fd00::/8".parse().unwrap()
    }

    fn behind(peer: &str, by: ForwardedBy, lines: &[&str]) -> String {
        let name = match by {
            ForwardedBy::XForwardedFor => X_FORWARDED_FOR,
            ForwardedBy::Forwarded => FORWARDED,
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), line.parse().unwrap());
        }
        ClientIp::behind(peer.parse().unwrap(), &headers, by, &trusted())
            .0
            .to_string()
    }

    #[test]
    fn client_is_the_last_address_that_no_trusted_proxy_has() {
        for (peer, lines, client) in [
            ("10.0.0.1", &[][..], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            (
                "10.0.0.1",
                &["1.2.3.4, 203.0.113.9, 10.0.0.7"],
                "203.0.113.9",
            ),
            ("10.0.0.1", &["1.2.3.4", "203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9", "10.0.0.3"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("fd00::7", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["1.2.3.4, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4, , 10.0.0.5"], "10.0.0.5"),
            ("10.0.0.1", &["1.2.3.4, ä"], "10.0.0.1"),
            ("10.0.0.1", &["ä, 203.0.113.9"], "203.0.113.9"),
        ] {
            let found = behind(peer, ForwardedBy::XForwardedFor, lines);
            assert_eq!(found, client, "{peer} {lines:?}");
        }
        for (lines, client) in [
            (&["for=203.0.113.9;proto=https"][..], "203.0.113.9"),
            (
                &["for=1.2.3.4, For=\"[2001:db8::1]:80\";by=10.0.0.1"],
                "2001:db8::1",
            ),
            (&["for=1.2.3.4", "proto=https"], "10.0.0.1"),
            (&["for=1.2.3.4, for=_hidden"], "10.0.0.1"),
            (&["for=203.0.113.9;host=\"x,for=6.6.6.6\""], "10.0.0.1"),
            (&["host=\"x;for=6.6.6.6\";for=203.0.113.9"], "10.0.0.1"),
        ] {
            let found = behind("10.0.0.1", ForwardedBy::Forwarded, lines);
            assert_eq!(found, client, "{lines:?}");
        }
    }

    #[test]
    fn peer_that_is_not_trusted_is_the_client_whatever_it_says() {
        for n in 0..100_000_u32 {
            let said = IpAddr::from(n.to_be_bytes()).to_string();
            let found = behind("203.0.113.1", ForwardedBy::XForwardedFor, &[&said]);
            assert_eq!(found, "203.0.113.1");
        }
    }

    #[test]
    fn chain_without_an_end_is_followed_so_far() {
        let long = vec!["10.0.0.9"; 10_000].join(",");
        let long = format!("203.0.113.9,{long}");
        let found = behind("10.0.0.1", ForwardedBy::XForwardedFor, &[&long]);
        assert_eq!(found, "10.0.0.9");
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_breaks_it(line in "[ -~]{0,200}", peer in any::<[u8; 4]>()) {
            let mut headers = HeaderMap::new();
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
            headers.append(FORWARDED, line.parse().unwrap());
            for by in [ForwardedBy::XForwardedFor, ForwardedBy::Forwarded] {
                ClientIp::behind(peer.into(), &headers, by, &trusted());
            }
        }
    }
}
