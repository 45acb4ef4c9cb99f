//! All keys of a realm and their states, as one value: what is sealed and stored.
//!
//! ```text
//!  1 format │ for each key: 1 algorithm │ 1 state │ 8 since, in microseconds │ 32 private key
//! ```
//!
//! A key that is gone is not in it: nothing of it is kept.

use maxscale_core::clock::Timestamp;
use zeroize::Zeroizing;

use super::keys::{Keys, KeysError};
use super::public::Algorithm;
use super::rotation::{KeyState, Step};
use super::signing::{LEN, SigningKey};

/// The keys of a realm.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyRecord(Vec<Kept>);

#[derive(Clone, Debug)]
struct Kept {
    key: SigningKey,
    state: KeyState,
    since: Timestamp,
}

const FORMAT: u8 = 1;
const SINCE: usize = 2;
const KEY: usize = SINCE + 8;
const ENTRY: usize = KEY + LEN;

// === impl KeyRecord ===

impl KeyRecord {
    /// What [`Rotation::step`](super::Rotation::step) decides by.
    pub(super) fn states(&self) -> Vec<(KeyState, Timestamp)> {
        self.0.iter().map(|it| (it.state, it.since)).collect()
    }

    /// What signs and verifies.
    pub(super) fn keys(&self) -> Result<Keys, KeysError> {
        Keys::new(self.0.iter().map(|it| (it.key.clone(), it.state)))
    }

    /// The keys once `step` is done; `draw` gives a new one.
    pub(super) fn after<E>(
        &self,
        step: Step,
        now: Timestamp,
        draw: impl FnOnce() -> Result<SigningKey, E>,
    ) -> Result<Self, E> {
        let mut kept = self.0.clone();
        let since = now;
        match step {
            Step::Add(state) => {
                let key = draw()?;
                kept.push(Kept { key, state, since });
            }
            Step::Promote(place) => {
                for (at, it) in kept.iter_mut().enumerate() {
                    let state = match it.state {
                        _ if at == place => KeyState::Active,
                        KeyState::Active => KeyState::Retiring,
                        _ => continue,
                    };
                    (it.state, it.since) = (state, since);
                }
            }
            Step::Remove(place) => {
                kept.remove(place);
            }
        }
        Ok(Self(kept))
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // As long as it will be: one that grows leaves keys behind in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + self.0.len() * ENTRY));
        bytes.push(FORMAT);
        for it in &self.0 {
            bytes.extend([algorithm_number(it.key.algorithm()), state_number(it.state)]);
            bytes.extend(it.since.as_micros().to_be_bytes());
            bytes.extend_from_slice(it.key.to_bytes().expose());
        }
        bytes
    }

    /// `None` for what [`to_bytes`](Self::to_bytes) does not write.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (format, entries) = bytes.split_first()?;
        let (entries, rest) = entries.as_chunks::<ENTRY>();
        (*format == FORMAT && rest.is_empty()).then_some(())?;
        let kept = entries.iter().map(Kept::read).collect::<Option<_>>()?;
        Some(Self(kept))
    }
}

// === impl Kept ===

impl Kept {
    fn read(entry: &[u8; ENTRY]) -> Option<Self> {
        let since = entry[SINCE..KEY].try_into().ok()?;
        let key = Zeroizing::new(entry[KEY..].try_into().ok()?);
        Some(Self {
            key: SigningKey::from_bytes(algorithm(entry[0])?, &key).ok()?,
            state: state(entry[1])?,
            since: Timestamp::from_micros(i64::from_be_bytes(since)),
        })
    }
}

// The numbers are stored.

const fn algorithm_number(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::EdDsa => 1,
        Algorithm::Es256 => 2,
    }
}

const fn algorithm(number: u8) -> Option<Algorithm> {
    match number {
        1 => Some(Algorithm::EdDsa),
        2 => Some(Algorithm::Es256),
        _ => None,
    }
}

const fn state_number(state: KeyState) -> u8 {
    match state {
        KeyState::Next => 1,
        KeyState::Active => 2,
        KeyState::Retiring => 3,
        KeyState::Gone => 4,
    }
}

const fn state(number: u8) -> Option<KeyState> {
    match number {
        1 => Some(KeyState::Next),
        2 => Some(KeyState::Active),
        3 => Some(KeyState::Retiring),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::SigningKeyError;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn record() -> KeyRecord {
        let steps = [
            (Step::Add(KeyState::Active), Algorithm::EdDsa),
            (Step::Add(KeyState::Next), Algorithm::Es256),
            (Step::Promote(1), Algorithm::EdDsa),
            (Step::Add(KeyState::Next), Algorithm::EdDsa),
        ];
        let mut record = KeyRecord::default();
        for (second, (step, algorithm)) in (1..).zip(steps) {
            let draw = || SigningKey::random(algorithm);
            record = record.after(step, at(second), draw).unwrap();
        }
        record
    }

    #[test]
    fn what_is_written_is_read() {
        let record = record();
        let read = KeyRecord::read(&record.to_bytes()).unwrap();
        let states = [
            (KeyState::Retiring, at(3)),
            (KeyState::Active, at(3)),
            (KeyState::Next, at(4)),
        ];
        assert_eq!(read.states(), states);
        assert_eq!(read.keys().unwrap().jwks(), record.keys().unwrap().jwks());
        assert_eq!(read.keys().unwrap().active().kid(), record.0[1].key.kid());
    }

    #[test]
    fn key_that_is_removed_is_nowhere_in_it() {
        let record = record();
        let old = record.0[0].key.to_bytes();
        let draw = || Err::<_, SigningKeyError>(SigningKeyError::Bytes(Algorithm::EdDsa));
        let after = record.after(Step::Remove(0), at(9), draw).unwrap();
        let has = |record: &KeyRecord| {
            let bytes = record.to_bytes();
            bytes.windows(LEN).any(|it| it == old.expose())
        };
        assert!(has(&record) && !has(&after));
        assert_eq!(after.states().len(), 2);
    }

    #[test]
    fn anything_else_is_no_record() {
        let good = record().to_bytes();
        assert!(KeyRecord::read(&[]).is_none());
        assert!(KeyRecord::read(&good[..good.len() - 1]).is_none());
        assert!(KeyRecord::read(&[&good[..], &[0]].concat()).is_none());
        for (place, bad) in [(0, 2), (1, 0), (1, 3), (2, 0), (2, 4)] {
            let mut bytes = good.to_vec();
            bytes[place] = bad;
            assert!(KeyRecord::read(&bytes).is_none(), "{place} {bad}");
        }
    }
}
