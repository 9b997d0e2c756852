-- The tables of a lake's database, format 1. Text compares byte by byte.

CREATE TABLE IF NOT EXISTS objects (
    id BLOB NOT NULL PRIMARY KEY,
    content BLOB NOT NULL
);

CREATE TABLE IF NOT EXISTS refs (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- The last position given in each journal.
CREATE TABLE IF NOT EXISTS journals (
    name TEXT NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS entries (
    journal TEXT NOT NULL,
    position INTEGER NOT NULL,
    key TEXT NOT NULL,
    value BLOB,
    PRIMARY KEY (journal, position)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS entries_by_key ON entries (journal, key, position);

-- The newest entry of each key that is no tombstone.
CREATE TABLE IF NOT EXISTS newest (
    journal TEXT NOT NULL,
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (journal, key)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS uniques (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;

-- Always empty: a batch puts a row here where an expectation fails, and the check refuses it.
CREATE TABLE IF NOT EXISTS guard (
    holds INTEGER NOT NULL CHECK (holds = 1)
);
