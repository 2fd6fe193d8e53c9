"""A batch may have two reports: one on a guard while it goes on, and one at its end."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let reports share a batch."""
    with op.batch_alter_table("reports", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_reports_batch_id"), type_="unique")
        batch_op.create_index(batch_op.f("ix_reports_batch_id"), ["batch_id"], unique=False)
