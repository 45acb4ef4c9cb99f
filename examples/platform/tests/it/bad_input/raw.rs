//! What no client library sends: bytes on a socket.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{LIMIT, assert_problem};
use crate::client::Answer;
use crate::service::Service;

/// A connection to the service.
pub(super) async fn connect(service: &Service) -> TcpStream {
    let address = service.base().trim_start_matches("http://");
    TcpStream::connect(address).await.unwrap()
}

/// Reads one answer, and no further.
pub(super) async fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let read =
        async { while !is_whole(&bytes) && stream.read_buf(&mut bytes).await.unwrap() > 0 {} };
    timeout(LIMIT, read).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{text:?}"));
    let mut lines = head.lines();
    let status: u16 = lines.next().unwrap()[9..12].parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status.try_into().unwrap(),
        headers: headers
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect(),
        body: serde_json::from_str(body).unwrap_or_default(),
    }
}

/// Whether the head is there, and as much of a body as it promises.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        let length = head.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next());
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        body.len() >= length
    })
}

async fn exchange(service: &Service, request: &[u8]) -> Answer {
    let mut stream = connect(service).await;
    stream.write_all(request).await.unwrap();
    answer(&mut stream).await
}

#[tokio::test]
async fn hostile_header_is_neither_a_fault_nor_echoed_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path());
    let service = Service::start(builder.env("MAXSCALE__OTEL__TRUSTED", "127.0.0.1")).await;
    let long = "a".repeat(129);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (header, value, taken) in [
        ("x-request-id", b"req-1" as &[u8], true),
        // Graphic ASCII is taken; the body escapes what JSON asks to.
        ("x-request-id", br#""}<script>alert(1)</script>\"#, true),
        ("x-request-id", b"two words", false),
        ("x-request-id", b"tab\there", false),
        ("x-request-id", b"\xff\xfe", false),
        ("x-request-id", long.as_bytes(), false),
        ("x-request-id", b"", false),
        ("traceparent", trace.as_bytes(), true),
        ("traceparent", b"00-<script>-x-y", false),
        ("traceparent", b"\xff", false),
        ("traceparent", "00-".repeat(2000).as_bytes(), false),
    ] {
        let mut request = b"GET /v1/me HTTP/1.1\r\nhost: h\r\nconnection: close\r\n".to_vec();
        request.extend([header.as_bytes(), b": ", value, b"\r\n\r\n"].concat());
        let answer = exchange(&service, &request).await;
        assert_problem(&answer, 401, "not_logged_in");
        let value = String::from_utf8_lossy(value);
        let echoed = match header {
            "traceparent" => value.contains(&answer.text("/trace_id")),
            _ => answer.text("/request_id") == value,
        };
        assert_eq!(echoed, taken, "{header}: {value}: {answer:?}");
    }
}

#[tokio::test]
async fn time_that_a_caller_asks_for_is_taken_if_it_is_one_and_shorter() {
    let folder = tempfile::tempdir().unwrap();
    // Long enough for what is to be answered in it.
    let builder = Service::builder(folder.path()).env("MAXSCALE__HTTP__DEADLINE", "5s");
    let service = Service::start(builder).await;
    let long = "9".repeat(30_000);
    for (value, over) in [
        (b"0" as &[u8], true),
        (b"60000", false),
        (b"-1", false),
        (b"1e9", false),
        (b"\xff", false),
        (long.as_bytes(), false),
    ] {
        let mut request = b"GET /v1/me HTTP/1.1\r\nhost: h\r\nconnection: close\r\n".to_vec();
        request.extend([b"x-request-timeout-ms: ", value, b"\r\n\r\n"].concat());
        let answer = exchange(&service, &request).await;
        if over {
            assert_problem(&answer, 504, "timeout");
        } else {
            assert_problem(&answer, 401, "not_logged_in");
        }
    }
    // Nobody gets more than the service grants.
    let request = "POST /v1/login HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
                   x-request-timeout-ms: 99999999\r\n\
                   content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"email\":";
    let answer = exchange(&service, request.as_bytes()).await;
    assert_problem(&answer, 504, "timeout");
}

#[tokio::test]
async fn request_that_is_too_much_for_http_itself_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let many = (0..200)
        .map(|n| format!("x-{n}: 1\r\n"))
        .collect::<String>();
    let (path, large) = ("a".repeat(70_000), "a".repeat(1_000_000));
    for (request, status) in [
        (format!("GET /v1/me HTTP/1.1\r\nhost: h\r\n{many}\r\n"), 431),
        (format!("GET /v1/me HTTP/1.1\r\nx-a: {large}\r\n\r\n"), 431),
        (format!("GET /{path} HTTP/1.1\r\nhost: h\r\n\r\n"), 414),
        ("GET /v1/me HTTP/9.9\r\n\r\n".to_owned(), 400),
        (
            "POST /v1/login HTTP/1.1\r\nhost: h\r\ncontent-length: x\r\n\r\n".to_owned(),
            400,
        ),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let answer = exchange(&service, request.as_bytes()).await;
        assert_eq!(answer.status, status, "{request:.60}");
    }
    assert_eq!(service.client().get("/livez").await.status, 200);
}

/// Whoever sends a body by the byte holds a connection, and no longer than that.
#[tokio::test]
async fn body_that_does_not_come_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path()).env("MAXSCALE__HTTP__DEADLINE", "1s");
    let service = Service::start(builder).await;
    let request = "POST /v1/login HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
                   content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"email\":";
    let answer = exchange(&service, request.as_bytes()).await;
    assert_problem(&answer, 504, "timeout");
}
