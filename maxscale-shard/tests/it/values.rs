use maxscale_shard::{Database, Engine, Row, ShardError, Sql, sql};
use uuid::Uuid;

use crate::support::{Nodes, note, noted};

on_both!(
    every_kind_of_value_comes_back_as_it_went,
    null_of_every_kind_comes_back_as_none,
    wrong_reads_are_errors,
    row_with_the_same_key_is_unique_violation,
    statement_that_gives_no_row_is_told_apart,
    row_of_a_statement_that_fails_after_it_is_not_given,
);

const TABLE: Sql = Sql::each(
    "CREATE TABLE kind (id bigint PRIMARY KEY, u uuid, i bigint, n integer,
     f double precision, b boolean, t text, y bytea)",
    "CREATE TABLE kind (id INTEGER PRIMARY KEY, u BLOB, i INTEGER, n INTEGER,
     f REAL, b INTEGER, t TEXT, y BLOB)",
);
const PUT: Sql =
    Sql::both("INSERT INTO kind (id, u, i, n, f, b, t, y) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");
const GET: Sql = Sql::both("SELECT u, i, n, f, b, t, y FROM kind WHERE id = $1");

async fn kinds(engine: Engine) -> (Nodes, Database) {
    let nodes = Nodes::fresh(engine, 1).await;
    let database = nodes.database().await;
    database.execute(TABLE.statement()).await.unwrap();
    (nodes, database)
}

async fn get(database: &Database, id: i64) -> Row {
    let row = database.fetch_optional(GET.statement().bind(id)).await;
    row.unwrap().expect("the row was put")
}

async fn every_kind_of_value_comes_back_as_it_went(engine: Engine) {
    let (_nodes, database) = kinds(engine).await;
    let texts = [
        "",
        "Ünïcødé 🎵 \u{200f}\n",
        "'; DROP TABLE kind; --",
        "日本語",
    ];
    let bytes: [&[u8]; 4] = [&[], &[0], &[0, 255, 0], b"plain"];
    let longs = [i64::MIN, -1, 0, i64::MAX];
    let shorts = [i32::MIN, -1, 131_071, i32::MAX];
    let floats = [0.1, f64::MIN, f64::MAX, f64::MIN_POSITIVE];
    for (id, at) in (0_i64..).zip(0..4) {
        let uuid = Uuid::new_v4();
        let put = PUT
            .statement()
            .bind(id)
            .bind(uuid)
            .bind(longs[at])
            .bind(shorts[at])
            .bind(floats[at])
            .bind(at % 2 == 0)
            .bind(texts[at])
            .bind(bytes[at]);
        assert_eq!(database.execute(put).await.unwrap(), 1);

        let row = get(&database, id).await;
        assert_eq!(row.get::<Uuid>("u").unwrap(), uuid);
        assert_eq!(row.get::<i64>("i").unwrap(), longs[at]);
        assert_eq!(row.get::<i64>("n").unwrap(), i64::from(shorts[at]));
        assert_eq!(row.get::<f64>("f").unwrap().to_bits(), floats[at].to_bits());
        assert_eq!(row.get::<bool>("b").unwrap(), at % 2 == 0);
        assert_eq!(row.get::<String>("t").unwrap(), texts[at]);
        assert_eq!(row.get::<Vec<u8>>("y").unwrap(), bytes[at]);
        assert_eq!(row.get::<Option<Vec<u8>>>("y").unwrap().unwrap(), bytes[at]);
    }
}

