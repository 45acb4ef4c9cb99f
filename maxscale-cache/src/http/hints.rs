use http::HeaderMap;

/// What the names of a request's headers tell, in one pass over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// It asks for a part of something, or for another protocol.
    pub(super) beyond: bool,
    /// It says itself how fresh an answer has to be.
    pub(super) directs: bool,
    /// It says what its client has.
    pub(super) conditional: bool,
    /// It may have a header that chooses an answer though no `Vary` says so.
    pub(super) untold: bool,
}

// === impl Hints ===

impl Hints {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut hints = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "range" | "if-range" | "if-match" | "if-unmodified-since" | "upgrade" => {
                    hints.beyond = true;
                }
                "cache-control" => hints.directs = true,
                "if-none-match" | "if-modified-since" => hints.conditional = true,
                name => hints.untold |= name.starts_with("x-"),
            }
        }
        hints
    }
}
