-- Where rules stand, the receipts of what moved them, and whom nobody minds to break. All of it is
-- written in one transaction with its entry in the audit log.

-- One row a rule: the newest state, as JSON.
CREATE TABLE rule_standing (
    rule     TEXT PRIMARY KEY,
    standing TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What a version of a rule was like in `warn`, as JSON: `lane` is 0 for the present version and 1
-- for the one that is to take its place.
CREATE TABLE rule_before (
    rule   TEXT NOT NULL,
    lane   INTEGER NOT NULL,
    before TEXT NOT NULL,
    PRIMARY KEY (rule, lane)
) STRICT, WITHOUT ROWID;

-- `seq` is that of the entry in the audit log.
CREATE TABLE rollout_receipt (
    seq     INTEGER PRIMARY KEY,
    ts_us   INTEGER NOT NULL,
    rule    TEXT NOT NULL,
    receipt TEXT NOT NULL
) STRICT;
CREATE INDEX rollout_receipt_by_rule ON rollout_receipt (rule, seq);

CREATE TABLE rollout_waiver (
    rule     TEXT NOT NULL,
    client   TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    actor    TEXT NOT NULL,
    PRIMARY KEY (rule, client)
) STRICT, WITHOUT ROWID;

-- Alerts that have been taken, by a hash of what makes each one the same.
CREATE TABLE alert_delivery (
    key   BLOB PRIMARY KEY CHECK (length(key) = 32),
    ts_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX alert_delivery_by_time ON alert_delivery (ts_us);
