use std::net::{IpAddr, Ipv6Addr};

use crate::fact::{ClientIp, Facts, Subject};

/// Says whose quota a request is taken from.
///
/// A request is whatever the layer stands around: `http::Request`, a job.
/// Functions `Fn(&Q) -> Option<String>` are keys too.
pub trait LimitKey<Q> {
    /// What the request lacks when it has no key, for the one who built the stack.
    fn fact(&self) -> &'static str {
        "what the limit's key function looks for"
    }

    /// The key of `request`, if it has what the key is made of.
    fn key(&self, request: &Q) -> Option<String>;
}

/// One quota per [`ClientIp`]; an IPv6 client is its /64, because it owns all
/// addresses in it. No [`Subject`] has the same key.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByClientIp;

/// One quota per [`Subject`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct BySubject;

// === impl ByClientIp ===

impl ByClientIp {
    /// One quota per client address.
    pub const fn new() -> Self {
        Self
    }

    /// The principal that this client is, for handles that see no request: an
    /// open WebSocket, an operator's command.
    pub fn principal(ClientIp(ip): &ClientIp) -> String {
        match ip.to_canonical() {
            IpAddr::V4(v4) => {
                // For each request, and a formatter takes longer than the rest.
                let mut digits = std::array::from_fn::<_, 4, _>(|_| itoa::Buffer::new());
                let mut octets = digits.iter_mut().zip(v4.octets());
                let mut next = || octets.next().map_or("", |(it, octet)| it.format(octet));
                ["ip:", next(), ".", next(), ".", next(), ".", next()].concat()
            }
            IpAddr::V6(v6) => {
                let network = Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64);
                format!("ip:{network}/64")
            }
        }
    }
}

impl<Q: Facts> LimitKey<Q> for ByClientIp {
    fn fact(&self) -> &'static str {
        "ClientIp; add a layer that knows the peer's address"
    }

    fn key(&self, request: &Q) -> Option<String> {
        request.fact().map(Self::principal)
    }
}

// === impl BySubject ===

impl BySubject {
    /// One quota per subject.
    pub const fn new() -> Self {
        Self
    }

    /// The principal that this subject is, for handles that see no request: a job,
    /// an operator's command.
    pub fn principal(subject: &Subject) -> String {
        format!("sub:{}", subject.as_str())
    }
}

impl<Q: Facts> LimitKey<Q> for BySubject {
    fn fact(&self) -> &'static str {
        "Subject; add a layer that knows who asks"
    }

    fn key(&self, request: &Q) -> Option<String> {
        request.fact().map(Self::principal)
    }
}

impl<Q, F> LimitKey<Q> for F
where
    F: Fn(&Q) -> Option<String>,
{
    fn key(&self, request: &Q) -> Option<String> {
        self(request)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn key_of(ip: &str) -> String {
        let mut request = Request::new(());
        request.add_fact(ClientIp(ip.parse().unwrap()));
        ByClientIp.key(&request).unwrap()
    }

    #[test]
    fn addresses_of_one_client_have_one_key() {
        assert_eq!(key_of("2001:db8:1:2::1"), key_of("2001:db8:1:2:ffff::9"));
        assert_ne!(key_of("2001:db8:1:2::1"), key_of("2001:db8:1:3::1"));
        assert_eq!(key_of("::ffff:192.0.2.1"), key_of("192.0.2.1"));
        assert_ne!(key_of("192.0.2.1"), key_of("192.0.2.2"));
    }
}
