//! Log lines as flat JSON objects.
//!
//! Members are kept as text, `"key":value`, one per line: JSON has no raw line
//! break inside a value, so a span's members are taken apart again without
//! parsing.

use std::error::Error;
use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::Chain;

/// Keeps a span's fields as members.
#[derive(Debug)]
pub(super) struct JsonFields;

/// Writes an event with the fields of its spans as one JSON object.
#[derive(Debug)]
pub(super) struct JsonLine;

#[derive(Default)]
struct Members {
    text: String,
    message: Option<String>,
}

/// Keys that each line has once; a field of this name gets another.
const RESERVED: [&str; 4] = ["timestamp", "level", "target", "message"];

// === impl JsonFields ===

impl<'w> FormatFields<'w> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut members = Members::default();
        fields.record(&mut members);
        writer.write_str(&members.text)
    }

    fn add_fields(&self, kept: &'w mut FormattedFields<Self>, new: &Record<'_>) -> fmt::Result {
        let mut members = Members::default();
        new.record(&mut members);
        // The newest first: the first member of a name is the one that is shown.
        kept.fields.insert_str(0, &members.text);
        Ok(())
    }
}

// === impl JsonLine ===

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut own = Members::default();
        event.record(&mut own);

        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        write!(
            writer,
            "\",\"level\":\"{}\",\"target\":{},\"message\":{}",
            metadata.level(),
            json(metadata.target()),
            json(own.message.as_deref().unwrap_or_default()),
        )?;

        let mut text = own.text;
        for span in ctx.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                text.push_str(&fields.fields);
            }
        }
        let mut seen = Vec::new();
        for member in text.lines() {
            let key = member.split_once("\":").map(|(key, _)| key);
            if !seen.contains(&key) {
                seen.push(key);
                write!(writer, ",{member}")?;
            }
        }
        writer.write_str("}\n")
    }
}

// === impl Members ===

impl Members {
    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        // `r#type` is how a field called `type` is written.
        let name = name.strip_prefix("r#").unwrap_or(name);
        // Those tell OpenTelemetry what a span is.
        if name.starts_with("otel.") {
            return;
        }
        let key = if RESERVED.contains(&name) {
            json(format!("field.{name}"))
        } else {
            json(name)
        };
        let _ = writeln!(self.text, "{key}:{}", json(value));
    }
}

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = Some(format!("{value:?}"));
        } else {
            self.push(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = Some(value.to_owned());
        } else {
            self.push(field, value);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.push(field, Chain(value).to_string());
    }
}

fn json(value: impl Into<Value>) -> String {
    value.into().to_string()
}

#[cfg(test)]
pub(super) mod tests;
