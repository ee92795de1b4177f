-- Whether requests of a revision may be predicted together: found by its first replica that proves
-- itself, and kept for those that come after and for a restarted server.
CREATE TABLE batching (
    revision_id TEXT PRIMARY KEY NOT NULL REFERENCES revisions (id) ON DELETE CASCADE,
    verdict     TEXT NOT NULL,
    detail      TEXT
) STRICT;
