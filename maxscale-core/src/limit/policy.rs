use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use super::counts::Counts;
#[cfg(feature = "redis")]
use super::lease::{Mode, Terms};
use super::{Rule, Source, Status};
use crate::meter::Meter;
use crate::refusal::whole_seconds;

/// The header that names a policy: `"name";q=100;w=60` (IETF draft 10).
pub(super) const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The header that tells what is left: `"name";r=9;t=6` (IETF draft 10).
pub(super) const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A rule with the name that clients see in headers and refusals, and with what
/// happens where the store is down. Cheap to clone.
///
/// Keys of different policies never meet, also when their texts are equal.
#[derive(Clone, Debug)]
pub struct Policy(Arc<Shell>);

/// Who counts the clones: threads that each have a shell of their own do not wait for
/// each other to count.
#[derive(Clone, Debug)]
struct Shell(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    name: Arc<str>,
    /// Of the name: what keys of this policy are mixed with.
    mix: u64,
    rule: Rule,
    down: Down,
    shadow: bool,
    #[cfg(feature = "redis")]
    mode: Mode,
    #[cfg(feature = "redis")]
    terms: Option<Terms>,
    counts: Option<Counts>,
    header: HeaderValue,
}

/// What a policy decides while its store cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth way")]
pub enum Down {
    /// This process admits its share: the rule's, divided by how many processes
    /// there were when Redis was last heard of; a process that never heard of it
    /// admits the whole. What was counted in Redis is not known: a quota that was
    /// used up begins anew. Of a rule of fewer requests than there are processes,
    /// each admits one.
    #[default]
    LocalShare,
    /// Everything is admitted.
    Open,
    /// Nothing is admitted; HTTP answers 503 with `Retry-After`.
    Closed,
}

/// A policy that cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The name is empty, or has other characters than the error names.
    #[error("`{name}` is no policy name; use letters, digits, `-`, `_` and `.`")]
    Name {
        /// The name given.
        name: Box<str>,
    },

    /// Its tokens cannot be leased.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    #[error("the limit `{policy}` cannot be leased: {why}")]
    Lease {
        /// The policy's name.
        policy: Box<str>,
        /// What speaks against it.
        why: &'static str,
    },
}

// === impl Policy ===

impl Policy {
    /// A policy whose name is made of ASCII letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Name`] for any other name.
    pub fn new(name: &str, rule: impl Into<Rule>) -> Result<Self, PolicyError> {
        let (checked, rule) = (self::name(name)?, rule.into());
        Ok(Self::of(Inner {
            mix: mix(&checked),
            name: checked,
            rule,
            down: Down::default(),
            shadow: false,
            #[cfg(feature = "redis")]
            mode: Mode::default(),
            #[cfg(feature = "redis")]
            terms: Terms::of(&rule, Mode::default()),
            counts: None,
            header: described(name, &rule),
        }))
    }

    fn of(inner: Inner) -> Self {
        Self(Arc::new(Shell(Arc::new(inner))))
    }

    fn inner(&self) -> &Inner {
        &self.0.0
    }

    fn inner_mut(&mut self) -> &mut Inner {
        Arc::make_mut(&mut Arc::make_mut(&mut self.0).0)
    }

    /// The same policy, whose clones are counted apart.
    #[cfg(feature = "redis")]
    pub(super) fn apart(&self) -> Self {
        Self(Arc::new(Shell::clone(&self.0)))
    }

    /// The same policy with another rule.
    pub(super) fn with_rule(&self, rule: Rule) -> Self {
        let inner = self.inner();
        Self::of(Inner {
            rule,
            header: described(self.name(), &rule),
            #[cfg(feature = "redis")]
            terms: Terms::of(&rule, inner.mode),
            ..inner.clone()
        })
    }

