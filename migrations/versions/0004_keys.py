"""A registered key has its algorithm, and may have been revoked; every key so far is Ed25519 and in force."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("service_keys", schema=None) as batch_op:
        batch_op.add_column(sa.Column("algorithm", sa.String(length=16), server_default="ed25519", nullable=False))
        batch_op.add_column(sa.Column("revoked_index", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("revoked_reason", sa.String(length=16), nullable=True))
