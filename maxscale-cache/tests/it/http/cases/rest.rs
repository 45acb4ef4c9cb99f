//! method, partial, auth, invalidation, updateHEAD, other.

use super::super::table::Case;

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    // method
    ("method-POST", "POST | > content-type: text/plain | < cache-control: max-age=3600 | < content-location:  | < date: @0 | wait // = cached"),
    // partial
    ("partial-store-partial-reuse-partial", "> range: bytes=-5 | 206 | < cache-control: max-age=3600 | < content-range: bytes 4-9/10 | ? range: bytes=-5 // > range: bytes=-5 | = cached | = 206"),
    ("partial-store-complete-reuse-partial", "< cache-control: max-age=3600 // > range: bytes=0-1 | = cached | = 206"),
    ("partial-store-complete-reuse-partial-no-last", "< cache-control: max-age=3600 // > range: bytes=1- | = cached | = 206"),
    ("partial-store-complete-reuse-partial-suffix", "< cache-control: max-age=3600 // > range: bytes=-1 | = cached | = 206"),
    ("partial-store-partial-reuse-partial-byterange", "> range: bytes=-5 | 206 | < cache-control: max-age=3600 | < content-range: bytes 4-9/10 // > range: bytes=6-8 | = cached | = 206"),
    ("partial-store-partial-reuse-partial-absent", "> range: bytes=-5 | 206 | < cache-control: max-age=3600 | < content-range: bytes 4-9/10 // > range: bytes=6- | = cached | = 206"),
    ("partial-store-partial-reuse-partial-suffix", "> range: bytes=-5 | 206 | < cache-control: max-age=3600 | < content-range: bytes 4-9/10 // > range: bytes=-1 | = cached | = 206"),
    ("partial-store-partial-complete", "> range: bytes=-5 | 206 | < cache-control: max-age=3600 | < content-range: bytes 0-4/10 // ? range: bytes=5-"),
    ("partial-use-headers", "< cache-control: max-age=3600 | < a: 1 // > range: bytes=0-1 | < a: 2 | = cached | = 206"),
    ("partial-use-stored-headers", "< cache-control: max-age=3600 | < a: 1 // > range: bytes=0-1 | = cached | = 206 | = a: 1"),
    // auth
    ("other-authorization", "> authorization: FOO | < cache-control: max-age=100000 | < date: @0 | ? authorization: FOO | wait // = fetched"),
    ("other-authorization-public", "> authorization: FOO | < cache-control: max-age=3600, public | < date: @0 | ? authorization: FOO | wait // = cached"),
    ("other-authorization-must-revalidate", "> authorization: FOO | < cache-control: max-age=3600, must-revalidate | < date: @0 | ? authorization: FOO | wait // = cached"),
    ("other-authorization-smaxage", "> authorization: FOO | < cache-control: s-maxage=3600 | < date: @0 | ? authorization: FOO | wait // = cached"),
    // invalidation
    ("invalidate-POST", "< cache-control: max-age=100000 | < date: @0 | wait // POST // = fetched"),
    ("invalidate-POST-failed", "< cache-control: max-age=100000 | < date: @0 | wait // POST | 500 // = cached"),
    ("invalidate-PUT", "< cache-control: max-age=100000 | < date: @0 | wait // PUT // = fetched"),
    ("invalidate-PUT-failed", "< cache-control: max-age=100000 | < date: @0 | wait // PUT | 500 // = cached"),
    ("invalidate-DELETE", "< cache-control: max-age=100000 | < date: @0 | wait // DELETE // = fetched"),
    ("invalidate-DELETE-failed", "< cache-control: max-age=100000 | < date: @0 | wait // DELETE | 500 // = cached"),
    ("invalidate-M-SEARCH", "< cache-control: max-age=100000 | < date: @0 | wait // M-SEARCH // = fetched"),
    ("invalidate-M-SEARCH-failed", "< cache-control: max-age=100000 | < date: @0 | wait // M-SEARCH | 500 // = cached"),
    ("invalidate-POST-location", "at location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 // POST | < location: location_target | < content-location: content_location_target // at location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 | = fetched"),
    ("invalidate-PUT-location", "at location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 // PUT | < location: location_target | < content-location: content_location_target // at location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 | = fetched"),
    ("invalidate-DELETE-location", "at location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 // DELETE | < location: location_target | < content-location: content_location_target // at location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 | = fetched"),
    ("invalidate-M-SEARCH-location", "at location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 // M-SEARCH | < location: location_target | < content-location: content_location_target // at location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 | = fetched"),
    ("invalidate-POST-cl", "at content_location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 // POST | < location: location_target | < content-location: content_location_target // at content_location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 | = fetched"),
    ("invalidate-PUT-cl", "at content_location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 // PUT | < location: location_target | < content-location: content_location_target // at content_location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 | = fetched"),
    ("invalidate-DELETE-cl", "at content_location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 // DELETE | < location: location_target | < content-location: content_location_target // at content_location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 | = fetched"),
    ("invalidate-M-SEARCH-cl", "at content_location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 // M-SEARCH | < location: location_target | < content-location: content_location_target // at content_location_target | < cache-control: max-age=100000 | < last-modified: @0 | < date: @0 | = fetched"),
    // updateHEAD
    ("head-writethrough", "< cache-control: max-age=2 | < date: @0 | < template-a: 1 | wait // HEAD"),
    ("head-200-retain", "< cache-control: max-age=2 | < date: @0 | < template-a: 1 | wait // HEAD | = template-a: 1"),
    ("head-200-freshness-update", "< cache-control: max-age=2 | < date: @0 | < template-a: 1 | wait // HEAD | < cache-control: max-age=1000 // = cached"),
    ("head-200-update", "< cache-control: max-age=2 | < date: @0 | < template-a: 1 | wait // HEAD | < template-a: 2 | < cache-control: max-age=1000 // = cached | = template-a: 2"),
    ("head-410-update", "< cache-control: max-age=2 | < date: @0 | < template-a: 1 | wait // HEAD | 410 | < template-a: 2 | < cache-control: max-age=1000 // = cached | = template-a: 2"),
    // other
    ("other-age-gen", "< cache-control: max-age=100000 | < date: @0 | wait // = cached | = age: >2"),
    ("other-age-update-expires", "< expires: @2592000 | < date: @0 | < age: 30 | wait // = cached | = age: >32"),
    ("other-age-update-max-age", "< cache-control: max-age=100000 | < date: @0 | < age: 30 | wait // = cached | = age: >32"),
    ("other-date-update", "< cache-control: max-age=100000 | < date: @0 | wait // = cached | = date: @0"),
    ("other-date-update-expires", "< expires: @2592000 | < date: @0 | wait // = cached | = date: @0"),
    ("other-date-update-expires-update", "< expires: @2592000 | < date: @0 | wait // = cached | = expires: @2592000"),
    ("query-args-different", "at ?test=aywusqomkigecay | < cache-control: max-age=100000 | < date: @0 | wait // at ?test=azyxwvutsrqponm | = fetched"),
    ("query-args-same", "at ?test=azyxwvutsrqponm | < cache-control: max-age=100000 | < date: @0 | wait // at ?test=azyxwvutsrqponm | = cached"),
    ("other-heuristic-content-disposition-attachment", "< last-modified: @-100000 | < date: @0 | < content-disposition: attachment; filename=example.txt // = cached"),
    ("other-fresh-content-disposition-attachment", "< cache-control: max-age=100000 | < date: @0 | < content-disposition: attachment; filename=example.txt | wait // = cached"),
    ("other-set-cookie", "< cache-control: max-age=100000 | < date: @0 | < set-cookie: a=b | wait // = cached"),
    ("other-cookie", "< cache-control: max-age=100000 | < date: @0 | wait // > cookie: a=b | = cached"),
];
