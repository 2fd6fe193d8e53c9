"""Evidence to gates, statement, signature, self-verification, log and ledger."""
