//! From what was written to a value of the setting's kind, and on to the type
//! that the program asks for.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::mask::{MASK, mask_url};
use super::{Kind, Secret, units};
use crate::BoxError;

/// Why a value cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Nothing is written where something must be.
    #[error("the value is empty")]
    Empty,
    /// Neither `true` nor `false`.
    #[error("the value is neither true nor false")]
    NotBool,
    /// Not a whole number, or one beyond 64 bits.
    #[error("the value is not a whole number")]
    NotInteger,
    /// A duration or size does not start with a number.
    #[error("the value does not start with a whole number")]
    NoNumber,
    /// A duration without a unit.
    #[error("the number has no unit")]
    NoUnit,
    /// A duration or size with a unit that is not known.
    #[error("the unit is not known")]
    UnknownUnit,
    /// The number cannot be represented.
    #[error("the number is too large")]
    TooLarge,
    /// The number is outside of what the program can use.
    #[error("the number is not between {min} and {max}")]
    OutOfRange {
        /// The least that can be used.
        min: u64,
        /// The most that can be used.
        max: u64,
    },
    /// Not one of the words that are accepted.
    #[error("the value is none of the accepted words")]
    UnknownWord,
    /// Not an IP address and a port.
    #[error("the value is not an IP address and a port")]
    NotAddress,
    /// No `scheme://` at the start.
    #[error("the value does not start with a scheme and ://")]
    NotUrl,
    /// A URL of another system.
    #[error("the scheme is none of {}", accepted.join(", "))]
    Scheme {
        /// The schemes that are accepted.
        accepted: &'static [&'static str],
    },
    /// TOML gave another type.
    #[error("the file gives {found}")]
    WrongType {
        /// What TOML gave.
        found: &'static str,
    },
    /// The program's own parser refused the value.
    #[error("{}", mask_url(&.0.to_string()))]
    Refused(BoxError),
}

/// What a layer says, before the setting's kind is applied.
pub(super) enum Raw {
    Text(String),
    Integer(i64),
    Bool(bool),
    List(Vec<String>),
}

/// A value of a setting's kind.
#[derive(Clone)]
pub(super) enum Value {
    /// Also a URL and a word of an enum.
    Text(String),
    Bool(bool),
    Integer(i64),
    Duration(Duration),
    Size(u64),
    List(Vec<String>),
    Address(SocketAddr),
    Secret(Secret),
    Secrets(Vec<Secret>),
}

/// A type that [`Config::get`](super::Config::get) can read.
///
/// | type | kinds |
/// | --- | --- |
/// | `String` | Text, Url, Enum |
/// | `bool` | Bool |
/// | `i64`, `u16`, `u32`, `u64`, `usize` | Integer; also Size, except `i64` |
/// | `Duration` | Duration |
/// | `Vec<String>` | List |
/// | `SocketAddr` | Address |
/// | [`Secret`] | Secret, Url |
/// | `Vec<Secret>` | Secrets |
/// | [`Parsed<T>`] | as `String` |
/// | `Option<T>` | as `T`; `None` when unset |
pub trait FromValue: sealed::FromValue {}

/// Reads a text through `T`'s own [`FromStr`], so that what `T` refuses is
/// reported like any other wrong value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<T>(pub T);

// === impl Value ===

impl Value {
    pub(super) fn read(kind: Kind, raw: &Raw) -> Result<Self, Problem> {
        match (kind, raw) {
            (_, Raw::Text(text)) => Self::from_text(kind, text),
            (Kind::Integer, Raw::Integer(number)) => Ok(Self::Integer(*number)),
            (Kind::Size, Raw::Integer(bytes)) => u64::try_from(*bytes)
                .map(Self::Size)
                .map_err(|_| Problem::NoNumber),
            (Kind::Duration, Raw::Integer(_)) => Err(Problem::NoUnit),
            (Kind::Bool, Raw::Bool(value)) => Ok(Self::Bool(*value)),
            (Kind::List, Raw::List(items)) => {
                let items: Vec<_> = items.iter().map(|item| item.trim().to_owned()).collect();
                match items.iter().any(String::is_empty) {
                    true => Err(Problem::Empty),
                    false => Ok(Self::List(items)),
                }
            }
            (Kind::Secrets, Raw::List(items)) => match items.iter().any(String::is_empty) {
                true => Err(Problem::Empty),
                false => {
                    let secrets = items.iter().map(|item| Secret::new(item.as_str()));
                    Ok(Self::Secrets(secrets.collect()))
                }
            },
            (_, Raw::Integer(_)) => Err(Problem::WrongType { found: "a number" }),
            (_, Raw::Bool(_)) => Err(Problem::WrongType {
                found: "true or false",
            }),
            (_, Raw::List(_)) => Err(Problem::WrongType { found: "an array" }),
        }
    }

