"""The desk's tests, on SQLite and on a real PostgreSQL."""
