use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

fn key(of: KeyType, descending: bool, nulls: Option<bool>) -> OrderKey {
    let key = match descending {
        true => OrderKey::desc("x", of),
        false => OrderKey::asc("x", of),
    };
    match nulls {
        None => key,
        Some(true) => key.nulls_first(),
        Some(false) => key.nulls_last(),
    }
}

fn values() -> impl Strategy<Value = (KeyType, [Value; 2])> {
    let two = |of, value: BoxedStrategy<Value>| {
        (value.clone(), value).prop_map(move |(a, b)| (of, [a, b]))
    };
    // Few letters, so that one is often the beginning of the other.
    let bytes = prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 0xff]), 0..4);
    let text = prop::collection::vec(
        prop::sample::select(vec!["\u{1}", "a", "Z", "é", "😀"]),
        0..4,
    );
    let text = text.prop_map(|parts| parts.concat());
    prop_oneof![
        two(
            KeyType::I64,
            any::<Option<i64>>().prop_map(Value::I64).boxed()
        ),
        two(
            KeyType::Bool,
            any::<Option<bool>>().prop_map(Value::Bool).boxed()
        ),
        two(
            KeyType::Uuid,
            any::<Option<[u8; 16]>>()
                .prop_map(|v| Value::Uuid(v.map(Uuid::from_bytes)))
                .boxed()
        ),
        two(
            KeyType::Text,
            prop::option::of(text).prop_map(Value::Text).boxed()
        ),
        two(
            KeyType::Bytes,
            prop::option::of(bytes).prop_map(Value::Bytes).boxed()
        ),
    ]
}

/// As SQL compares them.
fn compared(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::I64(a), Value::I64(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        _ => panic!("of different types"),
    }
}

proptest! {
    #[test]
    fn ranks_are_in_the_order_of_the_values(
        (of, [a, b]) in values(),
        (of_second, [c, d]) in values(),
        descending: bool,
        first: bool,
    ) {
        let key = key(of, descending, Some(first));
        let second = OrderKey { column: "y".to_owned(), ..self::key(of_second, false, Some(true)) };
        let order = OrderBy::new([key, second]).unwrap();
        let nulls = match (is_null(&a), is_null(&b), first) {
            (false, false, _) => None,
            (true, true, _) => Some(Ordering::Equal),
            (true, false, true) | (false, true, false) => Some(Ordering::Less),
            (true, false, false) | (false, true, true) => Some(Ordering::Greater),
        };
        let by_value = || if descending { compared(&b, &a) } else { compared(&a, &b) };
        let wanted = nulls.unwrap_or_else(by_value).then_with(|| compared(&c, &d));
        let rank = |x: &Value, y: &Value| order.rank(&[x.clone(), y.clone()]);
        prop_assert_eq!(rank(&a, &c).cmp(&rank(&b, &d)), wanted);
    }
}

#[test]
fn clause_says_collation_direction_and_nulls() {
    let order = OrderBy::new([
        OrderKey::desc("title", KeyType::Text).nulls_last(),
        OrderKey::asc("id", KeyType::Uuid),
    ]);
    let order = order.unwrap();
    assert_eq!(
        order.clause(Engine::Postgres),
        r#"leg."title"::text COLLATE "C" DESC NULLS LAST, leg."id""#
    );
    assert_eq!(
        order.clause(Engine::Sqlite),
        r#"leg."title" COLLATE BINARY DESC NULLS LAST, leg."id""#
    );
}

#[test]
fn order_that_cannot_be_merged_is_refused() {
    for name in [
        "title COLLATE \"de_DE\"",
        "created_at desc",
        "lower(title)",
        "x\" --",
        "",
        "Title",
    ] {
        let refused = OrderBy::new([OrderKey::asc(name, KeyType::Text)]);
        assert_eq!(refused, Err(OrderError::Name(name.to_owned())));
    }
    let twice = [
        OrderKey::asc("a", KeyType::I64),
        OrderKey::desc("a", KeyType::I64),
    ];
    assert_eq!(OrderBy::new(twice), Err(OrderError::Twice("a".to_owned())));
    assert_eq!(OrderBy::new([]), Err(OrderError::Count(0)));
}
