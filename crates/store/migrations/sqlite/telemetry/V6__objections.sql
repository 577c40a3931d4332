-- Why rules spoke against single requests, for `seaworthy requests --explain`: what the log was told.
-- `places` is where the request is at fault, and has nothing of what it says there.
CREATE TABLE objection (
    seq     INTEGER PRIMARY KEY,
    time_ms INTEGER NOT NULL,
    request TEXT NOT NULL,
    rule    TEXT NOT NULL,
    code    TEXT NOT NULL,
    detail  TEXT NOT NULL,
    places  TEXT NOT NULL
) STRICT;
CREATE INDEX objection_by_request ON objection (request);
-- The oldest go first.
CREATE INDEX objection_by_time ON objection (time_ms);
