use maxscale_tests::{PgBouncer, PostgresServer};
use sqlx::{Connection, Executor, PgConnection, Row};

/// The server's process that one client talks to at the moment.
async fn backend(client: &mut PgConnection) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(client)
        .await
        .unwrap()
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

#[tokio::test]
async fn a_client_has_a_backend_for_a_transaction_only() {
    let server = PostgresServer::shared().await;
    let (database, pooler) = (server.database().await, PgBouncer::start(server).await);
    let url = pooler.url_of(&database);
    let (mut one, mut two) = (connect(&url).await, connect(&url).await);
    one.execute("CREATE TABLE t (id int4)").await.unwrap();

    let mut transaction = one.begin().await.unwrap();
    transaction
        .execute("INSERT INTO t VALUES (42)")
        .await
        .unwrap();
    let first = backend(&mut transaction).await;
    assert_ne!(backend(&mut two).await, first);
    transaction.commit().await.unwrap();

    let mut direct = connect(&database.url()).await;
    let id: i32 = sqlx::query_scalar("SELECT id FROM t")
        .fetch_one(&mut direct)
        .await
        .unwrap();
    assert_eq!(id, 42);
    // Both backends are free, and whoever comes takes the same one.
    assert_eq!(backend(&mut two).await, backend(&mut one).await);
}

#[tokio::test]
async fn a_prepared_statement_goes_on_at_another_backend() {
    let server = PostgresServer::shared().await;
    let (database, pooler) = (server.database().await, PgBouncer::start(server).await);
    let url = pooler.url_of(&database);
    let (mut one, mut two) = (connect(&url).await, connect(&url).await);
    // Prepared under a name, and kept.
    let before = backend(&mut one).await;

    let mut transaction = two.begin().await.unwrap();
    assert_eq!(backend(&mut transaction).await, before);
    let after = backend(&mut one).await;

    assert_ne!(after, before);
}

/// Which is why a client of such a one has to know.
#[tokio::test]
async fn an_unprepared_pooler_knows_no_statement_of_another_backend() {
    let server = PostgresServer::shared().await;
    let (database, pooler) = (
        server.database().await,
        PgBouncer::start_unprepared(server).await,
    );
    let url = pooler.url_of(&database);
    let (mut one, mut two) = (connect(&url).await, connect(&url).await);
    // Prepared under a name, and kept.
    let before = backend(&mut one).await;

    let mut other = two.begin().await.unwrap();
    let taken = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut *other);
    let taken: i32 = taken.await.unwrap().get(0);
    assert_eq!(taken, before);
    let asked = sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()").fetch_one(&mut one);

    let lost = asked.await.unwrap_err();
    let code = lost.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("26000"), "{lost}");
}

#[tokio::test]
async fn a_killed_pooler_comes_back_on_its_port_even_without_its_server() {
    let server = PostgresServer::start().await;
    let pooler = PgBouncer::start(&server).await;

    pooler.kill().await;
    assert!(PgConnection::connect(&pooler.url()).await.is_err());
    server.stop().await;
    pooler.restart().await;
    server.restart().await;

    backend(&mut connect(&pooler.url()).await).await;
}
