//! Traces, exported by OTLP over HTTP when `OTEL_EXPORTER_OTLP_ENDPOINT` says where to. The variables
//! of OpenTelemetry's specification hold: headers, sampler, resource attributes and more.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use luthier_types::{Code, Error, Result};
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
/// The name of this service in traces, unless this says another.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// How long spans may take to be sent.
const TIMEOUT: Duration = Duration::from_secs(10);
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
    /// Whether the last sending failed.
    fails: AtomicBool,
}

impl Traces {
    /// Traces, if the environment says where to.
    ///
    /// # Errors
    /// `BadRequest` when it says so in a way that cannot be used.
    pub(crate) fn from_env(runtime: &Handle) -> Result<Option<Self>> {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !ENDPOINTS.into_iter().any(is_set) {
            return Ok(None);
        }
        let http = reqwest::Client::builder().timeout(TIMEOUT).build();
        let client = Client {
            http: http.map_err(|e| Error::internal("setting up the export of traces", e))?,
            runtime: runtime.clone(),
            fails: AtomicBool::new(false),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|e| {
                let cause = format!("traces cannot be exported as the environment says: {e}");
                Error::new(Code::BadRequest, cause).hint(
                    "Set OTEL_EXPORTER_OTLP_ENDPOINT to an address like http://127.0.0.1:4318, or \
                     to nothing.",
                )
            })?;
        let mut resource = Resource::builder();
        if !is_set(SERVICE_NAME) {
            resource = resource.with_service_name("luthier");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
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

impl Client {
    /// Says when spans cannot be sent, and when they can again, and not each time anew.
    fn report(&self, failed: Option<&Error>) {
        let failed_before = self.fails.swap(failed.is_some(), Ordering::Relaxed);
        match failed {
            Some(error) if !failed_before => {
                tracing::warn!(
                    error = error.chain(),
                    "traces cannot be exported; what is not sent is lost"
                );
            }
            None if failed_before => tracing::info!("traces are exported again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(
        &self,
        request: Request<Bytes>,
    ) -> std::result::Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sending = async move {
            let answer = http
                .execute(request.try_into()?)
                .await?
                .error_for_status()?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = answer.headers().clone();
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        };
        let sent = self.runtime.spawn(sending).await?;
        let sent = sent.map_err(|e| Error::internal("sending traces", e));
        self.report(sent.as_ref().err());
        Ok(sent?)
    }
}