    /// Lets each process take tokens ahead of its requests, and hold them for `ttl`:
    /// most requests then ask nobody. In any window `w` at most
    /// `burst + rate · (w + ttl)` and an eighth of the burst are admitted, whatever
    /// the number of processes. Longer leases ask less, and admit more.
    ///
    /// Default: rates of at least 4 requests in half a second with a burst of 16 or
    /// more are leased for half a second, where they are shared through Redis.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Lease`] for a quota or a log, which promise more than that
    /// allows, and for a lease of less than 10 ms or more than a minute.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn leased(mut self, ttl: Duration) -> Result<Self, PolicyError> {
        if let Some(why) = Terms::refuse(self.rule(), ttl) {
            let policy = self.name().into();
            return Err(PolicyError::Lease { policy, why });
        }
        self.set_mode(Mode::Leased(ttl));
        Ok(self)
    }

    /// Makes every request ask the store: in any window `w` at most
    /// `burst + rate · w` are admitted.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.set_mode(Mode::Strict);
        self
    }

    #[cfg(feature = "redis")]
    fn set_mode(&mut self, mode: Mode) {
        let inner = self.inner_mut();
        inner.mode = mode;
        inner.terms = Terms::of(&inner.rule, mode);
    }

    /// Sets what is decided while the store cannot be asked. Default:
    /// [`Down::LocalShare`].
    #[must_use]
    pub fn when_down(mut self, down: Down) -> Self {
        self.inner_mut().down = down;
        self
    }

    /// Sets whether it only counts what it would deny, and denies nothing.
    /// Default: false.
    #[must_use]
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.inner_mut().shadow = shadow;
        self
    }

    /// Counts what it decides: `maxscale.limit.decisions`, by `maxscale.limit.policy`,
    /// `outcome` (`allowed`, or `denied`, also in its shadow) and `source` (`lease`,
    /// `store`, `deny-cache`, `fallback`). Once for each policy; its clones share the counts.
    #[must_use]
    pub fn measured(mut self, meter: &Meter) -> Self {
        let counts = Counts::register(meter, self.name());
        self.inner_mut().counts = Some(counts);
        self
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.inner().name
    }

    /// What it admits.
    pub fn rule(&self) -> &Rule {
        &self.inner().rule
    }

    /// Of keys with a secret hash, keys of other policies are others.
    pub(super) fn mix(&self) -> u64 {
        self.inner().mix
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        self.inner().name.clone()
    }

    pub(super) fn down(&self) -> Down {
        self.inner().down
    }

    /// Whether it is a clone of the other.
    #[cfg(feature = "redis")]
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.0, &other.0.0)
    }

    /// How its tokens are leased. Not to a shadow, which asks what would be.
    #[cfg(feature = "redis")]
    pub(super) fn lease(&self) -> Option<&Terms> {
        self.inner().terms.as_ref().filter(|_| !self.inner().shadow)
    }

    pub(super) fn is_shadow(&self) -> bool {
        self.inner().shadow
    }

    pub(super) fn count(&self, allowed: bool, source: Source) {
        if let Some(counts) = &self.inner().counts {
            counts.count(allowed, source);
        }
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.inner().header.clone()
    }

    /// Where a client stands.
    pub(super) fn standing(&self, status: &Status, allowed: bool) -> HeaderValue {
        let wait = match allowed {
            true => Some(status.reset),
            false => status.retry_after,
        };
        // Rounded as `Retry-After` is, which clients compare with it.
        let wait = wait.map(whole_seconds);
        let (mut left_digits, mut wait_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        let left = left_digits.format(status.remaining);
        let wait = wait.map(|wait| wait_digits.format(wait));
        let [then, wait] = match &wait {
            Some(wait) => [";t=", *wait],
            None => ["", ""],
        };
        // A formatter takes longer than the decision.
        header(["\"", self.name(), "\";r=", left, then, wait].concat())
    }
}

/// A hash of a policy's name, without a secret: nobody outside chooses names.
/// (Fowler, Noll, Vo: FNV-1a.)
pub(super) fn mix(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A name that may stand in headers, and in keys between colons.
pub(super) fn name(name: &str) -> Result<Arc<str>, PolicyError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || !name.bytes().all(fits) {
        return Err(PolicyError::Name { name: name.into() });
    }
    Ok(name.into())
}

fn described(name: &str, rule: &Rule) -> HeaderValue {
    let (per, window): (u32, Duration) = (rule.per(), rule.window());
    // The draft counts windows in whole seconds and allows to leave them out.
    header(match window.subsec_nanos() {
        0 => format!("\"{name}\";q={per};w={}", window.as_secs()),
        _ => format!("\"{name}\";q={per}"),
    })
}

fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("a policy's name has only characters that headers may have")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Rate;

    #[test]
    fn name_that_would_break_the_header_is_refused() {
        let rate = Rate::per_minute(1).unwrap();
        for name in ["", "a b", "a\"b", "a:b", "ä"] {
            assert!(Policy::new(name, rate).is_err(), "{name}");
        }
    }
}
