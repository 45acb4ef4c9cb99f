use bytes::Bytes;
use fred::types::Value;

/// One argument of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arg {
    /// A number, sent as decimal digits.
    Int(i64),
    /// Bytes as they are.
    Bytes(Bytes),
    /// Text.
    Text(String),
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all the forms there are")]
pub enum Reply {
    /// No value.
    Nil,
    /// A number.
    Int(i64),
    /// A value, or a status such as `OK`.
    Bytes(Bytes),
    /// Several replies.
    Array(Vec<Self>),
}

// === impl Arg ===

impl Arg {
    /// The bytes that the server gets.
    pub(super) fn bytes(&self) -> Bytes {
        match self {
            Self::Int(number) => number.to_string().into(),
            Self::Bytes(bytes) => bytes.clone(),
            Self::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
        }
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<Bytes> for Arg {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Arg {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Arg> for Value {
    fn from(arg: Arg) -> Self {
        match arg {
            Arg::Int(number) => Self::Integer(number),
            Arg::Bytes(bytes) => Self::Bytes(bytes),
            Arg::Text(text) => Self::String(text.into()),
        }
    }
}

// === impl Reply ===

impl Reply {
    /// The number, if the reply is one.
    pub const fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The value, if the reply is one.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The replies, if there are several.
    pub fn into_array(self) -> Option<Vec<Self>> {
        match self {
            Self::Array(replies) => Some(replies),
            _ => None,
        }
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Nil,
            Value::Integer(number) => Self::Int(number),
            Value::Boolean(yes) => Self::Int(yes.into()),
            Value::String(text) => Self::Bytes(text.into_inner()),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Array(values) => Self::Array(values.into_iter().map(Self::from).collect()),
            // RESP2, which commands speak, has neither doubles nor maps.
            Value::Double(number) => Self::Bytes(number.to_string().into()),
            Value::Queued => Self::Bytes(Bytes::from_static(b"QUEUED")),
            Value::Map(map) => Self::Array(
                map.inner()
                    .into_iter()
                    .flat_map(|(key, value)| [Self::Bytes(key.into_bytes()), value.into()])
                    .collect(),
            ),
        }
    }
}
