"""The runner's contract as an operator may speak it: a small HTTP server of one's own.

outside_runner.py PORT FACTOR COLUMN: answers COLUMN = FACTOR * (2 a + b), and at /traceparents the
headers of that name that it was sent.
"""

import http.server
import io
import json
import sys

import pyarrow as pa

TRACEPARENTS = []
PORT, FACTOR, COLUMN = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]


class Runner(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body: bytes, content_type: str = "application/json"):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/traceparents":
            return self.answer(json.dumps(TRACEPARENTS).encode())
        ready = {
            "phase": "ready",
            "import_seconds": None,
            "load_seconds": None,
            "memory_bytes": 0,
            "python": "3.11.0",
            "packages": {},
            "error": None,
        }
        self.answer(json.dumps(ready).encode())

    def do_POST(self):
        TRACEPARENTS.append(self.headers["traceparent"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        rows = pa.ipc.open_stream(body).read_all().to_pydict()
        values = [FACTOR * (2 * a + b) for a, b in zip(rows["a"], rows["b"])]
        table = pa.table({COLUMN: pa.array(values, pa.float64())})
        out = io.BytesIO()
        with pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
        self.answer(out.getvalue(), "application/vnd.apache.arrow.stream")

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Runner).serve_forever()
