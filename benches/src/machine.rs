//! What the figures were taken on.

use std::fs;
use std::thread::available_parallelism;

/// Cores, model, load and build, as far as they can be told.
pub(crate) fn lines() -> Vec<String> {
    let cores = available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut lines = vec![
        format!("machine: {cores} cores, {}", model_of(&model)),
        format!("load average: {}", load_of(&load)),
    ];
    if cfg!(debug_assertions) {
        lines.push("build: not optimised; the figures mean nothing".into());
    }
    lines
}

fn model_of(cpuinfo: &str) -> &str {
    let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let mut names = fields.filter(|(name, _)| name.trim() == "model name");
    names
        .next()
        .map_or("model unknown", |(_, model)| model.trim())
}

/// The averages over 1, 5 and 15 minutes.
fn load_of(loadavg: &str) -> String {
    let averages: Vec<&str> = loadavg.split_whitespace().take(3).collect();
    if averages.is_empty() {
        "unknown".into()
    } else {
        averages.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_and_load_are_read_from_the_kernels_words() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Xeon 8\nprocessor\t: 1\n";
        assert_eq!(model_of(cpuinfo), "Xeon 8");
        assert_eq!(model_of(""), "model unknown");
        assert_eq!(load_of("0.50 1.25 2.00 1/234 567\n"), "0.50 1.25 2.00");
        assert_eq!(load_of(""), "unknown");
    }
}
