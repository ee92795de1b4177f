-- Environment variables that the image of a revision sets, as a JSON object: of the catalogue none.
ALTER TABLE revisions ADD COLUMN variables TEXT NOT NULL DEFAULT '{}';
