-- Who called, by client and whole UTC day (`day`, days since the Unix epoch). A client beyond the
-- bound of the table counts for the client `~other`, and a name beyond the bound of its list for
-- a name that is a single line feed, which no name can be.

CREATE TABLE consumer (
    id       INTEGER PRIMARY KEY,
    -- As `request` has it.
    client   TEXT NOT NULL,
    -- `internal`, `external` or `unknown`: that of the last request.
    kind     TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX consumer_by_client ON consumer (client);
CREATE INDEX consumer_by_last ON consumer (last_ms);

CREATE TABLE consumer_day (
    consumer_id INTEGER NOT NULL REFERENCES consumer (id),
    day         INTEGER NOT NULL,
    requests    INTEGER NOT NULL,
    PRIMARY KEY (consumer_id, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX consumer_day_by_day ON consumer_day (day, consumer_id);

-- `trait` is `agent`, `tenant` or `route`; `name` is empty where a request had none.
CREATE TABLE consumer_trait (
    consumer_id INTEGER NOT NULL REFERENCES consumer (id),
    day         INTEGER NOT NULL,
    trait       TEXT NOT NULL,
    name        TEXT NOT NULL,
    requests    INTEGER NOT NULL,
    PRIMARY KEY (consumer_id, day, trait, name)
) STRICT, WITHOUT ROWID;

-- What rules said against a client's requests; there is no row where they said nothing.
CREATE TABLE consumer_rule (
    consumer_id INTEGER NOT NULL REFERENCES consumer (id),
    day         INTEGER NOT NULL,
    rule_id     INTEGER NOT NULL REFERENCES rule (id),
    would_deny  INTEGER NOT NULL,
    denied      INTEGER NOT NULL,
    harm        INTEGER NOT NULL,
    PRIMARY KEY (consumer_id, day, rule_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX consumer_rule_by_rule ON consumer_rule (rule_id, day);
