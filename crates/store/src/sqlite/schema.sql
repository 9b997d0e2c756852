-- The tables of a lake's database, format version 1. Text is compared byte by byte.

CREATE TABLE IF NOT EXISTS objects (
    id BLOB NOT NULL PRIMARY KEY,
    content BLOB NOT NULL
);

CREATE TABLE IF NOT EXISTS refs (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- The last assigned position of each journal.
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

-- The newest entry of each key, without tombstones.
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

-- Always empty: a batch inserts a row if a precondition fails, and the check constraint rejects it.
CREATE TABLE IF NOT EXISTS guard (
    holds INTEGER NOT NULL CHECK (holds = 1)
);
