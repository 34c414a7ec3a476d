"""Telling the living from the dead by locks."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

from smi_desktop.engine.presence import Presence


def test_the_living_see_each_other_and_nobody_is_taken_for_dead(tmp_path: Path) -> None:
    with Presence(tmp_path) as one, Presence(tmp_path) as two:
        assert one.name != two.name
        assert one.dead_engines() == two.dead_engines() == []
        assert len(list(tmp_path.iterdir())) == 2


def test_who_leaves_is_not_dead(tmp_path: Path) -> None:
    with Presence(tmp_path) as one:
        Presence(tmp_path).close()
        assert one.dead_engines() == []
        assert [path.stem for path in tmp_path.iterdir()] == [one.name]


def test_the_dead_are_found_until_they_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / "engine-dead.lock").touch()
    (tmp_path / "notes.txt").touch()
    with Presence(tmp_path) as one:
        assert one.dead_engines() == one.dead_engines() == ["engine-dead"]
        one.forget("engine-dead")
        one.forget("engine-dead")
        assert one.dead_engines() == []
        assert (tmp_path / "notes.txt").exists()


def test_the_folder_and_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    with Presence(tmp_path / "engines"):
        (file,) = (tmp_path / "engines").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_who_arrives_while_another_looks_is_neither_dead_nor_refused(tmp_path: Path) -> None:
    """A file that is seen before it is locked looks like that of a dead engine."""
    over = threading.Event()
    problems: list[object] = []

    def look() -> None:
        with Presence(tmp_path) as watcher:
            while not over.is_set():
                problems.extend(watcher.dead_engines())

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    for _ in range(300):
        try:
            with Presence(tmp_path) as new:
                if not (tmp_path / f"{new.name}.lock").exists():
                    problems.append("gone")
        except OSError as error:
            problems.append(error)
    over.set()
    for watcher in watchers:
        watcher.join()
    assert problems == []
