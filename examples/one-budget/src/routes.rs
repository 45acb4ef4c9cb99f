//! The same over HTTP, and over a WebSocket, whose messages pass no layer.

use axum::Extension;
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{any, get};
use maxscale_core::fact::ClientIp;
use maxscale_core::limit::{ByClientIp, Limits, Policy};

use crate::quote::QUOTE;

/// What a message is counted by.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
}

pub(crate) fn routes(talk: Talk) -> Router {
    Router::new()
        .route("/quote", get(async || QUOTE))
        .route("/talk", any(open))
        .with_state(talk)
}

async fn open(
    upgrade: WebSocketUpgrade,
    State(talk): State<Talk>,
    Extension(client): Extension<ClientIp>,
) -> Response {
    let principal = ByClientIp::principal(&client);
    upgrade.on_upgrade(move |socket| talk.listen(socket, principal))
}

// === impl Talk ===

impl Talk {
    /// Opening it cost a token, as any request does; so does each message.
    async fn listen(self, mut socket: WebSocket, principal: String) {
        while let Some(Ok(message)) = socket.recv().await {
            if !matches!(message, Message::Text(_)) {
                continue;
            }
            let decision = self.limits.check(&self.policy, &principal).await;
            let answer = match (decision.is_allowed(), decision.retry_after()) {
                (true, _) => QUOTE.to_owned(),
                (false, Some(wait)) => format!("wait {} s", wait.as_secs() + 1),
                (false, None) => "never".to_owned(),
            };
            if socket.send(Message::text(answer)).await.is_err() {
                return;
            }
        }
    }
}
