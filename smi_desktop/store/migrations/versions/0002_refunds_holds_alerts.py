"""Refunds and disputes mirrored, kinds of holds, circuits, alerts, deaths of tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "disputes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("due_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_disputes_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disputes")),
    )
    op.create_index(op.f("ix_disputes_order_id"), "disputes", ["order_id"])
    op.create_table(
        "circuits",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_circuits")),
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.BigInteger().with_variant(sa.INTEGER(), "sqlite"), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("order_id", sa.String(64), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_alerts_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("key", name=op.f("uq_alerts_key")),
    )
    op.create_index(op.f("ix_alerts_order_id"), "alerts", ["order_id"])
    with op.batch_alter_table("tasks") as batch_op:
        batch_op.add_column(
            sa.Column("deaths", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
        )
    with op.batch_alter_table("refunds") as batch_op:
        batch_op.add_column(sa.Column("failure_reason", sa.String(), nullable=True))
        batch_op.create_unique_constraint(
            batch_op.f("uq_refunds_order_id_cause"), ["order_id", "cause"]
        )
    with op.batch_alter_table("orders") as batch_op:
        batch_op.add_column(sa.Column("held_kind", sa.String(), nullable=True))
        batch_op.add_column(
            sa.Column("capture_when_ready", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(sa.Column("authorized_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(
            sa.Column(
                "refunded_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False
            )
        )
        batch_op.add_column(sa.Column("fee_minor", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("fee_currency", sa.String(3), nullable=True))
        batch_op.add_column(sa.Column("failure_reason", sa.Text(), nullable=True))
        batch_op.add_column(
            sa.Column("renewals", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
        )
    # What was held before there were kinds can be dealt with in every way.
    op.execute("UPDATE orders SET held_kind = 'given_up' WHERE held_at IS NOT NULL")


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("orders") as batch_op:
        for name in (
            "renewals", "failure_reason", "fee_currency", "fee_minor", "refunded_minor",
            "authorized_at", "capture_when_ready", "held_kind",
        ):  # fmt: skip
            batch_op.drop_column(name)
    with op.batch_alter_table("refunds") as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_refunds_order_id_cause"), type_="unique")
        batch_op.drop_column("failure_reason")
    with op.batch_alter_table("tasks") as batch_op:
        batch_op.drop_column("deaths")
    op.drop_table("alerts")
    op.drop_table("circuits")
    op.drop_table("disputes")
