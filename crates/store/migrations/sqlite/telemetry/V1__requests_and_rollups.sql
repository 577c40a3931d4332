-- telemetry.db: what the gateway saw. Times are Unix milliseconds (`time_ms`) or whole Unix
-- minutes (`minute`), durations microseconds (`_us`), sizes bytes.

CREATE TABLE route (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX route_by_name ON route (name);

-- `rate_limit`, or `rate_limit@POST /api/traces`.
CREATE TABLE rule (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX rule_by_name ON rule (name);

-- A sample of single requests. Each stands for `weight` requests of its kind.
CREATE TABLE request (
    seq            INTEGER PRIMARY KEY,
    time_ms        INTEGER NOT NULL,
    id             TEXT NOT NULL,
    duration_us    INTEGER NOT NULL,
    upstream_us    INTEGER NOT NULL,
    route_id       INTEGER NOT NULL REFERENCES route (id),
    method         TEXT NOT NULL,
    status         INTEGER NOT NULL,
    ending         TEXT NOT NULL,
    client         TEXT NOT NULL,
    tenant         TEXT NOT NULL,
    path           TEXT NOT NULL,
    request_bytes  INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    reason         TEXT,
    -- Names of rules, one a line; a name holds no line end. NULL where there are none.
    would_deny     TEXT,
    denied         TEXT,
    upstream       INTEGER,
    weight         REAL NOT NULL
) STRICT;
-- Every list is newest first, so each index ends in the time (and, as all do, in `seq`).
CREATE INDEX request_by_time         ON request (time_ms);
CREATE INDEX request_by_status       ON request (status, time_ms);
CREATE INDEX request_by_status_class ON request (status / 100, time_ms);
CREATE INDEX request_by_route        ON request (route_id, time_ms);
CREATE INDEX request_by_client       ON request (client, time_ms);
CREATE INDEX request_by_tenant       ON request (tenant, time_ms);
CREATE INDEX request_by_would_deny   ON request (time_ms) WHERE would_deny IS NOT NULL;
CREATE INDEX request_by_denied       ON request (time_ms) WHERE denied IS NOT NULL;

-- Exact counts of all requests, by the minute in which they ended. The last columns are the
-- latency histogram: how many requests took at most so long and longer than the column before.
CREATE TABLE rollup (
    minute          INTEGER NOT NULL,
    route_id        INTEGER NOT NULL REFERENCES route (id),
    method          TEXT NOT NULL,
    status_class    INTEGER NOT NULL,
    tenant          TEXT NOT NULL,
    requests        INTEGER NOT NULL,
    request_bytes   INTEGER NOT NULL,
    response_bytes  INTEGER NOT NULL,
    duration_us_sum INTEGER NOT NULL,
    duration_us_max INTEGER NOT NULL,
    to_50us         INTEGER NOT NULL,
    to_100us        INTEGER NOT NULL,
    to_250us        INTEGER NOT NULL,
    to_500us        INTEGER NOT NULL,
    to_1ms          INTEGER NOT NULL,
    to_2500us       INTEGER NOT NULL,
    to_5ms          INTEGER NOT NULL,
    to_10ms         INTEGER NOT NULL,
    to_25ms         INTEGER NOT NULL,
    to_50ms         INTEGER NOT NULL,
    to_75ms         INTEGER NOT NULL,
    to_100ms        INTEGER NOT NULL,
    to_250ms        INTEGER NOT NULL,
    to_500ms        INTEGER NOT NULL,
    to_750ms        INTEGER NOT NULL,
    to_1s           INTEGER NOT NULL,
    to_2500ms       INTEGER NOT NULL,
    to_5s           INTEGER NOT NULL,
    to_7500ms       INTEGER NOT NULL,
    to_10s          INTEGER NOT NULL,
    over_10s        INTEGER NOT NULL,
    PRIMARY KEY (minute, route_id, method, status_class, tenant)
) STRICT, WITHOUT ROWID;

-- Exact counts of the judgements of each rule.
CREATE TABLE rule_rollup (
    minute     INTEGER NOT NULL,
    rule_id    INTEGER NOT NULL REFERENCES rule (id),
    evaluated  INTEGER NOT NULL,
    would_deny INTEGER NOT NULL,
    denied     INTEGER NOT NULL,
    harm       INTEGER NOT NULL,
    PRIMARY KEY (minute, rule_id)
) STRICT, WITHOUT ROWID;

-- Requests that are in no rollup: the ring was full, or the disk was for too long. A window
-- with a row here is incomplete.
CREATE TABLE dropped_record (
    minute  INTEGER PRIMARY KEY,
    records INTEGER NOT NULL
) STRICT;
