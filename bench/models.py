"""The models that are measured: 20 columns, ten numbers and ten words; and what they must answer."""

import io
import json
import random
import subprocess
from pathlib import Path

BENCH = Path(__file__).parent
WORK = BENCH.parent / "target/bench"
NUMBERS = [f"num_{i}" for i in range(10)]
WORDS = [f"cat_{i}" for i in range(10)]
LEVELS = ["alpha", "bravo", "charlie", "delta", "echo"]
MANY = 10_000
# Different rows that requests of one row take in turn.
FEW = 16


def rows(count: int) -> list:
    made = random.Random(11)
    return [
        {
            **{name: round(made.gauss(50.0, 15.0), 3) for name in NUMBERS},
            **{name: made.choice(LEVELS) for name in WORDS},
        }
        for _ in range(count)
    ]


ROWS = rows(MANY)


def rows_file() -> Path:
    path = WORK / "rows.json"
    path.write_text(json.dumps(ROWS))
    return path


def expected(python: str, name: str) -> list:
    """The model's own answers to `ROWS`, in process."""
    code = (
        "import json, os, sys; os.environ['PACKAGE'] = sys.argv[1]; sys.path.insert(0, sys.argv[2]); "
        "import package, pandas; rows = json.load(open(sys.argv[3])); "
        "print(json.dumps(package.model().predict(pandas.DataFrame(rows))['probability'].tolist()))"
    )
    command = [python, "-c", code, str(BENCH / name), str(BENCH / "peers"), str(rows_file())]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def arrow(rows: list) -> bytes:
    import pyarrow

    table = pyarrow.Table.from_pylist(rows)
    out = io.BytesIO()
    with pyarrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def compact(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
