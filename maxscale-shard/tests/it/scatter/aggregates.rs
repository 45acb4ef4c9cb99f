use maxscale_shard::scatter::{Aggregate, Aggregated, KeyType, OnFailure, ScatterError};
use maxscale_shard::{Engine, Value, sql};

use super::fixture::{SHARDS, Thing, Things, one_each, things};

on_both!(
    figures_are_those_of_all_rows,
    figures_of_no_rows_are_those_of_one_database,
    sum_that_does_not_fit_is_an_error_and_never_wraps,
    large_values_that_cancel_out_have_a_sum,
    only_integers_are_summed_up,
    figures_without_a_node_name_it,
);

async fn figures(things: &Things, asked: &[Aggregate]) -> Result<Vec<Aggregated>, ScatterError> {
    let scatter = things.router.scatter(self::things());
    scatter.aggregate(asked).await.map(|figures| figures.value)
}

fn all() -> [Aggregate; 7] {
    [
        Aggregate::count(),
        Aggregate::sum("n"),
        Aggregate::avg("n"),
        Aggregate::min("n", KeyType::I64),
        Aggregate::max("n", KeyType::I64),
        Aggregate::min("name", KeyType::Text),
        Aggregate::max("name", KeyType::Text),
    ]
}

async fn figures_are_those_of_all_rows(engine: Engine) {
    let things = Things::fresh(engine).await;
    let mut rows = one_each();
    rows[0].n = None;
    rows[1].n = Some(-5_000_000_000);
    for (row, name) in rows.iter_mut().zip(["b", "B", "a", "ä", "Z", "😀"]) {
        row.name = Some(name.to_owned());
    }
    things.fill(&rows).await;
    let sum: i64 = rows.iter().filter_map(|row| row.n).sum();
    let found = figures(&things, &all()).await.unwrap();
    let Aggregated::Avg(Some(average)) = found[2] else {
        panic!("{found:?}");
    };
    assert_eq!((average.sum(), average.count()), (sum.into(), 63));
    assert!((average.value() - sum as f64 / 63.0).abs() < 1e-6);
    assert_eq!(
        found[..2],
        [Aggregated::Count(64), Aggregated::Sum(Some(sum))]
    );
    assert_eq!(
        found[3..],
        [
            Aggregated::Min((-5_000_000_000_i64).into()),
            Aggregated::Max(i64::from(SHARDS - 1).into()),
            // As bytes: neither "a" nor "😀" would be it by a language's rules.
            Aggregated::Min("B".into()),
            Aggregated::Max("😀".into()),
        ]
    );
}

async fn figures_of_no_rows_are_those_of_one_database(engine: Engine) {
    let things = Things::fresh(engine).await;
    let found = figures(&things, &all()).await.unwrap();
    assert_eq!(
        found,
        [
            Aggregated::Count(0),
            Aggregated::Sum(None),
            Aggregated::Avg(None),
            Aggregated::Min(Value::I64(None)),
            Aggregated::Max(Value::I64(None)),
            Aggregated::Min(Value::Text(None)),
            Aggregated::Max(Value::Text(None)),
        ]
    );
}

fn of(values: &[(u32, i64)]) -> Vec<Thing> {
    let thing = |(id, &(shard, n)): (u128, &(u32, i64))| Thing {
        shard,
        id,
        n: Some(n),
        ..Thing::default()
    };
    (1..).zip(values).map(thing).collect()
}

async fn sum_that_does_not_fit_is_an_error_and_never_wraps(engine: Engine) {
    // On one node, and on two.
    for shards in [[0, 1], [0, SHARDS - 1]] {
        for (value, more) in [(i64::MAX, 1), (i64::MIN, -1)] {
            let things = Things::fresh(engine).await;
            things.fill(&of(&[(shards[0], value)])).await;
            let sum = [Aggregate::sum("n"), Aggregate::avg("n")];
            let found = figures(&things, &sum).await.unwrap();
            assert_eq!(found[0], Aggregated::Sum(Some(value)));

            things.clear().await;
            things
                .fill(&of(&[(shards[0], value), (shards[1], more)]))
                .await;
            let refused = figures(&things, &sum).await;
            assert!(
                matches!(refused, Err(ScatterError::Overflow { .. })),
                "{refused:?}"
            );
            let average = figures(&things, &sum[1..]).await.unwrap();
            let Aggregated::Avg(Some(average)) = average[0] else {
                panic!("{average:?}");
            };
            assert_eq!(average.sum(), i128::from(value) + i128::from(more));
        }
    }
}

async fn large_values_that_cancel_out_have_a_sum(engine: Engine) {
    let things = Things::fresh(engine).await;
    let values = [
        (0, i64::MAX),
        (0, i64::MAX),
        (1, i64::MIN),
        (63, i64::MIN),
        (63, 40),
        (20, 2),
    ];
    things.fill(&of(&values)).await;
    let found = figures(&things, &[Aggregate::sum("n")]).await.unwrap();
    assert_eq!(found, [Aggregated::Sum(Some(40))]);
}

async fn only_integers_are_summed_up(engine: Engine) {
    let things = Things::fresh(engine).await;
    things.fill(&one_each()).await;
    let halves = sql("SELECT n / 2.0 AS n FROM thing WHERE shard_id = ANY($shards)");
    let refused = things
        .router
        .scatter(halves)
        .aggregate(&[Aggregate::sum("n")])
        .await;
    match engine {
        Engine::Postgres => assert!(matches!(refused, Err(ScatterError::Failed { .. }))),
        Engine::Sqlite => assert!(matches!(refused, Err(ScatterError::NotIntegers { .. }))),
    }
    for bad in [
        Aggregate::min("flag", KeyType::Bool),
        Aggregate::sum("n) --"),
    ] {
        assert!(figures(&things, &[bad]).await.is_err());
    }
}

async fn figures_without_a_node_name_it(engine: Engine) {
    let things = Things::fresh(engine).await;
    things.fill(&one_each()).await;
    things
        .node(3)
        .execute(sql("DROP TABLE thing"))
        .await
        .unwrap();
    let scatter = things.router.scatter(self::things());
    let enough = scatter.on_failure(OnFailure::BestEffort { min_ok: 1 });
    let found = enough.aggregate(&[Aggregate::count()]).await.unwrap();
    assert_eq!(found.value, [Aggregated::Count(48)]);
    assert_eq!(found.failures[0].node.as_str(), "node-4");
}
