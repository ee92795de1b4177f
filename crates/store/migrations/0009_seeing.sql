-- Who changed what. Rows are only ever added, and removed when they are old.
CREATE TABLE audit (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    -- who: a token's name, or `server`
    actor      TEXT NOT NULL,
    address    TEXT,
    client     TEXT,
    request_id TEXT,
    -- what, on which
    action     TEXT NOT NULL,
    target     TEXT,
    name       TEXT,
    model_id   TEXT,
    job_id     TEXT,
    -- field: {before, after}
    changes    TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX audit_by_model ON audit (model_id, seq);
CREATE INDEX audit_by_time ON audit (at);
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- What happened to the replicas of a model, counted since it was made.
CREATE TABLE replica_counts (
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    -- `started`, `out_of_memory`, or the code of a failure
    what     TEXT NOT NULL,
    count    INTEGER NOT NULL,
    PRIMARY KEY (model_id, what)
) STRICT;
