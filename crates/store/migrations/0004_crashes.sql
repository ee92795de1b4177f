-- Replicas of the serving revision that failed one after another, part of the observation.
ALTER TABLE deployments ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
