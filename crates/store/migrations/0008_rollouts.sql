-- The history of a model version's revisions. A row stays when its revision has failed or is too old
-- to be kept; then it has no archive any more.
CREATE TABLE rollouts (
    revision_id  TEXT PRIMARY KEY NOT NULL,
    model_id     TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    -- Counted per model version, from 1.
    number       INTEGER NOT NULL,
    cause        TEXT NOT NULL,
    image_uri    TEXT NOT NULL,
    env          TEXT NOT NULL,
    package      TEXT NOT NULL,
    -- What it can be made again from.
    archive      TEXT,
    archive_size INTEGER NOT NULL,
    -- Rows that it is compared on with what serves before it, and how far it may differ.
    sample       TEXT,
    limits       TEXT NOT NULL DEFAULT '{}',
    failure      TEXT,
    created_at   INTEGER NOT NULL,
    -- Written by the controller.
    served       INTEGER NOT NULL DEFAULT 0,
    comparison   TEXT,
    UNIQUE (model_id, number)
) STRICT;

INSERT INTO rollouts (revision_id, model_id, number, cause, image_uri, env, package, archive,
    archive_size, created_at, served)
SELECT r.id, r.model_id, row_number() OVER (PARTITION BY r.model_id ORDER BY r.id),
    '{"what":"update"}', r.image_uri, r.env, r.package, a.digest, coalesce(a.size, 0),
    r.created_at, 1
FROM revisions r LEFT JOIN jobs j ON j.id = r.id
    LEFT JOIN artifacts a ON a.model_id = r.model_id
        AND a.digest = json_extract(j.payload, '$.archive.digest');

-- Where the runner of a MANUAL deployment listens, when an operator keeps it: intent.
CREATE TABLE outside_runners (
    deployment_id TEXT PRIMARY KEY NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
    -- Another for each address that is set.
    id            TEXT NOT NULL,
    address       TEXT NOT NULL
) STRICT;

-- How far a new revision of a deployment may differ from the one that serves.
CREATE TABLE rollout_limits (
    deployment_id TEXT PRIMARY KEY NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
    limits        TEXT NOT NULL
) STRICT;
