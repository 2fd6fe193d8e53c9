"""Alembic migrations, shipped in the wheel; `expunge db upgrade` runs them on SQLite and PostgreSQL."""
