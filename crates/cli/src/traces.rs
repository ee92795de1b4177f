//! Traces, exported by OTLP over HTTP when `OTEL_EXPORTER_OTLP_ENDPOINT` says where to. The variables
//! of OpenTelemetry's specification hold: headers, time-out, sampler, resource attributes.

use std::time::Duration;

use async_trait::async_trait;
use luthier_types::{Error, Result};
use opentelemetry::{global, trace::TracerProvider as _};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, Tracer},
};
use tokio::runtime::Handle;

/// Where to, for everything that OpenTelemetry exports, and for traces alone.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
/// How long the last spans may take to be sent when the server stops.
const LAST: Duration = Duration::from_secs(5);

/// The exporter, at work until it is dropped.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
}

/// Sends on the runtime, since the exporter has a thread of its own.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

impl Traces {
    /// Traces, if the environment says where to.
    ///
    /// # Errors
    /// `Internal` when it says so in a way that cannot be used.
    pub(crate) fn from_env(runtime: &Handle) -> Result<Option<Self>> {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !ENDPOINTS.into_iter().any(is_set) {
            return Ok(None);
        }
        let client = Client {
            http: reqwest::Client::new(),
            runtime: runtime.clone(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|e| Error::internal("setting up the export of traces", e))?;
        let resource = Resource::builder().with_service_name("luthier").build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_tracer_provider(provider.clone());
        Ok(Some(Self { provider }))
    }

    /// What makes spans.
    pub(crate) fn tracer(&self) -> Tracer {
        self.provider.tracer("luthier")
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // What cannot be sent is lost; whoever collects knows from the gap.
        let _ = self.provider.shutdown_with_timeout(LAST);
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sending = async move {
            let answer = http.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = answer.headers().clone();
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        };
        self.runtime.spawn(sending).await?
    }
}
