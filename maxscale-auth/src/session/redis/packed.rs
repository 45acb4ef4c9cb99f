//! A session as bytes.
//!
//! ```text
//!  0 format │ 1 level │ 2 methods │ 4 version │ 8 created │ 12 last active
//! 16 authenticated │ 20 idle │ 24 ends │ 28 last active in the rows │ 32 secret hash
//! ```
//!
//! 64 bytes, because Redis keeps a hash as one piece of memory only while no value is
//! longer. Numbers have their highest byte first; times are whole seconds since 1970.
//! What a time lacks of a second makes a session end earlier, never later.
//!
//! The format also says whether fields beside the record belong to it. Few have any, so
//! they are asked for by whoever has seen that, and not with each read.

use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use uuid::Uuid;

use crate::session::record::{Level, Methods, Previous, SecretHash, Session};

pub(super) const LEN: usize = 64;
/// What lies beside the record belongs to it.
const WITH_MORE: u8 = 1;
/// Nothing does.
const ALONE: u8 = 2;
/// Level, end of the grace, hash.
const PREVIOUS_LEN: usize = 37;
const MICROS: i64 = 1_000_000;

/// Packs all of a session that lies in its record, as the rows have it.
pub(super) fn pack(session: &Session) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let more = session.previous.is_some() || session.actor.is_some();
    bytes[0] = if more { WITH_MORE } else { ALONE };
    bytes[1] = session.level.number();
    bytes[2..4].copy_from_slice(&session.methods.bits().to_be_bytes());
    let last = seconds(session.last_active);
    // Rounded up: a session that lasts for less than a second lasts for some.
    let idle = session.idle.as_micros().div_ceil(1_000_000);
    let numbers = [
        session.version,
        seconds(session.created_at),
        last,
        seconds(session.authenticated_at),
        u32::try_from(idle).unwrap_or(u32::MAX),
        seconds(session.ends_at),
        last,
    ];
    for (nth, number) in numbers.into_iter().enumerate() {
        let at = 4 + 4 * nth;
        bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
    bytes[32..].copy_from_slice(session.secret_hash.bytes());
    bytes
}

/// Whether what lies beside a record has to be read too.
pub(super) fn has_more(record: &[u8]) -> bool {
    record.first() == Some(&WITH_MORE)
}

/// Reads a record; `None` if it has another form.
pub(super) fn unpack(
    bytes: &[u8],
    user: Id,
    id: Id,
    previous: Option<&[u8]>,
    actor: Option<&[u8]>,
) -> Option<Session> {
    let bytes: &[u8; LEN] = bytes.try_into().ok()?;
    if !matches!(bytes[0], WITH_MORE | ALONE) {
        return None;
    }
    let number =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Some(Session {
        user,
        id,
        secret_hash: SecretHash::new(bytes[32..].try_into().ok()?),
        created_at: time(number(8)),
        last_active: time(number(12)),
        authenticated_at: time(number(16)),
        idle: Duration::from_secs(number(20).into()),
        ends_at: time(number(24)),
        level: Level::of(bytes[1]),
        methods: Methods::of(u16::from_be_bytes([bytes[2], bytes[3]])),
        version: number(4),
        // What cannot be read is no session: it may be one with less power.
        previous: previous
            .map(|it| unpack_previous(it).ok_or(()))
            .transpose()
            .ok()?,
        actor: actor.map(|it| unpack_id(it).ok_or(())).transpose().ok()?,
    })
}

/// Packs the secret before.
pub(super) fn pack_previous(previous: &Previous) -> [u8; PREVIOUS_LEN] {
    let mut bytes = [0; PREVIOUS_LEN];
    bytes[0] = previous.level.number();
    bytes[1..5].copy_from_slice(&seconds(previous.until).to_be_bytes());
    bytes[5..].copy_from_slice(previous.secret_hash.bytes());
    bytes
}

fn unpack_previous(bytes: &[u8]) -> Option<Previous> {
    let bytes: &[u8; PREVIOUS_LEN] = bytes.try_into().ok()?;
    Some(Previous {
        level: Level::of(bytes[0]),
        until: time(u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]])),
        secret_hash: SecretHash::new(bytes[5..].try_into().ok()?),
    })
}

/// The name of a field beside a session's record: `o` has the secret before, `a` who
/// acts.
pub(super) fn field(kind: u8, session: Id) -> Vec<u8> {
    [&[kind], session.as_uuid().as_bytes().as_slice()].concat()
}

fn unpack_id(bytes: &[u8]) -> Option<Id> {
    Id::from_uuid(Uuid::from_slice(bytes).ok()?).ok()
}