async fn null_of_every_kind_comes_back_as_none(engine: Engine) {
    let (_nodes, database) = kinds(engine).await;
    let put = PUT
        .statement()
        .bind(1_i64)
        .bind(None::<Uuid>)
        .bind(None::<i64>)
        .bind(None::<i32>)
        .bind(None::<f64>)
        .bind(None::<bool>)
        .bind(None::<&str>)
        .bind(None::<Vec<u8>>);
    database.execute(put).await.unwrap();

    let row = get(&database, 1).await;
    assert_eq!(row.get::<Option<Uuid>>("u").unwrap(), None);
    assert_eq!(row.get::<Option<i64>>("i").unwrap(), None);
    assert_eq!(row.get::<Option<i64>>("n").unwrap(), None);
    assert_eq!(row.get::<Option<f64>>("f").unwrap(), None);
    assert_eq!(row.get::<Option<bool>>("b").unwrap(), None);
    assert_eq!(row.get::<Option<String>>("t").unwrap(), None);
    assert_eq!(row.get::<Option<Vec<u8>>>("y").unwrap(), None);
    // What is null is no value of the bare type.
    assert!(row.get::<i64>("n").is_err());
    assert!(row.get::<String>("t").is_err());
    assert!(row.get::<Uuid>("u").is_err());
    assert!(row.get::<bool>("b").is_err());
    assert!(row.get::<f64>("f").is_err());
    assert!(row.get::<Vec<u8>>("y").is_err());
}

async fn wrong_reads_are_errors(engine: Engine) {
    let (_nodes, database) = kinds(engine).await;
    let put = PUT
        .statement()
        .bind(1_i64)
        .bind(Uuid::new_v4())
        .bind(1_i64)
        .bind(1_i64)
        .bind(0.5)
        .bind(true)
        .bind("text")
        .bind(&[1_u8, 2, 3][..]);
    database.execute(put).await.unwrap();

    let row = get(&database, 1).await;
    let absent = row.get::<i64>("absent").unwrap_err();
    assert!(matches!(&absent, ShardError::Column { column, .. } if column == "absent"));
    assert_eq!(absent.to_string(), "cannot read column absent");
    assert!(row.get::<i64>("t").is_err());
    assert!(row.get::<Option<i64>>("t").is_err());
    assert!(row.get::<String>("i").is_err());
    assert!(row.get::<Uuid>("t").is_err());
    // Three bytes are no UUID.
    assert!(row.get::<Uuid>("y").is_err());
    assert!(row.get::<f64>("t").is_err());
    assert!(row.get::<bool>("t").is_err());
}

async fn row_with_the_same_key_is_unique_violation(engine: Engine) {
    let (_nodes, database) = noted(engine).await;
    let mut conn = database.writer().await.unwrap();
    conn.execute(note(1, 1)).await.unwrap();

    let again = conn.execute(note(1, 1)).await.unwrap_err();
    assert!(matches!(again, ShardError::Unique { .. }), "{again:?}");
    // The connection is none the worse.
    conn.execute(note(1, 2)).await.unwrap();
}

async fn statement_that_gives_no_row_is_told_apart(engine: Engine) {
    let (_nodes, database) = noted(engine).await;
    let mut conn = database.reader().await.unwrap();
    let none = sql("SELECT n FROM note");

    assert!(conn.fetch_optional(none.clone()).await.unwrap().is_none());
    let missing = conn.fetch_one(none).await.unwrap_err();
    assert!(matches!(missing, ShardError::NoRow { .. }), "{missing:?}");
}

/// The constraint is checked when the statement commits, after its row.
async fn row_of_a_statement_that_fails_after_it_is_not_given(engine: Engine) {
    let nodes = Nodes::fresh(engine, 1).await;
    let database = nodes.database().await;
    let table = "CREATE TABLE leaf (id bigint PRIMARY KEY,
        root bigint REFERENCES leaf (id) DEFERRABLE INITIALLY DEFERRED)";
    database.execute(sql(table)).await.unwrap();
    let orphan = sql("INSERT INTO leaf (id, root) VALUES (1, 2) RETURNING id");

    let mut conn = database.writer().await.unwrap();
    let given = conn.fetch_optional(orphan).await;

    assert!(
        matches!(given, Err(ShardError::Statement { .. })),
        "{given:?}"
    );
    let rows = conn.fetch_all(sql("SELECT id FROM leaf")).await.unwrap();
    assert_eq!(rows.len(), 0);
}
