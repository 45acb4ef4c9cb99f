use std::borrow::Cow;
use std::str::FromStr;

use http::Request;

use super::{RequestKey, RouteError, RouteKey};

/// The key is a segment of the path.
///
/// The template is the beginning of a path: `{name}` stands for the key, `*` for
/// any other segment, and whatever follows the template is not looked at.
/// `/users/{user}` finds the key `42` in `/users/42/projects`, and
/// `/orgs/*/users/{user}` in `/orgs/7/users/42`. The key is unescaped (`%2F` is
/// a `/` in it). The path is the one that the layer sees: a nested axum router
/// has taken its prefix off.
///
/// Of a gRPC call the path is the name of a method, in which there is no key.
#[derive(Clone, Debug)]
pub struct ByPath {
    /// The segments before the key; none for any.
    before: Box<[Option<Box<str>>]>,
}

/// A template that says nowhere or at several places where the key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It does not begin with `/`.
    #[error("a template begins with /")]
    NotAbsolute,
    /// It has no segment `{name}`, or several.
    #[error("a template has one segment {{name}} for the key, and * for others")]
    NotOneKey,
    /// There is something after the key, which would not be looked at.
    #[error("a template ends with its key; what follows in the path is not looked at")]
    AfterKey,
    /// A segment has braces, a `*` or a `%` among other characters.
    #[error("a segment of a template is plain text, {{name}} or *")]
    NotPlain,
}

// === impl ByPath ===

impl ByPath {
    /// The key is where `template` has `{name}`.
    ///
    /// # Errors
    ///
    /// Returns [`TemplateError`].
    pub fn new(template: &str) -> Result<Self, TemplateError> {
        let rest = template
            .strip_prefix('/')
            .ok_or(TemplateError::NotAbsolute)?;
        let (mut before, mut found) = (Vec::new(), false);
        for segment in rest.split('/') {
            let named = is_name(segment);
            if found {
                return Err(match named {
                    true => TemplateError::NotOneKey,
                    false => TemplateError::AfterKey,
                });
            }
            found = named;
            match segment {
                _ if named => {}
                "*" => before.push(None),
                plain if plain.contains(['{', '}', '*', '%']) => {
                    return Err(TemplateError::NotPlain);
                }
                plain => before.push(Some(plain.into())),
            }
        }
        if !found {
            return Err(TemplateError::NotOneKey);
        }
        Ok(Self {
            before: before.into(),
        })
    }

    /// The segment in the place of the key, still escaped.
    fn find<'q>(&self, path: &'q str) -> Option<&'q str> {
        let mut segments = path.strip_prefix('/')?.split('/');
        for wanted in &self.before {
            let segment = segments.next()?;
            if wanted.as_deref().is_some_and(|wanted| wanted != segment) {
                return None;
            }
        }
        segments.next()
    }
}

impl FromStr for ByPath {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        Self::new(template)
    }
}

impl<B> RouteKey<Request<B>> for ByPath {
    fn missing(&self) -> RouteError {
        RouteError::NoPath
    }

    fn key<'q>(&'q self, request: &'q Request<B>) -> Result<Option<RequestKey<'q>>, RouteError> {
        let Some(segment) = self.find(request.uri().path()) else {
            return Ok(None);
        };
        // Not even unescaped could it be short enough.
        if segment.len() > 3 * RequestKey::MAX_LEN {
            return Err(RouteError::TooLong);
        }
        let text = unescaped(segment).ok_or(RouteError::BadPath)?;
        Ok(Some(text.into()))
    }
}

fn is_name(segment: &str) -> bool {
    let name = (segment.strip_prefix('{')).and_then(|rest| rest.strip_suffix('}'));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(plain))
}

fn unescaped(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(segment.into());
    }
    let mut bytes = segment.bytes();
    let mut plain = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(plain).ok().map(Cow::Owned)
}

fn digit(hex: u8) -> Option<u8> {
    let digit = char::from(hex).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(template: &str, uri: &str) -> Option<Result<String, RouteError>> {
        let request = Request::get(uri).body(()).unwrap();
        let by_path = ByPath::new(template).unwrap();
        let key = by_path.key(&request).transpose()?;
        Some(key.map(|key| format!("{key:?}")))
    }

    fn found(template: &str, uri: &str, expected: &str) {
        let expected = format!("{:?}", RequestKey::from(expected.to_owned()));
        assert_eq!(key(template, uri).unwrap().unwrap(), expected, "{uri}");
    }

    #[test]
    fn key_is_the_named_segment_whatever_follows() {
        found("/users/{user}", "/users/42", "42");
        found("/users/{user}", "/users/42/projects?by=7", "42");
        found("/users/{user}", "https://example.com/users/42/", "42");
        found("/orgs/*/users/{user}", "/orgs/7/users/42", "42");
        found("/{user}", "/42", "42");
    }

    #[test]
    fn path_that_does_not_begin_like_the_template_has_no_key() {
        for uri in ["/", "/users", "/user/42", "/a/users/42", "/us%65rs/42", "*"] {
            assert!(key("/users/{user}", uri).is_none(), "{uri}");
        }
        assert!(key("/orgs/*/users/{user}", "/orgs/7/8/users/42").is_none());
    }

    #[test]
    fn escapes_are_resolved_once_and_after_the_path_was_split() {
        found("/users/{user}", "/users/a%2Fb%2fc/x", "a/b/c");
        found("/users/{user}", "/users/%C3%84%20%2541+", "Ä %41+");
        found("/users/{user}", "/users//42", "");
        found("/users/{user}", "/users/", "");
    }

    #[test]
    fn broken_escapes_and_other_encodings_are_refused() {
        for segment in ["%", "a%4", "%zz", "%+1", "%C3", "%FF%FE", "%ED%A0%80"] {
            let refused = key("/users/{user}", &format!("/users/{segment}"));
            assert!(
                matches!(refused, Some(Err(RouteError::BadPath))),
                "{segment}"
            );
        }
    }

    #[test]
    fn template_says_once_where_the_key_is() {
        for (template, error) in [
            ("users/{user}", TemplateError::NotAbsolute),
            ("", TemplateError::NotAbsolute),
            ("/", TemplateError::NotOneKey),
            ("/users/*", TemplateError::NotOneKey),
            ("/orgs/{org}/{user}", TemplateError::NotOneKey),
            ("/orgs/{org}/users", TemplateError::AfterKey),
            ("/users/{}", TemplateError::NotPlain),
            ("/users/{*rest}", TemplateError::NotPlain),
            ("/users/u{user}", TemplateError::NotPlain),
            ("/b%C3%BC/{user}", TemplateError::NotPlain),
        ] {
            assert_eq!(ByPath::new(template).unwrap_err(), error, "{template}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn key_of_any_bytes_comes_back_as_it_was(text in "\\PC{0,20}") {
            let escaped: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
            prop_assert_eq!(unescaped(&escaped).unwrap(), text);
        }

        #[test]
        fn no_segment_does_harm(segment in "[%0-9a-zA-Z]{0,20}") {
            let _ = unescaped(&segment);
        }
    }
}
