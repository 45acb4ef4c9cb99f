use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, written `10.0.0.0/8`, `fd00::/8`, or as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// An IPv4 address as the IPv6 address that maps it, so that a peer on a
    /// socket for both is the same one.
    start: u128,
    mask: u128,
    prefix: u8,
    v4: bool,
}

/// A text that is no [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no range of addresses; write it as 10.0.0.0/8, or as one address")]
pub struct NetworkError;

/// Several [`Network`]s, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

const BITS: u8 = 128;
/// In front of an IPv4 address in IPv6.
const MAPPED: u8 = 96;

// === impl Network ===

impl Network {
    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        number(address) & self.mask == self.start
    }
}

fn number(address: IpAddr) -> u128 {
    let v6 = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    v6.to_bits()
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let (bits, offset) = match address {
            IpAddr::V4(_) => (BITS - MAPPED, MAPPED),
            IpAddr::V6(_) => (BITS, 0),
        };
        let prefix = prefix.map_or(Ok(bits), |prefix| prefix.parse::<u8>());
        let prefix = prefix.map_err(|_| NetworkError)?;
        if prefix > bits {
            return Err(NetworkError);
        }
        let host = u32::from(BITS - offset - prefix);
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        Ok(Self {
            // Bits of a host are left out, as most programs do.
            start: number(address) & mask,
            mask,
            prefix,
            v4: address.is_ipv4(),
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = Ipv6Addr::from_bits(self.start);
        match start.to_ipv4_mapped().filter(|_| self.v4) {
            Some(v4) => write!(f, "{v4}/{}", self.prefix),
            None => write!(f, "{start}/{}", self.prefix),
        }
    }
}

// === impl Networks ===

impl Networks {
    /// Whether `address` is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl FromStr for Networks {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_has_the_addresses_with_its_prefix() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "203.0.113.9", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::1", "::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(network.contains(address), inside, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "a/8",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
        let text = "10.1.0.0/16, ::1";
        let several: Networks = text.parse().unwrap();
        assert!(several.contains("10.1.2.3".parse().unwrap()));
        assert!(several.contains("::1".parse().unwrap()));
        assert!("".parse::<Networks>().unwrap().0.is_empty());
        assert!("10.1.0.0/16;::1".parse::<Networks>().is_err());
        let shown: Network = "10.1.2.3/16".parse().unwrap();
        assert_eq!(shown.to_string(), "10.1.0.0/16");
    }
}
