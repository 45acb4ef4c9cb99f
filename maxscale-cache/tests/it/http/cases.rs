//! The cases, and those that are not met.

mod alike;
mod directives;
mod fresh;
mod rest;

use super::table::{Case, Other};

pub(super) const CASES: [&[Case]; 4] = [fresh::CASES, directives::CASES, alike::CASES, rest::CASES];

/// Every case of the suite, as of July 2026, with its group: `group id`.
pub(super) const SUITE: &str = include_str!("cases/suite.txt");

/// Cases that are not run.
pub(super) const LEFT_OUT: &[Other] = &[
    (
        "They are about caches of browsers.",
        &[
            "cc-resp-immutable-fresh",
            "cc-resp-immutable-stale",
            "cc-resp-private-private",
            "freshness-max-age-s-maxage-private",
            "freshness-max-age-s-maxage-private-multiple",
        ],
    ),
    (
        "Interim answers (1xx) pass no tower service: the server sends them past it.",
        &[
            "interim-102",
            "interim-103",
            "interim-no-header-reuse",
            "interim-not-cached",
        ],
    ),
    (
        "It only asks whether an answer that took long comes with an `Age`; ours does not.",
        &["other-age-delay"],
    ),
];

/// All but those that store a cookie, and those for which ranges would have to be
/// answered from the cache, are optional there, or only ask what a cache does.
pub(super) const OTHERS: &[Other] = &[
    (
        "Nothing is good for a time that nobody said.",
        &[
            "heuristic-200-cached",
            "heuristic-203-cached",
            "heuristic-204-cached",
            "heuristic-404-cached",
            "heuristic-405-cached",
            "heuristic-410-cached",
            "heuristic-414-cached",
            "heuristic-501-cached",
            "heuristic-599-cached",
            "heuristic-delta-10",
            "heuristic-delta-1200",
            "heuristic-delta-1800",
            "heuristic-delta-30",
            "heuristic-delta-300",
            "heuristic-delta-3600",
            "heuristic-delta-43200",
            "heuristic-delta-5",
            "heuristic-delta-60",
            "heuristic-delta-600",
            "heuristic-delta-86400",
            "other-heuristic-content-disposition-attachment",
            "pragma-response-no-cache-heuristic",
        ],
    ),
    (
        "Of statuses that RFC 9111 leaves open, only those that are understood are stored.",
        &[
            "status-200-must-understand",
            "status-299-fresh",
            "status-400-fresh",
            "status-499-fresh",
            "status-500-fresh",
            "status-502-fresh",
            "status-503-fresh",
            "status-504-fresh",
            "status-599-fresh",
        ],
    ),
    (
        "What is malformed is as if absent, and of two the first counts.",
        &[
            "conditional-etag-quoted-respond-unquoted",
            "conditional-etag-strong-generate-unquoted",
            "conditional-etag-strong-respond-obs-text",
            "conditional-etag-unquoted-respond-quoted",
            "freshness-expires-ansi-c",
            "freshness-expires-wrong-case-month",
            "freshness-expires-wrong-case-tz",
            "freshness-expires-wrong-case-weekday",
            "freshness-max-age-100a",
            "freshness-max-age-a100",
            "freshness-max-age-decimal-five",
            "freshness-max-age-decimal-zero",
            "freshness-max-age-two-stale-fresh-sameline",
            "freshness-max-age-two-stale-fresh-sepline",
        ],
    ),
    (
        "What sets a cookie is for one client, whatever it says.",
        &[
            "304-etag-update-response-Set-Cookie",
            "304-etag-update-response-Set-Cookie2",
            "headers-store-Set-Cookie",
            "headers-store-Set-Cookie2",
            "other-set-cookie",
        ],
    ),
    (
        "Ranges are left to the handler.",
        &[
            "partial-store-complete-reuse-partial",
            "partial-store-complete-reuse-partial-no-last",
            "partial-store-complete-reuse-partial-suffix",
            "partial-store-partial-complete",
            "partial-store-partial-reuse-partial",
            "partial-store-partial-reuse-partial-absent",
            "partial-store-partial-reuse-partial-byterange",
            "partial-store-partial-reuse-partial-suffix",
            "partial-use-headers",
            "partial-use-stored-headers",
        ],
    ),
    (
        "What has no time to be good for is not stored.",
        &[
            "cc-resp-no-cache-revalidate",
            "cc-resp-no-cache-revalidate-fresh",
            "ccreq-max-stale-age",
            "headers-omit-headers-listed-in-Cache-Control-no-cache",
            "headers-omit-headers-listed-in-Cache-Control-no-cache-single",
        ],
    ),
    (
        "What is stale is served only where the response allows it.",
        &[
            "stale-503",
            "stale-close",
            "stale-warning-become",
            "stale-warning-stored",
        ],
    ),
    (
        "A 304 does not change what describes a body that it does not have.",
        &[
            "304-etag-update-response-Content-Encoding",
            "304-etag-update-response-Content-MD5",
            "304-etag-update-response-Content-Range",
            "304-etag-update-response-Content-Type",
        ],
    ),
    (
        "Of a miss the whole answer is wanted, and the client's condition is answered here.",
        &[
            "conditional-etag-forward",
            "conditional-etag-forward-unquoted",
            "conditional-etag-vary-headers-mismatch",
        ],
    ),
    (
        "Answers to HEAD and POST are not stored, and change nothing.",
        &[
            "head-200-freshness-update",
            "head-200-retain",
            "head-200-update",
            "head-410-update",
            "method-POST",
        ],
    ),
    (
        "The order of a list is a part of it.",
        &["vary-normalise-lang-order", "vary-normalise-lang-select"],
    ),
    (
        "What names no date of change has that of its answer, and the client's is older.",
        &["conditional-lm-fresh-no-lm"],
    ),
];
