-- What each rule said, by tick: `start_ms` is the start of the tick in Unix milliseconds. `lane` is
-- 0 for the version that has the rule's mode and 1 for the one that is to take its place.

CREATE TABLE evidence (
    rule_id         INTEGER NOT NULL REFERENCES rule (id),
    start_ms        INTEGER NOT NULL,
    lane            INTEGER NOT NULL,
    evaluated       INTEGER NOT NULL,
    would_deny      INTEGER NOT NULL,
    denied          INTEGER NOT NULL,
    harm            INTEGER NOT NULL,
    enforced        INTEGER NOT NULL,
    unidentified    INTEGER NOT NULL,
    enforced_errors INTEGER NOT NULL,
    control_errors  INTEGER NOT NULL,
    slow            INTEGER NOT NULL,
    PRIMARY KEY (start_ms, rule_id, lane)
) STRICT, WITHOUT ROWID;

-- The clients with the most harm, and `~other` for the rest. `run` tells the processes apart that
-- counted in one tick: what one says of a client takes the place of what it said before.
CREATE TABLE evidence_client (
    start_ms   INTEGER NOT NULL,
    rule_id    INTEGER NOT NULL REFERENCES rule (id),
    lane       INTEGER NOT NULL,
    run        INTEGER NOT NULL,
    client     TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    evaluated  INTEGER NOT NULL,
    would_deny INTEGER NOT NULL,
    denied     INTEGER NOT NULL,
    harm       INTEGER NOT NULL,
    enforced   INTEGER NOT NULL,
    PRIMARY KEY (start_ms, rule_id, lane, run, client)
) STRICT, WITHOUT ROWID;

-- Requests that are in no evidence, noted for each tick that they may have belonged to.
CREATE TABLE evidence_gap (
    start_ms INTEGER PRIMARY KEY,
    records  INTEGER NOT NULL
) STRICT;

-- When a client last called a route: whether a window of evidence has seen it.
ALTER TABLE consumer_trait ADD COLUMN last_ms INTEGER NOT NULL DEFAULT 0;
