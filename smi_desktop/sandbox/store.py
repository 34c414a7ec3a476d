"""Everything the providers remember, in one table of JSON objects (`DIR/sandbox.db`).

Sole owner of the file. A provider that is killed and started again goes on from it. `synchronous` is OFF:
what a killed process has written is safe in the system's cache, and a rehearsal need not outlive a power cut.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    parent TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL DEFAULT 0,
    due REAL,
    json TEXT NOT NULL,
    UNIQUE (kind, id)
);
CREATE INDEX IF NOT EXISTS objects_by_id ON objects (id);
CREATE INDEX IF NOT EXISTS objects_by_parent ON objects (kind, parent);
CREATE INDEX IF NOT EXISTS objects_by_due ON objects (kind, status, due);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
NO_LIMIT: Final = -1


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind to list.

    Attributes:
        created: Limits on the creation time by `gt`, `gte`, `lt`, `lte`, in Unix seconds.
        statuses: Any of these; empty for every status.
        types: Any of these in the JSON field `type`; empty for every type.
        before_seq, after_seq: Only rows made earlier, or later, than that row.
        oldest_first: The order; newest first is Stripe's.
    """

    parent: str | None = None
    statuses: Sequence[str] = ()
    types: Sequence[str] = ()
    created: Mapping[str, float] = field(default_factory=dict)
    before_seq: int | None = None
    after_seq: int | None = None
    oldest_first: bool = False
    limit: int = NO_LIMIT


class ObjectStore:
    """JSON objects by kind and id. Safe to use from any thread; one transaction at a time.

    Args:
        file: The database's path; made if missing.
        seed: Makes the ids repeatable from an empty database on; random if None.
    """

    def __init__(self, file: Path, seed: int | None = None) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)
        chosen = str(seed) if seed is not None else secrets.token_hex(16)
        self._db.execute("INSERT OR IGNORE INTO facts VALUES ('seed', ?)", (chosen,))
        self._seed = self.fact("seed")

    def close(self) -> None:
        """Close the file; the store cannot be used any more."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything written inside one effect: all of it, or nothing after an exception."""
        with self._lock:
            if self._depth == 0:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("COMMIT")

    def fact(self, name: str, default: str = "") -> str:
        """Return a single named value."""
        with self._lock:
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else default

    def set_fact(self, name: str, value: str) -> None:
        """Keep a single named value."""
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def next_number(self, name: str) -> int:
        """Count up and return a named number, from 1; never the same twice, not even after a restart."""
        with self.transaction():
            number = int(self.fact(name, "0")) + 1
            self.set_fact(name, str(number))
        return number

    def new_id(self, prefix: str, length: int = 24) -> str:
        """Return an id such as `pi_3a…`: made from the seed and a number that is never used again."""
        digest = hashlib.shake_256(f"{self._seed}:{self.next_number('id')}".encode()).digest(length)
        return prefix + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest)

    def put(
        self,
        kind: str,
        value: Json,
        *,
        parent: str | None = None,
        status: str | None = None,
        due: float | None = None,
    ) -> None:
        """Store an object under its `id`. `parent` and `status` stay as they were if None; `due` does not."""
        row = (
            kind, value["id"], parent or "", status or "",
            float(value.get("created") or 0), due, json.dumps(value), parent, status,
        )  # fmt: skip
        with self.transaction():
            self._db.execute(
                "INSERT INTO objects (kind, id, parent, status, created, due, json)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (kind, id) DO UPDATE SET"
                " parent = coalesce(?8, parent), status = coalesce(?9, status), due = ?6, json = ?7",
                row,
            )

    def get(self, kind: str, object_id: str) -> Json | None:
        """Return an object, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT json FROM objects WHERE kind = ? AND id = ?", (kind, object_id)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def status(self, kind: str, object_id: str) -> str:
        """Return the status under which an object is filed; empty if there is none."""
        with self._lock:
            row = self._db.execute(
                "SELECT status FROM objects WHERE kind = ? AND id = ?",
                (kind, object_id),
            ).fetchone()
        return str(row[0]) if row else ""

    def seq(self, kind: str, object_id: str) -> int | None:
        """Return the place of an object in the order of making, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT seq FROM objects WHERE kind = ? AND id = ?", (kind, object_id)
            ).fetchone()
        return int(row[0]) if row else None

    def rows(self, kind: str, selection: Selection | None = None) -> list[Json]:
        """Return the objects of a kind that a selection names."""
        chosen = selection or Selection()
        where, values = _where(chosen)
        order = "ASC" if chosen.oldest_first else "DESC"
        # Only our own words and question marks are put together here; every value is a parameter.
        query = f"SELECT json FROM objects WHERE kind = ?{where} ORDER BY seq {order} LIMIT ?"  # noqa: S608
        with self._lock:
            rows = self._db.execute(query, (kind, *values, chosen.limit)).fetchall()
        return [json.loads(row[0]) for row in rows]

    def due(self, kind: str, status: str, until: float, limit: int) -> list[Json]:
        """Return objects with a status whose time has come, the longest due first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT json FROM objects WHERE kind = ? AND status = ? AND due <= ?"
                " ORDER BY due, seq LIMIT ?",
                (kind, status, until, limit),
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def counts(self, kind: str) -> dict[str, int]:
        """Return how many objects of a kind there are by status."""
        with self._lock:
            rows = self._db.execute(
                "SELECT status, count(*) FROM objects WHERE kind = ? GROUP BY status",
                (kind,),
            ).fetchall()
        return {str(status): int(count) for status, count in rows}

    def delete(
        self, kind: str, *, object_id: str | None = None, before: float | None = None
    ) -> None:
        """Remove objects of a kind: one, those made before a time, or all of them."""
        with self.transaction():
            self._db.execute(
                "DELETE FROM objects WHERE kind = ?1 AND (?2 IS NULL OR id = ?2)"
                " AND (?3 IS NULL OR created < ?3)",
                (kind, object_id, before),
            )

    def sums(self, kind: str, field_name: str) -> dict[str, int]:
        """Return the sum of a number field by the objects' `currency`."""
        with self._lock:
            rows = self._db.execute(
                "SELECT json_extract(json, '$.currency'), sum(json_extract(json, ?))"
                " FROM objects WHERE kind = ? GROUP BY 1",
                (f"$.{field_name}", kind),
            ).fetchall()
        return {str(currency): int(total) for currency, total in rows}


def _where(selection: Selection) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    if selection.parent is not None:
        parts.append("parent = ?")
        values.append(selection.parent)
    for column, allowed in (
        ("status", selection.statuses),
        ("json_extract(json, '$.type')", selection.types),
    ):
        if allowed:
            parts.append(f"{column} IN ({', '.join('?' * len(allowed))})")
            values.extend(allowed)
    for name, sign in (("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")):
        if name in selection.created:
            parts.append(f"created {sign} ?")
            values.append(float(selection.created[name]))
    if selection.before_seq is not None:
        parts.append("seq < ?")
        values.append(selection.before_seq)
    if selection.after_seq is not None:
        parts.append("seq > ?")
        values.append(selection.after_seq)
    return "".join(f" AND {part}" for part in parts), values
