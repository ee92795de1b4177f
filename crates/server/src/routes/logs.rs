//! What replicas write, all at once or as it is written.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::IntoResponse as _,
    routing::get,
};
use futures::stream;
use jiff::Timestamp;
use luthier_app::{
    App,
    logs::{Follower, LogsQuery},
};
use luthier_types::{Error, ModelId, ReplicaId};
use serde::Deserialize;
use serde_json::json;

use crate::{
    envelope::{Answer, data},
    extract::{Path, Query},
};

/// Lines of each replica's output unless the request says otherwise.
const LINES: usize = 200;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/models/{id}/logs", get(logs))
}

#[derive(Deserialize)]
struct Which {
    lines: Option<usize>,
    since: Option<Timestamp>,
    replica: Option<ReplicaId>,
    #[serde(default)]
    previous: bool,
    #[serde(default)]
    follow: bool,
}

/// With `follow`, one JSON object for each line, as it is written, until the client leaves.
async fn logs(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    Query(which): Query<Which>,
) -> Answer {
    let query = LogsQuery {
        lines: which.lines.unwrap_or(LINES),
        since: which.since,
        replica: which.replica,
        previous: which.previous,
    };
    if !which.follow {
        return Ok(data(
            json!({ "items": app.replica_logs(model, query).await? }),
        ));
    }
    let follower = app.follow_logs(model, query).await?;
    let body = Body::from_stream(stream::unfold(Some(follower), following));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn following(
    follower: Option<Follower>,
) -> Option<(Result<Bytes, std::convert::Infallible>, Option<Follower>)> {
    let mut follower = follower?;
    match follower.next().await {
        // A client that is gone is noticed by whoever writes.
        Ok(Some(lines)) if lines.is_empty() => {
            Some((Ok(Bytes::from_static(b"\n")), Some(follower)))
        }
        Ok(Some(lines)) => {
            let mut text = vec![];
            for line in lines {
                if serde_json::to_writer(&mut text, &line).is_ok() {
                    text.push(b'\n');
                }
            }
            Some((Ok(text.into()), Some(follower)))
        }
        Ok(None) => None,
        Err(error) => Some((Ok(last_word(&error)), None)),
    }
}

fn last_word(error: &Error) -> Bytes {
    tracing::error!(error = %error.chain(), "a log could not be followed");
    format!("{}\n", json!({ "error": error.public_text() })).into()
}
