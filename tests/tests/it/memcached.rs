use maxscale_tests::MemcachedServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn a_memcached_comes_back_empty_on_its_port() {
    let server = MemcachedServer::start().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"set k 0 0 1\r\n1\r\n").await.unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"STORED\r\n");
    assert_eq!(server.stat("curr_items").await, 1);

    server.kill().await;
    assert!(TcpStream::connect(server.address()).await.is_err());
    server.restart().await;

    assert_eq!(server.stat("curr_items").await, 0);
}
