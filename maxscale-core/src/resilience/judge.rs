//! What an answer says of whoever gave it.
//!
//! Layers that count failures do not know answers; they ask a [`Judge`]. An
//! answer is judged by its head: a stream that breaks later is not seen.

use std::time::Duration;

use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use crate::control::{End, Pushback};

/// What an answer says of whoever gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "judges choose among all, and layers handle all"
)]
pub enum Outcome {
    /// It works. Answers that refuse what was asked are of these.
    Succeeded,
    /// It does not work.
    Failed,
    /// It did not answer in time, and may have done it.
    TimedOut,
    /// It works, and wants fewer requests: neither a success nor a failure.
    SentBack,
    /// Nothing: the caller gave up.
    GivenUp,
}

/// Says what an answer means; functions `Fn(&Result<A, E>) -> Outcome` do.
pub trait Judge<A, E> {
    /// What `answer` says of whoever gave it.
    fn outcome(&self, answer: &Result<A, E>) -> Outcome;

    /// What it says of another attempt, if anything.
    fn pushback(&self, _answer: &Result<A, E>) -> Option<Pushback> {
        None
    }
}

/// Judges HTTP by its status and gRPC by `grpc-status`, where that stands in the
/// head of the answer.
///
/// 504 and `DEADLINE_EXCEEDED` have timed out; other 5xx, `UNKNOWN`,
/// `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS` and errors have failed; 429 and
/// `RESOURCE_EXHAUSTED` are sent back; `CANCELLED` was given up. All others
/// succeeded. `Retry-After` in seconds and `grpc-retry-pushback-ms` say when
/// another attempt is welcome; one that cannot be read, as a date, that none is.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByStatus;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

// === impl Outcome ===

impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed | Outcome::TimedOut => Self::Failed,
            Outcome::SentBack | Outcome::GivenUp => Self::Nothing,
        }
    }
}

// === impl Judge ===

impl<F, A, E> Judge<A, E> for F
where
    F: Fn(&Result<A, E>) -> Outcome,
{
    fn outcome(&self, answer: &Result<A, E>) -> Outcome {
        self(answer)
    }
}

// === impl ByStatus ===

impl ByStatus {
    /// Judges by the status.
    pub const fn new() -> Self {
        Self
    }
}

impl<B, E> Judge<Response<B>, E> for ByStatus {
    fn outcome(&self, answer: &Result<Response<B>, E>) -> Outcome {
        let Ok(answer) = answer else {
            return Outcome::Failed;
        };
        match answer.headers().get(&GRPC_STATUS) {
            Some(status) => of_grpc(status.as_bytes()),
            None => of_http(answer.status()),
        }
    }

    fn pushback(&self, answer: &Result<Response<B>, E>) -> Option<Pushback> {
        let headers = answer.as_ref().ok()?.headers();
        let grpc = headers.get(&GRPC_PUSHBACK);
        let grpc = grpc.map(|value| after(value, Duration::from_millis));
        let http = headers.get(RETRY_AFTER);
        grpc.or_else(|| http.map(|value| after(value, Duration::from_secs)))
    }
}

/// gRPC says the same of a number that is none or negative (gRFC A6).
fn after(value: &HeaderValue, unit: fn(u64) -> Duration) -> Pushback {
    let digits = value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u32>().ok());
    digits.map_or(Pushback::Never, |it| Pushback::After(unit(it.into())))
}

fn of_http(status: StatusCode) -> Outcome {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Outcome::SentBack,
        StatusCode::GATEWAY_TIMEOUT => Outcome::TimedOut,
        status if status.is_server_error() => Outcome::Failed,
        _ => Outcome::Succeeded,
    }
}

const fn of_grpc(status: &[u8]) -> Outcome {
    match status {
        b"1" => Outcome::GivenUp,
        b"4" => Outcome::TimedOut,
        b"8" => Outcome::SentBack,
        b"2" | b"13" | b"14" | b"15" => Outcome::Failed,
        _ => Outcome::Succeeded,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn judged(status: u16, grpc: Option<&str>) -> Outcome {
        let mut answer = Response::builder().status(status);
        if let Some(grpc) = grpc {
            answer = answer.header("grpc-status", grpc);
        }
        ByStatus.outcome(&Ok::<_, Infallible>(answer.body(()).unwrap()))
    }

    #[test]
    fn answers_are_judged_by_their_status() {
        let http = [200, 404, 429, 500, 503, 504].map(|status| judged(status, None));
        let expected = [
            Outcome::Succeeded,
            Outcome::Succeeded,
            Outcome::SentBack,
            Outcome::Failed,
            Outcome::Failed,
            Outcome::TimedOut,
        ];
        assert_eq!(http, expected);
        let failed = (0..=16).filter(|n| judged(200, Some(&n.to_string())) == Outcome::Failed);
        assert_eq!(failed.collect::<Vec<_>>(), [2, 13, 14, 15]);
        let grpc = ["0", "1", "4", "5", "8"].map(|status| judged(200, Some(status)));
        let expected = [
            Outcome::Succeeded,
            Outcome::GivenUp,
            Outcome::TimedOut,
            Outcome::Succeeded,
            Outcome::SentBack,
        ];
        assert_eq!(grpc, expected);
        let error = ByStatus.outcome(&Err::<Response<()>, _>("broken"));
        assert_eq!(error, Outcome::Failed);
    }

    #[test]
    fn wait_that_is_asked_for_is_read_in_both_protocols_and_nonsense_means_never() {
        let pushback = |name: &str, value: &str| {
            let answer = Response::builder().header(name, value).body(()).unwrap();
            ByStatus.pushback(&Ok::<_, Infallible>(answer))
        };
        let after = |wait| Some(Pushback::After(wait));
        assert_eq!(pushback("retry-after", "2"), after(Duration::from_secs(2)));
        let millis = pushback("grpc-retry-pushback-ms", "20");
        assert_eq!(millis, after(Duration::from_millis(20)));
        for nonsense in [
            "-1",
            "",
            "1.5",
            "99999999999",
            "Fri, 31 Dec 1999 23:59:59 GMT",
        ] {
            assert_eq!(pushback("retry-after", nonsense), Some(Pushback::Never));
            let grpc = pushback("grpc-retry-pushback-ms", nonsense);
            assert_eq!(grpc, Some(Pushback::Never));
        }
        assert_eq!(pushback("x-other", "1"), None);
    }
}
