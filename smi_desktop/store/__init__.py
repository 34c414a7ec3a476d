"""The database: tables, migrations and one module of queries per noun. SQLite by default, PostgreSQL by URL."""
