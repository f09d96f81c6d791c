//! The observations as they come, one JSON object a line, until the client goes: what `lastgood record` writes down.
//!
//! They hold names, counts and states, nothing secret. A client that reads too slowly loses some, and a line of kind
//! `lost` says how many. A blank line now and then keeps the connection.

use super::Served;
use crate::domain::Observed;
use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Recordings at a time.
const RECORDINGS: usize = 4;
/// Shorter than the listener's patience with a connection on which nothing moves.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

pub(super) async fn observations(State(served): State<Served>) -> Response {
    if served.tape.receiver_count() >= RECORDINGS {
        return (StatusCode::SERVICE_UNAVAILABLE, "enough recordings are under way\n").into_response();
    }
    let (tape, clock) = (served.tape.subscribe(), served.clock);
    let lines = stream::unfold(tape, move |mut tape| async move {
        let line = next(&mut tape, || clock.now()).await?;
        Some((Ok::<_, Infallible>(line), tape))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// The next lines; `None` when the daemon stops.
async fn next(tape: &mut Receiver<Arc<[Observed]>>, now: impl Fn() -> f64) -> Option<Vec<u8>> {
    match tokio::time::timeout(KEEP_ALIVE, tape.recv()).await {
        Err(_) => Some(b"\n".to_vec()),
        Ok(Err(RecvError::Closed)) => None,
        Ok(Err(RecvError::Lagged(lost))) => {
            Some(format!("{{\"t\":{},\"kind\":\"lost\",\"observations\":{lost}}}\n", now()).into_bytes())
        }
        Ok(Ok(observed)) => {
            let mut lines = Vec::new();
            for one in &*observed {
                lines.extend(serde_json::to_vec(one).unwrap_or_default());
                lines.push(b'\n');
            }
            Some(lines)
        }
    }
}
