use maxscale_core::clock::Clock;
use maxscale_core::fact::RegionId;
use maxscale_core::id::{IdGenerator, KeyspaceTag};
use uuid::Uuid;

use super::*;

fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

fn eu_and_us() -> Vindex {
    "region:eu=0+256,us=256+512".parse().unwrap()
}

fn slot<'k>(vindex: &Vindex, key: impl Into<Key<'k>>) -> u32 {
    vindex.shard(key, 1024).unwrap().get()
}

#[test]
fn golden_values_hold_for_ever() {
    assert_eq!(slot(&Vindex::Md5, "42"), 217);
    assert_eq!(slot(&Vindex::Md5, 42), 217);
    assert_eq!(slot(&Vindex::Sha256, "42"), 180);
    let uuid: Uuid = "0190163d-8694-739b-aea5-966c26f8ad91".parse().unwrap();
    // Answered by the XXH3 of its authors.
    for (key, golden) in [
        (Key::from(""), 194),
        ("42".into(), 401),
        ("a".into(), 543),
        ("schlüssel 🎵 1".into(), 393),
        (uuid.into(), 7),
        (i64::MIN.into(), 145),
    ] {
        assert_eq!(slot(&Vindex::Xxh3, key), golden, "{key:?}");
    }
    assert_eq!(Vindex::Xxh3.shard("42", 1000).unwrap().get(), 473);
}

#[test]
fn fold_takes_the_extremes() {
    assert_eq!(
        [i64::MIN, -1, 0, i64::MAX].map(|h| fold(h, 1024)),
        [0, 1, 0, 1023]
    );
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn fold_is_postgres_own() {
    use crate::{Database, DatabaseOptions, sql};

    let server = maxscale_tests::PostgresServer::shared().await;
    let database = server.database().await;
    let handle = Database::open("test", &database.url(), &DatabaseOptions::default()).unwrap();
    for raw in [i64::MIN, i64::MIN + 1, -1025, -1024, -1, 0, 1, i64::MAX] {
        for count in [1, 7, 256, 1000, 1024, 131_072] {
            let asked = sql("SELECT ABS(CAST($1 AS bigint) % CAST($2 AS bigint)) AS folded");
            let rows = handle.fetch_all(asked.bind(raw).bind(count)).await.unwrap();
            let folded: i64 = rows[0].get("folded").unwrap();
            assert_eq!(i64::from(fold(raw, count)), folded, "{raw} {count}");
        }
    }
}

#[test]
fn id_goes_by_its_bits_in_every_keyspace() {
    let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
    let id = ids.draw(VirtualShard::new(77));
    for vindex in [Vindex::Id, Vindex::Md5, Vindex::Xxh3, eu_and_us()] {
        assert_eq!(slot(&vindex, id), 77, "{vindex}");
    }
    // Where keys are ids, any form of one is; elsewhere the form is text.
    assert_eq!(slot(&Vindex::Id, id.as_uuid()), 77);
    assert_eq!(slot(&Vindex::Id, &id.to_string()), 77);
    let text = slot(&Vindex::Md5, &id.to_string());
    assert_eq!(slot(&Vindex::Md5, id.as_uuid()), text);
}

#[test]
fn key_that_is_no_id_has_no_place_where_keys_are_ids() {
    let refused = |key: Key<'_>| {
        let refused = Vindex::Id.shard(key, 1024);
        assert!(matches!(refused, Err(KeyError::NotAnId(_))), "{key:?}");
    };
    refused("acme".into());
    refused(42.into());
    refused(Uuid::new_v4().into());
}

#[test]
fn key_of_a_region_stays_in_its_range() {
    let (vindex, eu, us) = (eu_and_us(), region("eu"), region("us"));
    for number in 0..2_000 {
        let key = Key::from(number);
        let in_eu = slot(&vindex, key.within(&eu));
        let in_us = slot(&vindex, key.within(&us));
        assert!(in_eu < 256 && (256..768).contains(&in_us), "{number}");
        assert_eq!(in_eu, Vindex::Md5.shard(key, 256).unwrap().get());
        assert_eq!(in_us, 256 + Vindex::Md5.shard(key, 512).unwrap().get());
    }
    assert!(matches!(vindex.shard(1, 1024), Err(KeyError::NoRegion)));
    let mars = region("mars");
    assert!(matches!(
        vindex.shard(Key::from(1).within(&mars), 1024),
        Err(KeyError::UnknownRegion(_))
    ));
}

