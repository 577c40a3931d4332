-- The help desk's tables. Every list pages by its key within a tenant, so each has that index.
-- Each table has a bound, kept by its trigger: clients that run for days fill no disk.

CREATE TABLE complaints (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    category TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'open',
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX complaints_by_tenant ON complaints (tenant, id);
CREATE TRIGGER complaints_bound AFTER INSERT ON complaints BEGIN
    DELETE FROM complaints WHERE id <= new.id - 20000;
END;

CREATE TABLE notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    complaint INTEGER NOT NULL REFERENCES complaints (id) ON DELETE CASCADE,
    author TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX notes_by_complaint ON notes (complaint, id);
CREATE TRIGGER notes_bound AFTER INSERT ON notes BEGIN
    DELETE FROM notes WHERE id <= new.id - 20000;
END;

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX messages_by_tenant ON messages (tenant, id);
CREATE TRIGGER messages_bound AFTER INSERT ON messages BEGIN
    DELETE FROM messages WHERE id <= new.id - 20000;
END;

CREATE TABLE simulations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    agents INTEGER NOT NULL,
    size INTEGER NOT NULL,
    wait_minutes_mean REAL NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE TRIGGER simulations_bound AFTER INSERT ON simulations BEGIN
    DELETE FROM simulations WHERE id <= new.id - 20000;
END;

CREATE TABLE gradings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    score INTEGER NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE TRIGGER gradings_bound AFTER INSERT ON gradings BEGIN
    DELETE FROM gradings WHERE id <= new.id - 20000;
END;

CREATE TABLE traces (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    steps INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX traces_by_tenant ON traces (tenant, id);
CREATE TRIGGER traces_bound AFTER INSERT ON traces BEGIN
    DELETE FROM traces WHERE id <= new.id - 20000;
END;

CREATE TABLE companies (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    stage TEXT NOT NULL,
    employees INTEGER NOT NULL,
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (tenant, id)
) STRICT;
-- The row just written has the highest rowid, or is an old one that an update left in place.
CREATE TRIGGER companies_bound AFTER INSERT ON companies BEGIN
    DELETE FROM companies WHERE rowid <= new.rowid - 20000;
END;
