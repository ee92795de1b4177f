-- Projects, models and their data. Ids are hyphenated UUID text; times are microseconds since the
-- epoch; documents are JSON text.
CREATE TABLE projects (
    id         TEXT PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE models (
    id              TEXT PRIMARY KEY NOT NULL,
    project_id      TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name            TEXT NOT NULL,
    version         TEXT NOT NULL,
    input_type      TEXT NOT NULL,
    task            TEXT NOT NULL,
    task_params     TEXT NOT NULL,
    schema          TEXT NOT NULL,
    spec            TEXT NOT NULL,
    description     TEXT,
    event_id_col    TEXT,
    event_ts_col    TEXT,
    event_ts_format TEXT,
    xai_params      TEXT,
    artifact_status TEXT NOT NULL DEFAULT 'no_model',
    artifact_files  TEXT NOT NULL DEFAULT '[]',
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (project_id, name, version)
) STRICT;

CREATE TABLE files (
    id         TEXT PRIMARY KEY NOT NULL,
    filename   TEXT NOT NULL,
    kind       TEXT NOT NULL,
    status     TEXT NOT NULL,
    digest     TEXT,
    size       INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE file_parts (
    file_id TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    digest  TEXT NOT NULL,
    size    INTEGER NOT NULL,
    PRIMARY KEY (file_id, number)
) STRICT;

-- What the client calls a pre-production environment: named rows, kept as one Parquet blob.
CREATE TABLE datasets (
    id         TEXT PRIMARY KEY NOT NULL,
    model_id   TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    row_count  INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (model_id, name)
) STRICT;

-- Production events, one row each, because they are looked up, updated and deleted one by one.
CREATE TABLE events (
    seq        INTEGER PRIMARY KEY,
    model_id   TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    event_id   TEXT NOT NULL,
    ts         INTEGER NOT NULL,
    row        TEXT NOT NULL,
    UNIQUE (model_id, event_id)
) STRICT;
CREATE INDEX events_by_time ON events (model_id, ts);

CREATE TABLE baselines (
    id              TEXT PRIMARY KEY NOT NULL,
    model_id        TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    name            TEXT NOT NULL,
    type            TEXT NOT NULL,
    env_type        TEXT NOT NULL,
    dataset_id      TEXT REFERENCES datasets (id) ON DELETE CASCADE,
    start_time      INTEGER,
    end_time        INTEGER,
    offset_delta    INTEGER,
    window_bin_size TEXT,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (model_id, name)
) STRICT;