#[test]
fn owner_of_a_shard_is_the_region_whose_range_it_is_in() {
    let Vindex::Region(regions) = eu_and_us() else {
        panic!("a region vindex");
    };
    let owner = |slot| regions.owner(VirtualShard::new(slot)).map(RegionId::as_str);
    assert_eq!(
        [0, 255, 256, 767, 768].map(owner),
        [Some("eu"), Some("eu"), Some("us"), Some("us"), None]
    );
}

#[test]
fn stored_name_reads_back_as_the_same_vindex() {
    for name in ["id", "md5", "sha256", "xxh3", "region:eu=0+256,us=256+512"] {
        assert_eq!(name.parse::<Vindex>().unwrap().to_string(), name);
    }
    // One name however the regions were listed.
    let listed: Vindex = "region:us=256+512,eu=0+256".parse().unwrap();
    assert_eq!(listed, eu_and_us());
}

#[test]
fn names_of_no_vindex_and_impossible_regions_are_refused() {
    use RegionsError as E;
    assert!(matches!(
        "MD5".parse(),
        Err::<Vindex, _>(VindexError::Unknown(_))
    ));
    let refused = |ranges: &str| ranges.parse::<Regions>().unwrap_err();
    assert!(matches!(refused(""), E::Unreadable(_)));
    assert!(matches!(refused("eu=0-256"), E::Unreadable(_)));
    assert_eq!(Regions::new([]), Err(E::None));
    assert_eq!(refused("eu=0+0"), E::Empty(region("eu")));
    assert_eq!(refused("eu=0+4,eu=4+4"), E::Twice(region("eu")));
    let overlap = E::Overlap(region("eu"), region("us"));
    assert_eq!(refused("us=255+4,eu=0+256"), overlap);
    // Ends that wrap would hide both an overlap and the end of the keyspace.
    let wrap = "eu=4294967295+4294967295".parse::<Regions>().unwrap();
    assert!(matches!(wrap.fit(1024), Err(E::Beyond { .. })));
    let Vindex::Region(fits) = eu_and_us() else {
        panic!("a region vindex");
    };
    assert_eq!(fits.fit(768), Ok(()));
    assert!(matches!(fits.fit(767), Err(E::Beyond { end: 768, .. })));
}

/// Where p is 0.001, by Wilson and Hilferty: what lies above is not even.
fn limit(freedom: f64) -> f64 {
    let part = 2.0 / (9.0 * freedom);
    freedom * (1.0 - part + 3.0902 * part.sqrt()).powi(3)
}

fn chi_square(slots: impl Iterator<Item = u32>, count: u32) -> f64 {
    let mut held = vec![0_u32; count as usize];
    let mut all = 0.0;
    for slot in slots {
        held[slot as usize] += 1;
        all += 1.0;
    }
    let expected = all / f64::from(count);
    let part = |n: &u32| (f64::from(*n) - expected).powi(2) / expected;
    held.iter().map(part).sum()
}

#[test]
fn keys_spread_evenly_over_1024() {
    let keys = 0..100_000_i64;
    for vindex in [Vindex::Md5, Vindex::Sha256, Vindex::Xxh3] {
        let numbers = chi_square(keys.clone().map(|n| slot(&vindex, n)), 1024);
        let texts = keys.clone().map(|n| format!("tenant-{n}@example.org"));
        let texts = chi_square(texts.map(|text| slot(&vindex, &text)), 1024);
        assert!(numbers < limit(1023.0), "{vindex} {numbers}");
        assert!(texts < limit(1023.0), "{vindex} {texts}");
    }
    let (vindex, us) = (eu_and_us(), region("us"));
    let in_us = keys.map(|n| slot(&vindex, Key::from(n).within(&us)) - 256);
    let in_us = chi_square(in_us, 512);
    assert!(in_us < limit(511.0), "{in_us}");
}
