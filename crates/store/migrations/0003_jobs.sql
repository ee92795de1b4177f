-- The durable queue.
CREATE TABLE jobs (
    id               TEXT PRIMARY KEY NOT NULL,
    kind             TEXT NOT NULL,
    name             TEXT NOT NULL,
    status           TEXT NOT NULL,
    payload          TEXT NOT NULL,
    info             TEXT NOT NULL,
    progress         REAL NOT NULL DEFAULT 0,
    -- Jobs with the same key run one after the other, in order of creation.
    exclusive_key    TEXT,
    attempt          INTEGER NOT NULL DEFAULT 0,
    run_at           INTEGER NOT NULL,
    lease_owner      TEXT,
    lease_until      INTEGER,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    error            TEXT,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_open ON jobs (run_at) WHERE status IN ('PENDING', 'STARTED', 'RETRY');

CREATE TABLE job_steps (
    job_id      TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    name        TEXT NOT NULL,
    result      TEXT,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    PRIMARY KEY (job_id, name)
) STRICT;

CREATE TABLE job_logs (
    seq    INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    line   TEXT NOT NULL
) STRICT;
CREATE INDEX job_logs_by_job ON job_logs (job_id, seq);
