-- The latest failures of each model's replicas, in all their words: what happened, and when. The
-- store keeps a bounded number.
CREATE TABLE failures (
    seq         INTEGER PRIMARY KEY,
    model_id    TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    revision_id TEXT NOT NULL,
    replica_id  TEXT NOT NULL,
    at          INTEGER NOT NULL,
    error       TEXT NOT NULL
) STRICT;
CREATE INDEX failures_by_model ON failures (model_id, seq);

-- What the replicas of a revision were seen to use: memory in bytes, its limit in MiB, CPU in
-- seconds; sums over all replicas, peaks of any one.
CREATE TABLE usage (
    revision_id   TEXT PRIMARY KEY NOT NULL REFERENCES revisions (id) ON DELETE CASCADE,
    memory_limit  INTEGER NOT NULL,
    load_peak     INTEGER,
    serve_peak    INTEGER,
    working_peak  INTEGER,
    oom_limit     INTEGER,
    most_rows     INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    calls         INTEGER NOT NULL,
    rows          INTEGER NOT NULL,
    cpu_seconds   REAL NOT NULL,
    busiest_cpu   REAL,
    busiest_rate  REAL,
    updated_at    INTEGER NOT NULL
) STRICT;
