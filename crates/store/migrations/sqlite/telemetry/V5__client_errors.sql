-- Of each client what is known of all of them: the failures of the service, where the rule was
-- enforced and where it was not, and the checks that took longer than the latency budget. What was
-- written before does not know them.

ALTER TABLE evidence_client ADD COLUMN enforced_errors INTEGER NOT NULL DEFAULT 0;
ALTER TABLE evidence_client ADD COLUMN control_errors INTEGER NOT NULL DEFAULT 0;
ALTER TABLE evidence_client ADD COLUMN slow INTEGER NOT NULL DEFAULT 0;