/// Whole seconds since 1970; before it and after 2106 the nearest there are.
pub(super) fn seconds(time: Timestamp) -> u32 {
    let seconds = (time.as_micros() / MICROS).max(0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn time(seconds: u32) -> Timestamp {
    Timestamp::from_micros(i64::from(seconds) * MICROS)
}

#[cfg(test)]
mod tests {
    use maxscale_core::fact::VirtualShard;
    use maxscale_core::id::{IdGenerator, KeyspaceTag};
    use proptest::prelude::*;

    use super::*;
    use maxscale_core::clock::Clock;

    fn id() -> Id {
        IdGenerator::new(Clock::system(), KeyspaceTag::default()).draw(VirtualShard::new(1))
    }

    fn session() -> Session {
        Session {
            user: id(),
            id: id(),
            secret_hash: SecretHash::new(std::array::from_fn(|at| u8::try_from(at).unwrap())),
            created_at: time(0x0102_0304),
            last_active: time(0x1112_1314),
            authenticated_at: time(0x2122_2324),
            idle: Duration::from_secs(0x0031_3233),
            ends_at: time(0x4142_4344),
            level: Level::Aal2,
            methods: Methods::PASSWORD | Methods::RECOVERY,
            version: 7,
            previous: None,
            actor: None,
        }
    }

    #[test]
    fn bytes_are_fixed_for_ever() {
        let mut expected = vec![2, 2, 0, 33, 0, 0, 0, 7, 1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14];
        expected.extend([
            0x21, 0x22, 0x23, 0x24, 0, 0x31, 0x32, 0x33, 0x41, 0x42, 0x43, 0x44,
        ]);
        expected.extend([0x11, 0x12, 0x13, 0x14]);
        expected.extend(0..32);
        assert_eq!(pack(&session()).as_slice(), expected);
        assert!(!has_more(&expected));
        expected[0] = 1;
        let acts = Session {
            actor: Some(id()),
            ..session()
        };
        assert_eq!(pack(&acts).as_slice(), expected);
        assert!(has_more(&expected));

        let previous = Previous {
            secret_hash: SecretHash::new([9; 32]),
            until: time(0x5152_5354),
            level: Level::Aal1,
        };
        let mut expected = vec![1, 0x51, 0x52, 0x53, 0x54];
        expected.extend([9; 32]);
        assert_eq!(pack_previous(&previous).as_slice(), expected);
    }

    #[test]
    fn what_is_no_record_is_no_session() {
        let it = session();
        let bytes = pack(&it);
        let read = |bytes: &[u8], previous: Option<&[u8]>, actor: Option<&[u8]>| {
            unpack(bytes, it.user, it.id, previous, actor).is_some()
        };
        assert!(read(&bytes, None, None));
        assert!(!read(&bytes[..63], None, None));
        assert!(!read(&[bytes.as_slice(), &[0]].concat(), None, None));
        assert!(!read(&[0; 64], None, None), "another format");
        assert!(!read(&bytes, Some(&[1; 36]), None));
        assert!(!read(&bytes, None, Some(&[0; 16])), "no id");
        assert!(!read(&bytes, None, Some(b"")), "an actor nobody knows");
    }

    #[test]
    fn parts_of_a_second_never_lengthen_a_session() {
        let mut it = session();
        it.ends_at = Timestamp::from_micros(1_999_999);
        it.idle = Duration::from_micros(1);
        let read = unpack(&pack(&it), it.user, it.id, None, None).unwrap();
        assert_eq!(read.ends_at, time(1));
        assert_eq!(read.idle, Duration::from_secs(1), "not none at all");
        it.ends_at = Timestamp::from_micros(i64::MAX);
        it.created_at = Timestamp::from_micros(-5);
        let read = unpack(&pack(&it), it.user, it.id, None, None).unwrap();
        assert_eq!((read.ends_at, read.created_at), (time(u32::MAX), time(0)));
    }

    proptest! {
        #[test]
        fn session_comes_back_as_it_was(
            times in any::<[u32; 5]>(), idle: u32, version: u32, methods: u16,
            strong: bool, hash: [u8; 32], before: Option<([u8; 32], u32, bool)>, acts: bool,
        ) {
            let level = |strong| if strong { Level::Aal2 } else { Level::Aal1 };
            let it = Session {
                created_at: time(times[0]),
                last_active: time(times[1]),
                authenticated_at: time(times[2]),
                ends_at: time(times[3]),
                idle: Duration::from_secs(idle.into()),
                version,
                methods: Methods::of(methods),
                level: level(strong),
                secret_hash: SecretHash::new(hash),
                previous: before.map(|(hash, until, strong)| Previous {
                    secret_hash: SecretHash::new(hash),
                    until: time(until),
                    level: level(strong),
                }),
                actor: acts.then(id),
                ..session()
            };
            let previous = it.previous.as_ref().map(pack_previous);
            let previous = previous.as_ref().map(<[u8; 37]>::as_slice);
            let actor = it.actor.map(Id::as_uuid);
            let actor = actor.as_ref().map(|it| it.as_bytes().as_slice());
            let read = unpack(&pack(&it), it.user, it.id, previous, actor);
            prop_assert_eq!(read, Some(it));
        }
    }
}
