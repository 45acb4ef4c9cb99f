//! A gRPC service without a generator: what `tonic-prost-build` would write from
//!
//! ```proto
//! service Quotes {
//!   rpc Next(google.protobuf.Empty) returns (google.protobuf.StringValue);
//! }
//! ```

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// What there is to ask for, over each protocol.
pub(crate) const QUOTE: &str = "Count what you admit, not what you meant to.";

/// The service `quotes.Quotes`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotes;

struct Next;

// === impl Quotes ===

impl NamedService for Quotes {
    const NAME: &'static str = "quotes.Quotes";
}

impl Service<Request<Body>> for Quotes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/quotes.Quotes/Next" => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.unary(Next, request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

// === impl Next ===

impl UnaryService<()> for Next {
    type Response = String;
    type Future = Ready<Result<tonic::Response<String>, Status>>;

    fn call(&mut self, _: tonic::Request<()>) -> Self::Future {
        ready(Ok(tonic::Response::new(QUOTE.to_owned())))
    }
}
