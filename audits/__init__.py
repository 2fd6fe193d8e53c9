"""Can you prove it? Logs, signatures, statements and their offline verification; no torch, no database."""
