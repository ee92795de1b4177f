"""FastAPI as its fast users write it: orjson, no pydantic in the way, the model called on the event loop."""

import io

import orjson
import package
import pandas as pd
import pyarrow as pa
from fastapi import FastAPI, Request, Response

model = package.model()
app = FastAPI()


@app.post("/predict")
async def predict(request: Request):
    result = model.predict(pd.DataFrame(orjson.loads(await request.body())))
    return Response(orjson.dumps(result.to_dict("records")), media_type="application/json")


@app.post("/arrow")
async def arrow(request: Request):
    frame = pa.ipc.open_stream(await request.body()).read_all().to_pandas()
    table = pa.Table.from_pandas(model.predict(frame), preserve_index=False)
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return Response(out.getvalue(), media_type="application/vnd.apache.arrow.stream")