    fn from_text(kind: Kind, text: &str) -> Result<Self, Problem> {
        let trimmed = text.trim();
        if trimmed.is_empty() && !matches!(kind, Kind::Text | Kind::List | Kind::Secrets) {
            return Err(Problem::Empty);
        }
        match kind {
            Kind::Text => Ok(Self::Text(text.to_owned())),
            Kind::Secret => Ok(Self::Secret(Secret::new(text))),
            Kind::Bool => match trimmed {
                "true" | "1" => Ok(Self::Bool(true)),
                "false" | "0" => Ok(Self::Bool(false)),
                _ => Err(Problem::NotBool),
            },
            Kind::Integer => trimmed
                .parse()
                .map(Self::Integer)
                .map_err(|_| Problem::NotInteger),
            Kind::Duration => units::duration(trimmed).map(Self::Duration),
            Kind::Size => units::size(trimmed).map(Self::Size),
            Kind::List if trimmed.is_empty() => Ok(Self::List(Vec::new())),
            Kind::List => {
                let items = trimmed.split(',').map(str::to_owned).collect();
                Self::read(kind, &Raw::List(items))
            }
            Kind::Secrets if trimmed.is_empty() => Ok(Self::Secrets(Vec::new())),
            Kind::Secrets => {
                let items = trimmed.split(',').map(|item| item.trim().to_owned());
                Self::read(kind, &Raw::List(items.collect()))
            }
            Kind::Address => trimmed
                .parse()
                .map(Self::Address)
                .map_err(|_| Problem::NotAddress),
            Kind::Url => match trimmed.split_once("://") {
                Some((scheme, _)) if is_scheme(scheme) => Ok(Self::Text(trimmed.to_owned())),
                _ => Err(Problem::NotUrl),
            },
            Kind::Enum(words) => match words.contains(&trimmed) {
                true => Ok(Self::Text(trimmed.to_owned())),
                false => Err(Problem::UnknownWord),
            },
        }
    }
}

// === impl Raw ===

impl Raw {
    /// The value as it may be shown to anyone.
    pub(super) fn shown(&self, kind: Kind) -> String {
        match (kind, self) {
            (Kind::Secret | Kind::Secrets, _) => MASK.to_owned(),
            // What is no URL at all may be a password in the wrong place.
            (Kind::Url, Self::Text(text)) if !text.contains("://") => MASK.to_owned(),
            (_, Self::Text(text)) => mask_url(text),
            (_, Self::Integer(number)) => number.to_string(),
            (_, Self::Bool(value)) => value.to_string(),
            (_, Self::List(items)) => {
                let items: Vec<_> = items.iter().map(|item| mask_url(item)).collect();
                items.join(",")
            }
        }
    }
}

// === impl FromValue ===

pub(super) mod sealed {
    use super::{Problem, Value};

    /// The reading itself; `None` when a value of this kind cannot become the
    /// type.
    #[expect(unnameable_types, reason = "sealed: nobody else implements it")]
    pub trait FromValue: Sized {
        #[expect(private_interfaces, reason = "sealed: only this module implements it")]
        fn from_value(value: &Value) -> Option<Result<Self, Problem>>;

        fn when_unset() -> Option<Self> {
            None
        }
    }
}

/// Reads the one or two variants of [`Value`] that become a type.
macro_rules! from_value {
    ($($type:ty: $($variant:pat => $read:expr),+;)+) => {$(
        impl FromValue for $type {}
        impl sealed::FromValue for $type {
            #[expect(private_interfaces, reason = "sealed: only this module implements it")]
            fn from_value(value: &Value) -> Option<Result<Self, Problem>> {
                match value {
                    $($variant => Some($read),)+
                    _ => None,
                }
            }
        }
    )+};
}

from_value! {
    String: Value::Text(text) => Ok(text.clone());
    bool: Value::Bool(value) => Ok(*value);
    i64: Value::Integer(number) => Ok(*number);
    u16: Value::Integer(n) => narrow(*n, u16::MAX.into()), Value::Size(n) => narrow(*n, u16::MAX.into());
    u32: Value::Integer(n) => narrow(*n, u32::MAX.into()), Value::Size(n) => narrow(*n, u32::MAX.into());
    u64: Value::Integer(n) => narrow(*n, u64::MAX), Value::Size(n) => Ok(*n);
    usize: Value::Integer(n) => narrow(*n, usize::MAX as u64), Value::Size(n) => narrow(*n, usize::MAX as u64);
    Duration: Value::Duration(duration) => Ok(*duration);
    Vec<String>: Value::List(items) => Ok(items.clone());
    SocketAddr: Value::Address(address) => Ok(*address);
    Vec<Secret>: Value::Secrets(secrets) => Ok(secrets.clone());
    Secret: Value::Secret(secret) => Ok(secret.clone()), Value::Text(url) => Ok(Secret::new(url.as_str()));
}

impl<T> FromValue for Parsed<T>
where
    T: FromStr,
    T::Err: Into<BoxError>,
{
}

impl<T> sealed::FromValue for Parsed<T>
where
    T: FromStr,
    T::Err: Into<BoxError>,
{
    #[expect(private_interfaces, reason = "sealed: only this module implements it")]
    fn from_value(value: &Value) -> Option<Result<Self, Problem>> {
        let Value::Text(text) = value else {
            return None;
        };
        let parsed = text.parse().map(Self);
        Some(parsed.map_err(|refused: T::Err| Problem::Refused(refused.into())))
    }
}

impl<T: FromValue> FromValue for Option<T> {}

impl<T: FromValue> sealed::FromValue for Option<T> {
    #[expect(private_interfaces, reason = "sealed: only this module implements it")]
    fn from_value(value: &Value) -> Option<Result<Self, Problem>> {
        Some(T::from_value(value)?.map(Some))
    }

    fn when_unset() -> Option<Self> {
        Some(None)
    }
}

/// Numbers that do not fit are the user's mistake, told with the bounds.
fn narrow<N, T>(number: N, max: u64) -> Result<T, Problem>
where
    T: TryFrom<N>,
{
    T::try_from(number).map_err(|_| Problem::OutOfRange { min: 0, max })
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}
