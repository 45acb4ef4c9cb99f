//! The log and the traces, as the settings want them.

use std::io::IsTerminal as _;

use maxscale_core::Chain;
use maxscale_core::config::Config;
use maxscale_core::telemetry::{Format, OtlpConfig, OtlpConfigError, TelemetryConfig};

use crate::settings::Settings;

/// What to start telemetry with.
///
/// # Errors
///
/// Returns what to tell whoever set a collector that cannot be used.
pub fn telemetry(config: &Config, settings: &Settings) -> Result<TelemetryConfig, String> {
    let terminal = std::io::stderr().is_terminal();
    let format = match settings.log_format.as_str() {
        "text" => Format::Text,
        "json" => Format::Json,
        _ if terminal => Format::Text,
        _ => Format::Json,
    };
    let telemetry = TelemetryConfig::new(settings.log_filter.clone())
        .format(format)
        .color(settings.log_color && terminal);
    let Some(endpoint) = &settings.otel_endpoint else {
        return Ok(telemetry);
    };
    let wrong = |key, action| {
        move |error: OtlpConfigError| {
            let why = Chain(&error).to_string();
            let what = "cannot send traces";
            config.explain(key, what, &why, action).to_string()
        }
    };
    let otlp = OtlpConfig::new(endpoint, settings.otel_service.clone());
    let otlp = otlp.map_err(wrong("otel.endpoint", "write it as http://localhost:4318"))?;
    let otlp = otlp.share(settings.otel_share);
    let mut otlp = otlp.map_err(wrong("otel.share", "write it as 0.1 for a tenth"))?;
    for header in &settings.otel_headers {
        // Without a `=` it may be a value alone, and that is not to be told.
        let (name, value) = header.expose().split_once('=').unwrap_or_default();
        let added = otlp.header(name.trim(), value.trim());
        otlp = added.map_err(wrong("otel.headers", "write each as name=value"))?;
    }
    for attribute in &settings.otel_attributes {
        let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        otlp = otlp.attribute(key.trim(), value.trim());
    }
    Ok(telemetry.otlp(otlp))
}
