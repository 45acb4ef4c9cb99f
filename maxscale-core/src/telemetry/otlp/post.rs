//! Posts messages from a thread of its own, so that the last ones go out when the
//! program's runtime has ended.

use std::io;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::OtlpConfig;
use crate::BoxError;
use crate::control::Backoff;

/// Hands messages to the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Post(mpsc::UnboundedSender<Letter>);

struct Letter {
    body: Bytes,
    done: oneshot::Sender<Result<(), PostError>>,
}

/// Why a message is given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("the collector was not reached in time: {0}")]
    Unreached(String),
    #[error("the collector answered {0}")]
    Refused(StatusCode),
    #[error("nothing is sent any more")]
    Ended,
}

/// One attempt that did not succeed.
enum Failed {
    /// Another may.
    Retry(PostError, Option<Duration>),
    Give(PostError),
}

#[derive(Debug)]
struct Poster {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

// === impl Post ===

impl Post {
    pub(super) fn start(config: &OtlpConfig) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let poster = Poster {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url: config.url.clone(),
            headers: config.headers.clone(),
            timeout: config.timeout,
        };
        let (send, mut letters) = mpsc::unbounded_channel::<Letter>();
        let posting = async move {
            // The processor waits for each, so there is never a second one.
            while let Some(letter) = letters.recv().await {
                let _ = letter.done.send(poster.post(letter.body).await);
            }
        };
        thread::Builder::new()
            .name("maxscale-otlp".to_owned())
            .spawn(move || runtime.block_on(posting))?;
        Ok(Self(send))
    }

    pub(super) async fn post(&self, body: Bytes) -> Result<(), PostError> {
        let (done, answer) = oneshot::channel();
        let sent = self.0.send(Letter { body, done });
        sent.map_err(|_| PostError::Ended)?;
        answer.await.unwrap_or(Err(PostError::Ended))
    }
}

// === impl Poster ===

impl Poster {
    /// Tries until the time is over; a refusal that will stay one ends it.
    async fn post(&self, body: Bytes) -> Result<(), PostError> {
        let end = Instant::now() + self.timeout;
        let mut attempt = 0;
        loop {
            let tried = timeout_at(end, self.attempt(body.clone())).await;
            let (error, wait) = match tried {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Failed::Give(error))) => return Err(error),
                Ok(Err(Failed::Retry(error, wait))) => (error, wait),
                Err(_) => return Err(PostError::Unreached("no answer".to_owned())),
            };
            // One process asks one collector: there is no herd to spread.
            let wait = wait.unwrap_or_else(|| BACKOFF.wait(attempt, 1.0));
            if Instant::now() + wait >= end {
                return Err(error);
            }
            sleep(wait).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<(), Failed> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.headers.clone();
        let protobuf = http::HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(CONTENT_TYPE, protobuf);
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| {
            let error: BoxError = error.into();
            let told = crate::Chain(&*error).to_string();
            Failed::Retry(PostError::Unreached(told), None)
        })?;
        judge(&answer)
    }
}

/// Which answers may be another one next time, says OTLP's specification.
fn judge<B>(answer: &Response<B>) -> Result<(), Failed> {
    let refused = PostError::Refused(answer.status());
    match answer.status().as_u16() {
        200..=299 => Ok(()),
        429 | 502 | 503 | 504 => {
            let wait = answer.headers().get(RETRY_AFTER);
            let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
            Err(Failed::Retry(refused, wait.map(Duration::from_secs)))
        }
        _ => Err(Failed::Give(refused)),
    }
}
