"""How alembic runs a migration: on the connection it is handed, inside that connection's transaction."""

from alembic import context

from engine import models

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=models.Account.metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
    transaction_per_migration=False,
)
context.run_migrations()
