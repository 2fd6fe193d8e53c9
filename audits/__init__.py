"""Can you prove it? Logs, signatures, statements and their offline verification, without torch and without a database."""
