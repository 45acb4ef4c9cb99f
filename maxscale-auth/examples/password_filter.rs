//! Builds the list of breached passwords that `PasswordPolicy::breached` takes.
//!
//! ```text
//! password_filter passwords IN OUT [WRONG]
//! password_filter sha1 IN OUT [WRONG [AT_LEAST]]
//! ```
//!
//! `IN` has a password per line, or a SHA-1 in hexadecimal digits with `:` and a count, as
//! the dumps of Have I Been Pwned have. `WRONG` is the rate of passwords that are taken for
//! one of them, 0.0001 if it is not given; those that were found less often than `AT_LEAST`
//! are left out.

use std::error::Error;
use std::process::ExitCode;

use maxscale_auth::password::policy::filter::{FilterBuilder, Lines};
use maxscale_core::Chain;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(told) => {
            eprintln!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<String, Box<dyn Error + Send + Sync>> {
    let (lines, path, out, wrong) = match *arguments {
        ["passwords", path, out] => (Lines::Passwords, path, out, None),
        ["passwords", path, out, wrong] => (Lines::Passwords, path, out, Some(wrong)),
        ["sha1", path, out] => (Lines::Sha1 { at_least: 0 }, path, out, None),
        ["sha1", path, out, wrong] => (Lines::Sha1 { at_least: 0 }, path, out, Some(wrong)),
        ["sha1", path, out, wrong, at_least] => {
            let at_least = at_least.parse()?;
            (Lines::Sha1 { at_least }, path, out, Some(wrong))
        }
        _ => return Err("password_filter passwords|sha1 IN OUT [WRONG [AT_LEAST]]".into()),
    };
    let wrong = wrong.map_or(Ok(FilterBuilder::WRONG), str::parse)?;
    let filter = lines.build(path, wrong)?;
    filter.save(out)?;
    Ok(format!(
        "{} passwords in {} bytes",
        filter.passwords(),
        filter.size()
    ))
}
