"""The image child as a process: its limits, its ends, and what each of them means to the caller."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pyvips

from smi_desktop.adapters.embedded_upscaler import EmbeddedUpscaler
from smi_desktop.adapters.image_reader import ProcessImageReader
from smi_desktop.domain.errors import BadResultError, InvalidInputError, TransientError
from smi_desktop.imaging.client import ImageChild, child_environment
from smi_desktop.imaging.limits import Role
from tests.integration.imaging.processes import PATIENCE, image_children, is_gone, wait_until
from tests.unit.imaging.pictures import paint

MEGA = 1_000_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


def nobody_listens() -> bool:
    return not [thread for thread in threading.enumerate() if "image-child" in thread.name]


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    assert wait_until(lambda: not image_children())
    assert nobody_listens()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[ProcessImageReader]:
    reader = ProcessImageReader(tmp_path / "work", seconds=PATIENCE)
    yield reader
    reader.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    paint(60, 40).pngsave(str(path))
    return path


@pytest.fixture
def large_picture(tmp_path: Path) -> Path:
    """A picture whose 8x takes half a minute or so, far longer than any test waits."""
    path = tmp_path / "large.png"
    paint(1000, 1000).pngsave(str(path), compression=1)
    return path


def enlarge(
    work_dir: Path,
    source: Path,
    destination: Path,
    *,
    factor: int = 4,
    seconds: float = PATIENCE,
    on_progress: Callable[[float], None] = lambda _share: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    EmbeddedUpscaler(work_dir).upscale(
        source,
        destination,
        factor=factor,
        on_progress=on_progress,
        cancelled=cancelled,
        seconds=seconds,
    )


@pytest.mark.parametrize("role", list(Role))
def test_a_child_lowers_its_own_rights(tmp_path: Path, picture: Path, role: Role) -> None:
    with ImageChild(role, tmp_path) as child:
        assert child.pid is not None
        limits = Path(f"/proc/{child.pid}/limits")
        assert wait_until(lambda: "Max core file size        0 " in limits.read_text())
        pid = child.pid
        assert wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pid) >= 10)
        table = {
            line[:26].strip(): line[26:].split()[0] for line in limits.read_text().splitlines()
        }
        status = Path(f"/proc/{child.pid}/status").read_text()

    assert int(table["Max data size"]) <= 4 * 2**30
    assert int(table["Max open files"]) <= 256
    assert "Umask:\t0077" in status


def test_files_are_readable_by_their_owner_alone(reader: ProcessImageReader, picture: Path) -> None:
    preview = picture.with_name("preview.jpg")

    reader.make_preview(picture, preview, longest_edge=20)

    assert preview.stat().st_mode & 0o777 == 0o600


def test_a_child_inherits_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMI_SECRET_STRIPE_KEY", "canary-7f3a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-7f3a")

    environment = child_environment(tmp_path)

    assert "canary" not in str(environment)
    assert environment["TMPDIR"] == str(tmp_path)


def test_running_out_of_memory_fails_the_attempt_alone(tmp_path: Path) -> None:
    hungry = tmp_path / "interlaced.png"
    paint(3000, 3000).pngsave(str(hungry), interlace=True, compression=1)
    arguments = {"path": str(hungry), "max_pixels": 20 * MEGA}
    with ImageChild(Role.DECODE, tmp_path) as child:
        assert child.pid is not None
        small = tmp_path / "small.png"
        paint().pngsave(str(small))
        child.ask("inspect", {"path": str(small), "max_pixels": MEGA}, PATIENCE)
        resource.prlimit(child.pid, resource.RLIMIT_DATA, (48 * 2**20, 48 * 2**20))

        with pytest.raises(TransientError):
            child.ask("inspect", arguments, PATIENCE)

        assert not child.usable


def test_cancelling_ends_the_child_promptly(tmp_path: Path, large_picture: Path) -> None:
    pids: list[int] = []
    cancelled = threading.Event()

    def on_progress(_share: float) -> None:
        pids.extend(image_children())
        cancelled.set()

    work = tmp_path / "work"
    with pytest.raises(TransientError, match="cancelled"):
        enlarge(
            work,
            large_picture,
            tmp_path / "result.png",
            factor=8,
            on_progress=on_progress,
            cancelled=cancelled.is_set,
        )

    assert pids
    assert all(is_gone(pid) for pid in pids)
    assert list(work.iterdir()) == []
    assert not list(tmp_path.glob("result*"))


def test_a_time_out_ends_the_child_promptly(tmp_path: Path, large_picture: Path) -> None:
    work = tmp_path / "work"
    started = time.monotonic()

    with pytest.raises(TransientError, match="longer than"):
        enlarge(work, large_picture, tmp_path / "result.png", factor=8, seconds=1.0)

    assert time.monotonic() - started < 5.0
    assert image_children() == []
    assert list(work.iterdir()) == []


def test_a_child_that_hangs_is_ended_and_the_next_one_works(tmp_path: Path, picture: Path) -> None:
    reader = ProcessImageReader(tmp_path / "work", seconds=2.0)
    reader.inspect(picture, max_pixels=MEGA)
    (hanging,) = image_children()
    os.kill(hanging, signal.SIGSTOP)

    with pytest.raises(TransientError, match="longer than"):
        reader.inspect(picture, max_pixels=MEGA)

    assert is_gone(hanging)
    assert reader.inspect(picture, max_pixels=MEGA).width == 60
    reader.close()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_fails_the_attempt_alone(
    tmp_path: Path, large_picture: Path, picture: Path, signal_number: signal.Signals
) -> None:
    def crash(_share: float) -> None:
        for child in image_children():
            os.kill(child, signal_number)

    work = tmp_path / "work"
    with pytest.raises(TransientError, match="ended unexpectedly"):
        enlarge(work, large_picture, tmp_path / "result.png", factor=8, on_progress=crash)
    assert list(work.iterdir()) == []

    enlarge(work, picture, tmp_path / "result.png")
    assert pyvips.Image.new_from_file(str(tmp_path / "result.png")).width == 240


def test_a_child_dies_with_its_parent(tmp_path: Path, large_picture: Path) -> None:
    """The parent kills itself in the middle of an upscale, and the child is stopped.

    So neither of them can do anything: only the kernel's signal can end the child.
    """
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from smi_desktop.imaging.client import upscale
        from tests.integration.imaging.processes import image_children

        def die(share):
            print(*image_children(), flush=True)
            for child in image_children():
                os.kill(child, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGKILL)

        folder = Path(sys.argv[1])
        upscale(folder / "large.png", folder / "result.png", factor=8, work_dir=folder / "work",
                on_progress=die, cancelled=lambda: False, seconds=60)
        """
    )
    root = Path(__file__).resolve().parents[3]
    parent = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        check=False,
        timeout=PATIENCE,
    )

    assert parent.returncode == -signal.SIGKILL
    pids = [int(word) for word in parent.stdout.split()]
    assert pids
    assert wait_until(lambda: all(is_gone(pid) for pid in pids))
    assert list((tmp_path / "work").iterdir()) == []


