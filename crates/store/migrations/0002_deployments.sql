-- Deployments hold intent (written by jobs and by the API) and observation (written by the
-- deployment controller). Revisions are immutable.
CREATE TABLE revisions (
    id          TEXT PRIMARY KEY NOT NULL,
    model_id    TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    image_uri   TEXT NOT NULL,
    image       TEXT NOT NULL,
    rootfs      TEXT NOT NULL,
    interpreter TEXT NOT NULL,
    env         TEXT NOT NULL,
    package     TEXT NOT NULL,
    runner      TEXT NOT NULL,
    inputs      TEXT NOT NULL,
    outputs     TEXT NOT NULL,
    validation  TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE deployments (
    id                  TEXT PRIMARY KEY NOT NULL,
    model_id            TEXT NOT NULL UNIQUE REFERENCES models (id) ON DELETE CASCADE,
    artifact_type       TEXT NOT NULL,
    deployment_type     TEXT NOT NULL,
    -- intent
    active              INTEGER NOT NULL,
    replicas            INTEGER NOT NULL,
    cpu                 INTEGER NOT NULL,
    memory              INTEGER NOT NULL,
    wanted_revision     TEXT REFERENCES revisions (id),
    generation          INTEGER NOT NULL,
    -- observation
    serving_revision    TEXT REFERENCES revisions (id),
    observed_generation INTEGER NOT NULL DEFAULT 0,
    phase               TEXT NOT NULL,
    ready_replicas      INTEGER NOT NULL DEFAULT 0,
    failure             TEXT,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL
) STRICT;

-- The uploaded archive of each model version, for download.
CREATE TABLE artifacts (
    model_id   TEXT PRIMARY KEY NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    digest     TEXT NOT NULL,
    size       INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
