"""Putting pictures into the catalogue, and keeping the one that is bought as it is.

Sole owner of the question "is this still the picture that we catalogued?". Sizes are measured on the
decoded picture, never taken from a client or a file name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smi_desktop.config import ShopSettings
from smi_desktop.domain.errors import InvalidInputError, NotForSaleError, RejectedError, SmiError
from smi_desktop.services.ports import ImageFacts
from smi_desktop.services.shop import Shop
from smi_desktop.store import images
from smi_desktop.store.models import Image

# A source for a 4x result at the embedded upscaler's cap is a sixteenth of it; above this nothing can be sold.
SOURCE_MAX_PIXELS: Final = 100_000_000
PREVIEW_EDGE: Final = 1200
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What the studio says of a picture that it adds."""

    path: Path
    title: str
    attachment_id: int | None = None
    post_id: int | None = None


@dataclass(frozen=True, slots=True)
class AddedImage:
    """A picture of the catalogue after it was added, or why it was not."""

    path: Path
    image: Image | None
    problem: str | None


def find_pictures(folder: Path) -> list[Path]:
    """Return the pictures in a folder and its sub-folders, sorted, hidden ones left out.

    Raises:
        InvalidInputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is not a folder.")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def add_pictures(shop: Shop, entries: list[CatalogueEntry]) -> Iterator[AddedImage]:
    """Add pictures one by one; one that cannot be read is reported and does not stop the others."""
    for entry in entries:
        try:
            yield AddedImage(entry.path, add_picture(shop, entry), None)
        except SmiError as error:
            yield AddedImage(entry.path, None, error.message)


def add_picture(shop: Shop, entry: CatalogueEntry) -> Image:
    """Add one picture of this machine, or bring its entry up to date.

    Raises:
        InvalidInputError: Not a picture, too large, or its number belongs to another one.
    """
    settings = shop.settings()
    path = entry.path.resolve()
    try:
        str(path).encode()
        stat = path.stat()
    except UnicodeEncodeError as error:
        raise InvalidInputError("The file's name cannot be read as text.") from error
    except OSError as error:
        raise InvalidInputError(f"The file cannot be read: {error.strerror}.") from error
    if stat.st_size > settings.source_max_bytes:
        raise InvalidInputError(
            f"The file has {stat.st_size:,} bytes; the shop takes {settings.source_max_bytes:,}."
        )
    facts = shop.images.inspect(path, max_pixels=SOURCE_MAX_PIXELS)
    _keep_preview(shop, path, facts.sha256)
    now = shop.now()
    with shop.database.write() as session:
        image = images.find_by_source(session, "file", str(path))
        if image is None:
            number = entry.attachment_id or images.next_attachment_id(session)
            if images.get(session, number) is not None:
                raise InvalidInputError(f"Number {number} belongs to another picture already.")
            image = Image(attachment_id=number, created_at=now, for_sale=True)
        elif entry.attachment_id not in {None, image.attachment_id}:
            raise InvalidInputError(f"This picture has the number {image.attachment_id} already.")
        image.post_id = entry.post_id if entry.post_id is not None else image.post_id
        image.title = entry.title
        image.source_kind = "file"
        image.source = str(path)
        image.source_mtime_ns = stat.st_mtime_ns
        image.source_sha256 = facts.sha256
        image.source_bytes = facts.bytes
        image.format = facts.format
        image.width, image.height = facts.width, facts.height
        image.updated_at = now
        session.add(image)
    return image


def preview_key(source_sha256: str) -> str:
    """Return where a picture's preview is kept."""
    return f"previews/{source_sha256}.jpg"


def secure_source(shop: Shop, settings: ShopSettings, image: Image) -> str:
    """Make sure that a picture can still be enlarged, and keep it as it is now.

    Returns:
        The snapshot's key in the file store: whatever happens to the original, this is what was bought.

    Raises:
        NotForSaleError: The source is gone, is no picture any more, or has another size than catalogued.
        TransientError: It could not be reached at the moment.
    """
    key = f"sources/{image.source_sha256}.{image.format}"
    with shop.temporary_folder("source") as folder:
        copy = folder / "source"
        if image.source_kind == "file":
            if shop.files.exists(key) and _is_untouched(image):
                return key
            _copy_file(image, copy, settings.source_max_bytes)
        else:
            _fetch_source(shop, settings, image, copy)
        if _sha256(copy) != image.source_sha256:
            facts = _inspect_changed(shop, image, copy)
            key = f"sources/{facts.sha256}.{facts.format}"
        if not shop.files.exists(key):
            shop.files.put(key, copy)
    return key


def _is_untouched(image: Image) -> bool:
    try:
        stat = Path(image.source).stat()
    except OSError as error:
        raise NotForSaleError("This picture's file is not there at the moment.") from error
    return stat.st_mtime_ns == image.source_mtime_ns and stat.st_size == image.source_bytes


def _copy_file(image: Image, copy: Path, max_bytes: int) -> None:
    try:
        with Path(image.source).open("rb") as source, copy.open("wb") as target:
            left = max_bytes
            while chunk := source.read(min(1 << 20, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise NotForSaleError("This picture's file has become too large.")
                target.write(chunk)
    except OSError as error:
        raise NotForSaleError("This picture's file is not there at the moment.") from error


def _fetch_source(shop: Shop, settings: ShopSettings, image: Image, copy: Path) -> None:
    try:
        shop.fetcher(settings).fetch(image.source, copy, max_bytes=settings.source_max_bytes)
    except RejectedError as error:
        raise NotForSaleError("This picture is no longer at its address.") from error


def _inspect_changed(shop: Shop, image: Image, copy: Path) -> ImageFacts:
    """Accept new bytes only where the size is still the one that prices are made of."""
    try:
        facts = shop.images.inspect(copy, max_pixels=SOURCE_MAX_PIXELS)
    except InvalidInputError as error:
        raise NotForSaleError("What is stored for this picture cannot be read.") from error
    if (facts.width, facts.height) != (image.width, image.height):
        raise NotForSaleError(
            "This picture has changed since it was catalogued; the studio must add it again."
        )
    _keep_preview(shop, copy, facts.sha256)
    return facts


def _keep_preview(shop: Shop, path: Path, sha256: str) -> None:
    key = preview_key(sha256)
    if shop.files.exists(key):
        return
    with shop.temporary_folder("preview") as folder:
        target = folder / "preview.jpg"
        shop.images.make_preview(path, target, longest_edge=PREVIEW_EDGE)
        shop.files.put(key, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
