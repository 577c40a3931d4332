-- What requests were like, for `seaworthy schema learn`: names and kinds, and no value of any.
-- `key` is a part of the SHA-256 of `shape`, which is one line of JSON.
CREATE TABLE request_shape (
    key      BLOB NOT NULL PRIMARY KEY,
    shape    TEXT NOT NULL,
    samples  INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL
) STRICT;
-- The least recently seen go first.
CREATE INDEX request_shape_by_last ON request_shape (last_ms);
