"""What each batch cost a DP base: one row a batch, so that none can pay twice. Filled from the log."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, then take over what the log says of batches that paid before."""
    charges = op.create_table(
        "charges",
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("base_id", sa.String(length=64), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.CheckConstraint("units > 0", name=op.f("ck_charges_units")),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_charges_base_id")),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_charges_batch_id")),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("pk_charges")),
    )
    with op.batch_alter_table("charges", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_charges_base_id"), ["base_id"], unique=False)
    if found := _paid():
        op.bulk_insert(charges, found)


def _paid() -> list[dict[str, object]]:
    """The charges in the log, whose entries carry a base's total after each of them."""
    log = sa.table("log_entries", sa.column("seq"), sa.column("kind"), sa.column("payload"))
    query = sa.select(log.c.payload).where(log.c.kind == "budget.changed").order_by(log.c.seq)
    totals: dict[str, int] = {}
    found = []
    for (payload,) in op.get_bind().execute(query):
        data = json.loads(bytes(payload))["data"]
        base, total = data["baseId"], data["unitsDeleted"]
        found.append({"batch_id": data["batchId"], "base_id": base, "units": total - totals.get(base, 0)})
        totals[base] = total
    return found