def test_a_child_ends_when_its_input_is_closed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "smi_desktop.imaging.child", "decode", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[3],
    )
    with process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_a_warm_child_is_used_again_by_other_threads(
    reader: ProcessImageReader, picture: Path
) -> None:
    """The thread that asked first has ended: its end must not take the child along."""
    pids: list[int] = []

    def look() -> None:
        reader.inspect(picture, max_pixels=MEGA)
        pids.extend(image_children())

    for _ in range(3):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    assert len(pids) == 3
    assert len(set(pids)) == 1


def test_a_child_that_met_a_bad_picture_is_not_used_again(
    reader: ProcessImageReader, picture: Path
) -> None:
    reader.inspect(picture, max_pixels=MEGA)
    (first,) = image_children()
    picture.with_name("bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")

    with pytest.raises(InvalidInputError):
        reader.inspect(picture.with_name("bad.png"), max_pixels=MEGA)

    assert is_gone(first)
    assert reader.inspect(picture, max_pixels=MEGA).format == "png"


def test_a_child_that_died_while_idle_is_not_asked(
    reader: ProcessImageReader, picture: Path
) -> None:
    reader.inspect(picture, max_pixels=MEGA)
    (idle,) = image_children()
    os.kill(idle, signal.SIGKILL)
    assert wait_until(nobody_listens)

    assert reader.inspect(picture, max_pixels=MEGA).width == 60


def test_many_threads_share_a_few_children(reader: ProcessImageReader, picture: Path) -> None:
    sizes: list[int] = []
    most: list[int] = []

    def look() -> None:
        for _ in range(3):
            sizes.append(reader.inspect(picture, max_pixels=MEGA).width)
            most.append(len(image_children()))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sizes == [60] * 24
    assert max(most) <= 2


def test_the_reader_tells_facts_and_finishes_results(
    reader: ProcessImageReader, tmp_path: Path, picture: Path
) -> None:
    enlarge(tmp_path / "work", picture, tmp_path / "result.png")

    facts = reader.finish_result(
        tmp_path / "result.png",
        picture,
        tmp_path / "delivered.jpg",
        width=240,
        height=160,
        format="jpeg",
        jpeg_quality=95,
    )

    assert (facts.width, facts.height, facts.format) == (240, 160, "jpeg")
    assert facts == reader.inspect(tmp_path / "delivered.jpg", max_pixels=MEGA)


def test_a_wrong_result_is_refused_across_the_process_border(
    reader: ProcessImageReader, tmp_path: Path, picture: Path
) -> None:
    with pytest.raises(BadResultError, match="60 x 40"):
        reader.finish_result(
            picture,
            picture,
            tmp_path / "delivered.jpg",
            width=240,
            height=160,
            format="jpeg",
            jpeg_quality=95,
        )


def test_other_decoders_are_blocked_even_behind_a_known_name(
    reader: ProcessImageReader, tmp_path: Path
) -> None:
    drawing = tmp_path / "drawing.png"
    drawing.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')

    with pytest.raises(InvalidInputError, match="JPEG, PNG or WebP"):
        reader.make_preview(drawing, tmp_path / "preview.jpg", longest_edge=20)


def test_a_source_that_is_no_picture_is_a_bad_result(tmp_path: Path) -> None:
    source = tmp_path / "source.jpg"
    source.write_text("<html></html>")

    with pytest.raises(BadResultError, match="not a JPEG, PNG or WebP"):
        enlarge(tmp_path / "work", source, tmp_path / "result.png")


def test_an_unwritable_destination_may_be_tried_again(tmp_path: Path, picture: Path) -> None:
    with pytest.raises(TransientError, match="could not be written"):
        enlarge(tmp_path / "work", picture, tmp_path / "missing" / "result.png")
