"""Traces, as whatever collects them by OTLP gets them."""

import http.server
import os
import subprocess
import threading

import fiddler as fdl
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import harness
import packages
from test_seeing import ask
from test_updates import Runner

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(http.server.ThreadingHTTPServer):
    """Takes traces by OTLP over HTTP and keeps their spans."""

    daemon_threads = True

    def __init__(self):
        self.spans, self.services, self.lock = [], set(), threading.Lock()
        super().__init__(("127.0.0.1", 0), Collector.Handler)
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            with self.server.lock:
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.server.services.add(attributes(resource.resource)["service.name"])
                    for scope in resource.scope_spans:
                        self.server.spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    def having(self, wanted) -> list:
        with self.lock:
            return [span for span in self.spans if wanted(span)]

    def below(self, span) -> dict:
        """The children of a span, by name."""
        return {s.name: s for s in self.having(lambda s: s.parent_span_id == span.span_id)}


def attributes(of) -> dict:
    values = ((a.key, a.value) for a in of.attributes)
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values}


def deployed(directory, **params):
    """A model in a project of its own."""
    model = packages.model(fdl.Project(name="traced").create(), "m")
    packages.deploy(model, packages.write(directory), **params)
    return model


def test_traces_go_where_the_environment_says(own_server, tmp_path):
    with Collector() as collector:
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        server = own_server(env=env)
        model = deployed(tmp_path / "p")
        asked = ask(server, model, 1.0, traceparent=f"00-{TRACE}-{PARENT}-01")
        assert asked.status_code == 200
        mine = lambda span: span.trace_id.hex() == TRACE
        harness.wait_for(
            lambda: {"POST /v3/predict", "queue", "transfer", "model"}
            <= {span.name for span in collector.having(mine)},
            "the spans of the request",
        )
        assert collector.services == {"luthier"}

        [request] = collector.having(lambda s: mine(s) and s.name == "POST /v3/predict")
        assert request.parent_span_id.hex() == PARENT
        assert attributes(request)["http.response.status_code"] == 200
        inside = collector.below(request)
        assert set(inside) == {"queue", "transfer"}
        transfer = inside["transfer"]
        spans = [request, transfer, collector.below(transfer)["model"]]
        for outer, inner in zip(spans, spans[1:]):
            assert outer.start_time_unix_nano <= inner.start_time_unix_nano
            assert inner.end_time_unix_nano <= outer.end_time_unix_nano

        [job] = harness.wait_for(
            lambda: collector.having(lambda s: s.name == "deploy_artifact"), "the span of the job"
        )
        assert {"unpack", "lock", "build", "await_ready"} <= set(collector.below(job))


def test_a_runner_is_told_of_the_trace_it_works_in(own_server, tmp_path):
    with Collector() as collector, Runner(10.0) as runner:
        endpoint = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        env = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": "mine"}
        server = own_server(env=env)
        model = deployed(tmp_path / "p", deployment_type=fdl.DeploymentType.MANUAL)
        done = server.cli("runner-address", "traced/m", runner.url)
        assert done.returncode == 0, done.stderr
        deployment = fdl.ModelDeployment.of(model_id=model.id)
        deployment.active = True
        deployment.update().wait(interval=1)
        assert ask(server, model, 1.0, traceparent=f"00-{TRACE}-{PARENT}-01").status_code == 200
        told = requests.get(runner.url + "/traceparents").json()[-1].split("-")
        assert told[1] == TRACE
        server.stop()
        # What is not sent yet when the server is stopped is sent then.
        [transfer] = collector.having(lambda s: s.span_id.hex() == told[2])
        assert transfer.name == "transfer"
        assert collector.services == {"mine"}


def test_a_collector_that_is_gone_is_said_once_and_costs_nothing(own_server, tmp_path):
    with Collector() as collector:
        gone = f"http://127.0.0.1:{collector.server_port}"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": gone, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    server = own_server(env=env)
    model = deployed(tmp_path / "p")
    harness.wait_for(lambda: "traces cannot be exported" in server.log(), "the warning")
    assert ask(server, model, 1.0).status_code == 200
    server.stop()
    assert server.log().count("traces cannot be exported") == 1


def test_an_endpoint_that_is_no_address_is_refused(tmp_path):
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "no address"}
    command = [harness.BINARY, "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data")]
    refused = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1, refused.stderr
    assert "traces cannot be exported as the environment says" in refused.stderr
    assert "next: Set OTEL_EXPORTER_OTLP_ENDPOINT" in refused.stderr
