//! What stands around every request so that it can be seen: its id, its place in the log and the
//! traces, and its count.

use std::{
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use luthier_app::{
    App,
    audit::{Caller, Change, on_behalf},
};
use luthier_gateway::trace;
use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family},
};
use tracing::{Instrument as _, field::Empty};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id and longest name of a client that are taken from a request.
const LONGEST: usize = 100;
/// Who the one token belongs to.
const ADMIN: &str = "admin";

/// The id of a request.
#[derive(Clone, Debug)]
struct RequestId(Arc<str>);

/// Requests by method, route and status.
pub(crate) type Requests = Family<Labels, Counter>;

/// Which requests are counted together. Routes are the server's own, so that there are not many.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    method: &'static str,
    route: Option<MatchedPath>,
    status: u16,
}

/// Gives the request an id, which the answer carries, and counts it.
pub(crate) async fn seen(
    State(requests): State<Requests>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = text(request.headers(), &REQUEST_ID).filter(|id| is_id(id));
    let id: Arc<str> = match given {
        Some(id) => id.into(),
        None => Uuid::now_v7().simple().to_string().into(),
    };
    let header = HeaderValue::try_from(&*id);
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = route.as_ref().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        id = &*id,
        method,
        route = path,
        otel.name = Empty,
        otel.kind = Empty
    );
    trace::begun(&span, method, path, request.headers());
    let mut response = next.run(request).instrument(span.clone()).await;
    trace::ended(&span, response.status());
    if let Ok(header) = header {
        response.headers_mut().insert(REQUEST_ID, header);
    }
    let labels = Labels {
        method,
        route,
        status: response.status().as_u16(),
    };
    requests.get_or_create(&labels).inc();
    response
}

/// Routes that are asked with a method of change and change nothing that is kept, or of which there
/// are so many that the log of jobs and files tells of them.
const NOT_AUDITED: &[&str] = &[
    "/v3/predict",
    "/v1/models/{id}/predict",
    "/v1/models/{project}/{model}/predict",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
    "/v3/explain",
    "/v3/analytics/feature-impact",
    "/v3/analytics/feature-importance",
    "/v3/model-factory",
    // Rows of production; what is published from files is a job, and entered with it.
    "/v3/events",
    // Parts of a file whose beginning and end are entered.
    "/v3/files/multipart-upload",
];

/// Whether a request to a route may change something that the audit log must tell of.
fn is_change(method: &Method, route: &str) -> bool {
    !method.is_safe() && !NOT_AUDITED.contains(&route)
}

/// Does requests on behalf of whoever sent them, and enters changes that no use case entered.
pub(crate) async fn audited(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(route) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let caller = Arc::new(caller(&request));
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let (response, entered) = on_behalf(Arc::clone(&caller), next.run(request)).await;
    if response.status().is_success() && !entered && is_change(&method, route.as_str()) {
        let mut change = Change::new(format!("{method} {}", route.as_str()));
        change.target = Some(path.clone());
        change.model_id = model_of(route.as_str(), &path);
        if let Err(error) = app.enter(&caller, change).await {
            tracing::error!(error = %error.chain(), "a change could not be entered in the audit log");
        }
    }
    response
}

fn caller(request: &Request) -> Caller {
    let headers = request.headers();
    let word = |name| text(headers, &HeaderName::from_static(name));
    let client = match word("x-fiddler-client-name").or_else(|| word("x-luthier-client")) {
        Some(name) => match word("x-fiddler-client-version") {
            Some(version) => Some(format!("{name} {version}")),
            None => Some(name.to_owned()),
        },
        None => word("user-agent").map(str::to_owned),
    };
    let extensions = request.extensions();
    Caller {
        actor: ADMIN.to_owned(),
        address: extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(address)| address.ip().to_string()),
        client: client.map(|client| client.chars().take(LONGEST).collect()),
        request_id: extensions.get::<RequestId>().map(|id| id.0.to_string()),
    }
}

/// The model that a path is about.
fn model_of(route: &str, path: &str) -> Option<luthier_types::ModelId> {
    let place = route.split('/').position(|part| part == "models")? + 1;
    path.split('/').nth(place)?.parse().ok()
}

fn is_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The method's name; one for all that nobody serves.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

// === impl Labels ===

impl Labels {
    fn route(&self) -> &str {
        self.route.as_ref().map_or("none", MatchedPath::as_str)
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        self.status == other.status && self.method == other.method && self.route() == other.route()
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.status, self.method, self.route()).hash(state);
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        let status = self.status.to_string();
        let labels = [
            ("method", self.method),
            ("route", self.route()),
            ("status", status.as_str()),
        ];
        labels.encode(encoder)
    }
}

#[cfg(test)]
mod tests;
