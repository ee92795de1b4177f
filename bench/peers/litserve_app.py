"""LitServe with one worker: python litserve_app.py PORT."""

import sys

import litserve
import package
import pandas as pd


class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = package.model()

    def decode_request(self, request):
        return pd.DataFrame(request)

    def predict(self, frame):
        return self.model.predict(frame)

    def encode_response(self, result):
        return result.to_dict("records")


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
