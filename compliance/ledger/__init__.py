"""The ledger: every query, and every write together with its log entry, in one transaction."""
