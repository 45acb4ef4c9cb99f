//! The cases of <https://cache-tests.fyi> that are about shared caches, by their ids
//! there: an origin that answers as the case says, and what its clients get.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use maxscale_cache::http::Storing;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::cases;
use super::rig::{Rig, START, Still};

/// A case: its id, and its requests, separated by ` // `. A request has, separated
/// by ` | `:
///
/// - its method (`GET`), `at` a place below the case's, and its headers (`> name: value`);
/// - what the origin answers: a status, headers (`< name: value`), no body
///   (`< empty`), or nothing (`gone`);
/// - what is to be: `= cached`, `= fetched`, `= asked` (the origin was asked whether
///   it changed, and said no), a status (`= 304`), headers (`= name: value`), no such
///   header (`- name`), or a header of what the origin saw (`? name: value`);
/// - `wait`, for three seconds after it.
///
/// `@-5` is the time five seconds before the request, as headers write it, and
/// `rfc850@-5` as they wrote it once.
pub(super) type Case = (&'static str, &'static str);

/// Why cases are not met, and which.
pub(super) type Other = (&'static str, &'static [&'static str]);

/// Cases by id, as far as their origins have to know.
type Script = Arc<Mutex<Run>>;

#[derive(Default)]
struct Run {
    text: &'static str,
    now: Seconds,
    /// What the origin saw, by the number of the request.
    seen: HashMap<usize, HeaderMap>,
    count: usize,
}

/// What readers are told of the cases.
const PAGE: &str = include_str!("../../../../docs/src/http-cache.md");

/// Of the time of a case, since 1970.
type Seconds = u64;

#[tokio::test]
async fn shared_cache_does_what_cache_tests_ask() {
    let still = Still::new(|builder| builder.storing(Storing::Rfc9111));
    let script = Script::default();
    let router = Router::new().fallback(origin).with_state(script.clone());
    let rig = Rig::start(router.layer(still.layer())).await;
    let (mut missed, mut met) = (Vec::new(), 0);
    for (id, text) in cases::CASES.iter().flat_map(|cases| cases.iter()) {
        let other = cases::OTHERS.iter().find(|(_, known)| known.contains(id));
        match (run(&rig, &still, &script, id, text).await, other) {
            (Ok(()), None) => met += 1,
            (Err(_), Some(_)) => {}
            (Err(why), None) => missed.push(format!("{id}: {why}")),
            (Ok(()), Some(_)) => missed.push(format!("{id}: is met, and said not to be")),
        }
    }
    println!("{met} cases are met");
    assert!(missed.is_empty(), "{}\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn page_counts_every_case_of_the_suite() {
    let names = |others: &[Other]| -> Vec<_> {
        let all = others.iter().flat_map(|(_, ids)| ids.iter());
        all.copied().collect()
    };
    let (not_met, left_out) = (names(cases::OTHERS), names(cases::LEFT_OUT));
    let run: Vec<_> = cases::CASES.iter().flat_map(|cases| cases.iter()).collect();
    let mut groups: Vec<(&str, [usize; 3])> = Vec::new();
    for line in cases::SUITE.lines() {
        let (group, id) = line.split_once(' ').unwrap();
        let is_run = run.iter().any(|(known, _)| *known == id);
        let is_left_out = left_out.contains(&id);
        assert!(
            is_run != is_left_out,
            "{id} is neither run nor left out, or both"
        );
        let column = match is_run {
            true => usize::from(not_met.contains(&id)),
            false => 2,
        };
        if groups.last().is_none_or(|(last, _)| *last != group) {
            groups.push((group, [0; 3]));
        }
        groups.last_mut().unwrap().1[column] += 1;
    }
    assert_eq!(run.len() + left_out.len(), cases::SUITE.lines().count());
    let mut sum = [0; 3];
    for (name, [met, other, out]) in groups {
        let row = format!("| {name} | {met} | {other} | {out} |");
        assert!(PAGE.contains(&row), "the page lacks {row}");
        sum = [sum[0] + met, sum[1] + other, sum[2] + out];
    }
    let [met, other, out] = sum;
    let row = format!("| all | {met} | {other} | {out} |");
    assert!(PAGE.contains(&row), "the page lacks {row}");
    for (why, _) in cases::OTHERS.iter().chain(cases::LEFT_OUT) {
        assert!(PAGE.contains(why), "the page lacks: {why}");
    }
}

async fn run(
    rig: &Rig,
    still: &Still,
    script: &Script,
    id: &str,
    text: &'static str,
) -> Result<(), String> {
    still.time.set(START);
    *script.lock().unwrap() = Run {
        text,
        ..Run::default()
    };
    let mut now = START.as_millis() / 1_000;
    for (number, step) in text.split(" // ").enumerate() {
        script.lock().unwrap().now = now;
        let before = script.lock().unwrap().count;
        let step = Step::read(step);
        let mut request = HeaderMap::new();
        request.insert("number", HeaderValue::from(number));
        for (name, value) in step.pairs(">") {
            let value = header(&value, now);
            request.append(name.parse::<HeaderName>().unwrap(), value);
        }
        let method = step.method().parse().unwrap();
        let place = format!("{}/{id}{}", rig.url, step.place());
        let mut call = rig.client.request(method, place).headers(request);
        if step.method() != "GET" && step.method() != "HEAD" {
            call = call.body("12345");
        }
        let answer = call.send().await.map_err(|error| error.to_string())?;
        step.check(&answer, number, before, script, now)?;
        let _ = answer.bytes().await;
        if step.has("wait") {
            still.pass(3);
            now += 3;
        }
    }
    Ok(())
}

async fn origin(State(script): State<Script>, request: Request) -> Response {
    let mut run = script.lock().unwrap();
    let number = request.headers()["number"].to_str().unwrap();
    let number: usize = number.parse().unwrap();
    run.count += 1;
    run.seen.insert(number, request.headers().clone());
    let step = Step::read(run.text.split(" // ").nth(number).unwrap());
    let asked = |name| request.headers().contains_key(name);
    let known = step.has("= asked") && (asked("if-none-match") || asked("if-modified-since"));
    let mut response = Response::builder().status(match known {
        true => 304,
        false => step.status(),
    });
    for (name, value) in step.pairs("<") {
        response = response.header(name, header(&value, run.now));
    }
    response = response.header("origin", run.count);
    let body = match known || step.has("< empty") || step.gives("<", "content-length") {
        // Ten bytes, as far as the cases know.
        _ if step.gives("<", "content-length") && !known => Body::from(step.padding()),
        true => Body::empty(),
        false => Body::from(format!("{number}")),
    };
    response.body(body).unwrap()
}

/// A value, or a time.
fn header(value: &str, now: u64) -> HeaderValue {
    let (old, value) = match value.strip_prefix("rfc850") {
        Some(time) => (true, time),
        None => (false, value),
    };
    let Some(offset) = value.strip_prefix('@') else {
        return HeaderValue::from_bytes(value.as_bytes()).unwrap();
    };
    let seconds = now.checked_add_signed(offset.parse().unwrap()).unwrap();
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let date = if old { rfc850(&date) } else { date };
    date.parse().unwrap()
}

/// `Thursday, 28-May-26 20:26:40 GMT` for `Thu, 28 May 2026 20:26:40 GMT`.
fn rfc850(date: &str) -> String {
    let days = ["Sun", "Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur"];
    let day = days.iter().find(|day| date.starts_with(&day[..3])).unwrap();
    let rest: Vec<_> = date.split_whitespace().skip(1).collect();
    let [number, month, year, time, zone] = rest[..] else {
        panic!("{date} is no date");
    };
    format!("{day}day, {number}-{month}-{} {time} {zone}", &year[2..])
}

/// One request of a case.
struct Step(Vec<&'static str>);

// === impl Step ===

impl Step {
    fn read(text: &'static str) -> Self {
        Self(text.split(" | ").map(str::trim).collect())
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn pairs(&self, mark: &str) -> impl Iterator<Item = (&'static str, String)> {
        let of_mark = self
            .0
            .iter()
            .filter_map(move |word| word.strip_prefix(mark));
        of_mark.filter_map(|pair| {
            let (name, value) = pair.trim_start().split_once(':')?;
            Some((name, value.trim_start().to_owned()))
        })
    }

    fn gives(&self, mark: &str, name: &str) -> bool {
        self.pairs(mark).any(|(known, _)| known == name)
    }

    fn padding(&self) -> String {
        let mut lengths = self
            .pairs("<")
            .filter(|(name, _)| *name == "content-length");
        let length = lengths
            .next()
            .map_or(0, |(_, length)| length.parse().unwrap());
        "x".repeat(length)
    }

    fn method(&self) -> &'static str {
        let upper = |word: &&&str| word.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        self.0.iter().find(upper).copied().unwrap_or("GET")
    }

    fn place(&self) -> String {
        let place = self.0.iter().find_map(|word| word.strip_prefix("at "));
        match place {
            Some(query) if query.starts_with('?') => query.to_owned(),
            Some(place) => format!("/{place}"),
            None => "/".to_owned(),
        }
    }

    fn status(&self) -> u16 {
        if self.has("gone") {
            return 502;
        }
        self.0
            .iter()
            .find_map(|word| word.parse().ok())
            .unwrap_or(200)
    }

    fn check(
        &self,
        answer: &reqwest::Response,
        number: usize,
        before: usize,
        script: &Script,
        now: u64,
    ) -> Result<(), String> {
        let script = script.lock().unwrap();
        let seen = script.seen.get(&number);
        let count = answer.headers().get("origin");
        let count = count.and_then(|count| count.to_str().ok()?.parse().ok());
        let fetched = count.is_none_or(|count: usize| count > before);
        let which = format!("request {}", number + 1);
        if self.has("= cached") && fetched {
            return Err(format!("{which} was not answered from the cache"));
        }
        if self.has("= fetched") && !fetched || self.has("= asked") && script.count == before {
            return Err(format!("{which} was answered from the cache"));
        }
        let asks = |name: &str| seen.is_some_and(|seen| seen.contains_key(name));
        if self.has("= asked") && !asks("if-none-match") && !asks("if-modified-since") {
            return Err(format!("{which} did not ask whether it changed"));
        }
        let wanted = self
            .0
            .iter()
            .find_map(|word| word.strip_prefix("= ")?.parse().ok());
        let status = wanted.unwrap_or_else(|| self.status());
        if answer.status() != status && !self.has("gone") {
            return Err(format!("{which} has status {}", answer.status()));
        }
        for (name, value) in self.pairs("=") {
            let found = answer.headers().get(name);
            let right = match value.strip_prefix('>') {
                _ if value == "*" => found.is_some(),
                Some(more) => found.is_some_and(|found| {
                    let found: u64 = found.to_str().unwrap().parse().unwrap();
                    found > more.parse().unwrap()
                }),
                // Of the time at which the case began.
                None => found == Some(&header(&value, START.as_millis() / 1_000)),
            };
            if !right {
                return Err(format!("{which} has {name}: {found:?}"));
            }
        }
        for name in self.0.iter().filter_map(|word| word.strip_prefix("- ")) {
            if answer.headers().contains_key(name) {
                return Err(format!("{which} has {name}"));
            }
        }
        for (name, value) in self.pairs("?") {
            let found = seen.and_then(|seen| seen.get(name));
            if found != Some(&header(&value, now)) {
                return Err(format!("{which} was sent on with {name}: {found:?}"));
            }
        }
        Ok(())
    }
}
