"""Runs migrations on the one connection that `Database.migrate` hands over; never opens its own."""

from __future__ import annotations

from alembic import context

from smi_desktop.store.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
