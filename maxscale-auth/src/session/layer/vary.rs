//! What caches are told of answers that may depend on who asks.

use http::Method;
use http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, VARY};

/// Where a request carries who sends it.
const WHO_ASKS: HeaderValue = HeaderValue::from_static("cookie, authorization");

/// Whether caches store answers to such requests at all, as far as need be feared: to a
/// call of gRPC they do not.
pub(super) fn may_be_stored(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Marks an answer as chosen by who asks, unless it says that it is for everybody, or
/// that nobody stores it.
///
/// A cache may store what says nothing (RFC 9111, 4.2.2), and only the handler knows
/// whom it has looked at. So silence counts as a dependence, and `public` or `s-maxage`,
/// which a handler must not say of what is for one, as none.
pub(super) fn mark(headers: &mut HeaderMap) {
    let said = headers.get_all(CACHE_CONTROL).iter();
    let mut said = said
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.split('=').next().unwrap_or_default().trim());
    let settles = |name: &str| {
        let names = ["public", "s-maxage", "no-store"];
        names.iter().any(|it| it.eq_ignore_ascii_case(name))
    };
    if !said.any(settles) {
        headers.append(VARY, WHO_ASKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(cache_control: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(VARY, HeaderValue::from_static("accept"));
        for said in cache_control {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(said));
        }
        mark(&mut headers);
        let all: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(all[0], "accept");
        all.contains(&&WHO_ASKS)
    }

    #[test]
    fn only_what_says_that_it_is_for_all_or_for_no_cache_is_left_alone() {
        for said in [
            &[][..],
            &["max-age=60"],
            &["private, max-age=60"],
            &["no-cache"],
            &["max-age=60, must-revalidate", "immutable"],
            // Other words.
            &["publicly, x-s-maxage=1"],
            &["ext=public"],
        ] {
            assert!(marked(said), "{said:?}");
        }
        for said in [
            &["public"][..],
            &["max-age=60, Public"],
            &["max-age=60", "public"],
            &["s-maxage=60"],
            &["S-MaxAge = 60"],
            &["no-store"],
        ] {
            assert!(!marked(said), "{said:?}");
        }
    }
}
