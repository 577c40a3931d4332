-- The audit log: leaves, the hashes from which proofs are made, and signed checkpoints.
-- `docs/audit.md` says what each byte means.

-- One row: which log this is, and whose signature its checkpoints have.
CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    log TEXT NOT NULL CHECK (length(log) = 32),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    -- When a write was last tried after one had failed.
    probed_us INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE audit_leaf (
    -- From 0, without gaps.
    seq INTEGER PRIMARY KEY CHECK (seq >= 0),
    -- RFC 8785 JSON, as it was hashed.
    leaf BLOB NOT NULL,
    leaf_hash BLOB NOT NULL CHECK (length(leaf_hash) = 32),
    chain_hash BLOB NOT NULL CHECK (length(chain_hash) = 32)
) STRICT;

-- The hashes of perfect subtrees of 16, 256, 4096, … leaves (levels 4, 8, 12, …).
CREATE TABLE audit_node (
    level INTEGER NOT NULL CHECK (level > 0 AND level % 4 = 0),
    position INTEGER NOT NULL CHECK (position >= 0),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, position)
) STRICT, WITHOUT ROWID;

-- One root for a size, for ever.
CREATE TABLE audit_checkpoint (
    size INTEGER PRIMARY KEY CHECK (size > 0),
    root BLOB NOT NULL CHECK (length(root) = 32),
    note TEXT NOT NULL
) STRICT;
