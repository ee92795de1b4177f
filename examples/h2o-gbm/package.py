"""Probability that a prostate cancer has penetrated the capsule, by an H2O gradient boosting machine.

H2O is a server in Java. It runs in this container, on the container's own loopback, and is asked over
its REST API.
"""

import csv
import os
import tempfile
import threading
from pathlib import Path

import h2o
import pandas as pd

PACKAGE_PATH = Path(__file__).parent

# What Python and the JVM need beside the heap, in MiB.
BESIDE_THE_HEAP = 500


def start() -> None:
    """Starts H2O within the container's own limits, which Java does not find out by itself."""
    memory = int(os.environ.get("LUTHIER_MEMORY_MIB", 1024))
    cores = os.environ.get("OMP_NUM_THREADS", "1")
    h2o.init(
        ip="127.0.0.1",
        nthreads=int(cores),
        max_mem_size=f"{max(memory - BESIDE_THE_HEAP, 128)}m",
        jvm_custom_args=["-XX:+UseSerialGC", f"-XX:ActiveProcessorCount={cores}"],
        log_dir=tempfile.mkdtemp(prefix="h2o-"),
        max_log_file_size="1MB",
        strict_version_check=False,
        verbose=False,
    )
    h2o.no_progress()


class Model:
    def __init__(self) -> None:
        start()
        self.id = h2o.import_mojo(str(PACKAGE_PATH / "model.zip")).model_id
        self.lock = threading.Lock()

    def predict(self, input_df: pd.DataFrame) -> pd.DataFrame:
        with self.lock:
            text = self.ask(input_df)
        # By `float`, which loses no digit; pandas' own reading of numbers may.
        answers = csv.DictReader(text.splitlines())
        return pd.DataFrame({"probability_penetrated": [float(row["yes"]) for row in answers]})

    def ask(self, input_df: pd.DataFrame) -> str:
        """H2O's predictions as CSV.

        In the words of the REST API, each call of which ends when its work is done.
        `H2OFrame(input_df)` and `model.predict` ask for jobs and look every now and then whether
        they have ended, which takes ten times as long for a small frame.
        """
        types = ["enum" if input_df[name].dtype == object else "numeric" for name in input_df]
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            input_df.to_csv(file, index=False)
            file.flush()
            uploaded = h2o.api("POST /3/PostFile", filename=file.name)["destination_frame"]
        h2o.api(
            "POST /3/Parse",
            data={
                "source_frames": [f'"{uploaded}"'],
                "destination_frame": "rows",
                "parse_type": "CSV",
                "separator": ord(","),
                "check_header": 1,
                "number_columns": len(types),
                "column_names": [f'"{name}"' for name in input_df],
                "column_types": [f'"{kind}"' for kind in types],
                "single_quotes": False,
                "chunk_size": 1 << 22,
                "delete_on_done": True,
                "blocking": True,
            },
        )
        h2o.api(
            f"POST /3/Predictions/models/{self.id}/frames/rows",
            data={"predictions_frame": "predictions"},
        )
        text = h2o.api("GET /3/DownloadDataset", data={"frame_id": "predictions"})
        for frame in ("rows", "predictions"):
            h2o.api(f"DELETE /3/Frames/{frame}")
        return text


def get_model() -> Model:
    return Model()
