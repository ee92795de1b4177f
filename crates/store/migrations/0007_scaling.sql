-- Between which numbers of replicas a deployment may move by itself. NULL stands for `replicas`.
ALTER TABLE deployments ADD COLUMN min_replicas INTEGER;
ALTER TABLE deployments ADD COLUMN max_replicas INTEGER;
-- Seconds without a request after which one with a minimum of 0 stops its replicas.
ALTER TABLE deployments ADD COLUMN idle_timeout INTEGER NOT NULL DEFAULT 300;
-- Requests underway and waiting for each replica above which there are to be more.
ALTER TABLE deployments ADD COLUMN target_concurrency INTEGER NOT NULL DEFAULT 4;
-- How many replicas there are to be now, part of the observation. NULL stands for `replicas`.
ALTER TABLE deployments ADD COLUMN target_replicas INTEGER;
