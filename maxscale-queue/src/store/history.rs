//! What happened to a job, as lines in its row: one per run that did not simply end
//! well, the last few of them.

use std::time::Duration;

use maxscale_core::clock::Timestamp;
use serde_json::{Value, json};

use super::{Ending, storable};
use crate::explain::Event;

/// Appends a line to the history, whose length is bounded: `when attempt {json}`.
///
/// `$last` and `$of` stand around the text and keep its end. No event changes nothing.
macro_rules! history {
    ($last:expr, $of:expr, $now:expr, $event:expr) => {
        concat!(
            "history = coalesce(",
            $last,
            "coalesce(history, '') || ",
            $now,
            " || ' ' || attempt || ' ' || ",
            $event,
            " || '\n'",
            $of,
            ", history)"
        )
    };
}

macro_rules! pg_history {
    ($event:expr) => {
        history!("right(", ", 4000)", pg_now!(), $event)
    };
}

macro_rules! sqlite_history {
    ($event:expr) => {
        history!("substr(", ", -4000)", sqlite_now!(), $event)
    };
}

/// So that there is room for a dozen.
const MOST_CHARS: usize = 200;

/// What is noted of an end; none where it is the only one.
pub(super) fn event(ending: &Ending, token: i64, ran: Duration) -> Option<String> {
    if matches!(ending, Ending::Done { .. }) && token == 1 {
        return None;
    }
    let mut event = json!({ "how": ending.how(), "ran": super::micros(ran) });
    if let Some(error) = ending.error() {
        event["error"] = storable(error, MOST_CHARS).into();
    }
    Some(event.to_string())
}

/// Reads lines; the first one may have lost its beginning.
pub(super) fn read(history: &str) -> Vec<Event> {
    history.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Event> {
    let mut parts = line.splitn(3, ' ');
    let at = Timestamp::from_micros(parts.next()?.parse().ok()?);
    let attempt = parts.next()?.parse().ok()?;
    let event: Value = serde_json::from_str(parts.next()?).ok()?;
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    Some(Event {
        at,
        attempt,
        how: text("how")?,
        ran: event["ran"].as_u64().map(Duration::from_micros),
        error: text("error"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_that_lost_its_beginning_is_left_out() {
        let text = "5 2 {\"how\":\"retried\"}\n1700000000000000 3 {\"how\":\"dead\",\"ran\":7,\"error\":\"e\\n\"}\n";
        let all = read(text);
        assert_eq!((all.len(), all[1].attempt), (2, 3));
        assert_eq!(all[1].error.as_deref(), Some("e\n"));
        assert_eq!(all[1].ran, Some(Duration::from_micros(7)));
        assert_eq!(read(&text[4..]).len(), 1);
    }
}
