"""Pictures of the catalogue, and whether each is still the one that was catalogued."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from smi_desktop.domain.errors import (
    InvalidInputError,
    LinkExpiredError,
    NotForSaleError,
    TransientError,
)
from smi_desktop.services.catalogue import (
    CatalogueEntry,
    add_picture,
    add_pictures,
    find_pictures,
    preview_key,
    secure_source,
)
from smi_desktop.services.prices import find_image
from smi_desktop.store import images
from smi_desktop.store.models import Image
from tests.fakes.image_reader import fake_image
from tests.world import World


def picture(world: World, name: str = "sea.png", content: bytes | None = None) -> Path:
    path = world.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(fake_image(400, 300, content=name) if content is None else content)
    return path


def test_a_folder_gives_its_pictures_sorted_and_no_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "sub/c.webp", ".hidden.png", ".cache/d.png", "notes.txt"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "pictures" / "folder.png").mkdir()
    root = tmp_path / "pictures"
    found = [str(path.relative_to(root)) for path in find_pictures(root)]
    assert found == ["a.png", "b.JPG", "sub/c.webp"]


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="not a folder"):
        find_pictures(tmp_path / "nowhere")


def test_a_picture_is_measured_and_gets_a_number_and_a_preview(world: World) -> None:
    image = add_picture(world.shop, CatalogueEntry(picture(world), "Sea"))
    assert (image.attachment_id, image.width, image.height) == (1, 400, 300)
    assert (image.format, image.title, image.source_kind) == ("png", "Sea", "file")
    assert world.files.exists(preview_key(image.source_sha256))
    assert find_image(world.shop, 1).for_sale


def test_a_picture_may_have_the_number_that_the_site_gave_it(world: World) -> None:
    entry = CatalogueEntry(picture(world), "Sea", attachment_id=57, post_id=3)
    image = add_picture(world.shop, entry)
    assert (image.attachment_id, image.post_id) == (57, 3)
    following = add_picture(world.shop, CatalogueEntry(picture(world, "b.png"), "B"))
    assert following.attachment_id == 58


def test_a_number_that_belongs_to_another_picture_is_refused(world: World) -> None:
    add_picture(world.shop, CatalogueEntry(picture(world), "Sea", attachment_id=57))
    with pytest.raises(InvalidInputError, match="57 belongs to another"):
        add_picture(world.shop, CatalogueEntry(picture(world, "b.png"), "B", attachment_id=57))


def test_adding_a_picture_again_brings_its_entry_up_to_date(world: World) -> None:
    path = picture(world)
    add_picture(world.shop, CatalogueEntry(path, "Sea", post_id=3))
    path.write_bytes(fake_image(800, 600))
    image = add_picture(world.shop, CatalogueEntry(path, "The sea"))
    assert (image.attachment_id, image.post_id, image.title) == (1, 3, "The sea")
    assert (image.width, image.height) == (800, 600)


def test_a_picture_cannot_be_added_under_a_second_number(world: World) -> None:
    path = picture(world)
    add_picture(world.shop, CatalogueEntry(path, "Sea", attachment_id=12))
    assert add_picture(world.shop, CatalogueEntry(path, "Sea", attachment_id=12)).title == "Sea"
    with pytest.raises(InvalidInputError, match="number 12 already"):
        add_picture(world.shop, CatalogueEntry(path, "Sea", attachment_id=57))


def test_a_picture_that_was_taken_out_of_sale_stays_so(world: World) -> None:
    path = picture(world)
    add_picture(world.shop, CatalogueEntry(path, "Sea"))
    with world.database.write() as session:
        session.get_one(Image, 1).for_sale = False
    assert not add_picture(world.shop, CatalogueEntry(path, "Sea")).for_sale


def test_one_bad_file_does_not_stop_the_others(world: World) -> None:
    world.set(source_max_bytes=500)
    paths = [
        picture(world, "good.png"),
        picture(world, "bad.png", b"no picture"),
        world.folder / "gone.png",
        picture(world, "large.png", fake_image(4, 3, content="x" * 600)),
        world.folder / "\udcff.png",
        picture(world, "last.png"),
    ]
    entries = [CatalogueEntry(path, path.stem) for path in paths]
    found = list(add_pictures(world.shop, entries))
    assert [item.image is not None for item in found] == [True, False, False, False, False, True]
    assert all(item.problem for item in found if item.image is None)
    with world.database.read() as session:
        assert images.count(session) == 2


def test_a_name_that_is_no_text_is_told(world: World) -> None:
    path = world.folder / os.fsdecode(b"\xff.png")
    path.write_bytes(fake_image(4, 3))
    (found,) = add_pictures(world.shop, [CatalogueEntry(path, "Sea")])
    assert found.image is None
    assert "name" in (found.problem or "")


def remote_image(world: World, content: bytes) -> Image:
    world.fetcher.pages["https://studio.example/sea.png"] = content
    number = world.add_image(title="Remote")
    with world.database.write() as session:
        image = session.get_one(Image, number)
        image.source_kind, image.source = "url", "https://studio.example/sea.png"
    return image


def test_a_picture_of_the_web_is_fetched_and_kept(world: World) -> None:
    image = remote_image(world, fake_image(400, 300, content="Remote"))
    key = secure_source(world.shop, world.shop.settings(), image)
    assert world.files.path(key).read_bytes() == fake_image(400, 300, content="Remote")
    assert key == f"sources/{image.source_sha256}.png"


def test_a_picture_of_the_web_that_has_changed_its_size_is_not_sold(world: World) -> None:
    image = remote_image(world, fake_image(4, 3))
    with pytest.raises(NotForSaleError, match="has changed"):
        secure_source(world.shop, world.shop.settings(), image)


def test_a_picture_of_the_web_that_is_gone_is_not_sold(world: World) -> None:
    image = remote_image(world, b"")
    world.fetcher.fail_next(LinkExpiredError("404"))
    with pytest.raises(NotForSaleError, match="no longer at its address"):
        secure_source(world.shop, world.shop.settings(), image)


def test_a_web_that_is_away_is_not_the_pictures_fault(world: World) -> None:
    image = remote_image(world, b"")
    world.fetcher.fail_next(TransientError("away"))
    with pytest.raises(TransientError):
        secure_source(world.shop, world.shop.settings(), image)


def test_a_copy_that_was_lost_is_made_again(world: World) -> None:
    image = find_image(world.shop, world.add_image())
    key = secure_source(world.shop, world.shop.settings(), image)
    world.files.delete(key)
    assert secure_source(world.shop, world.shop.settings(), image) == key
    assert world.files.exists(key)


def test_a_file_that_was_only_touched_is_the_same_picture(world: World) -> None:
    image = find_image(world.shop, world.add_image())
    key = secure_source(world.shop, world.shop.settings(), image)
    os.utime(image.source, (0, 0))
    assert secure_source(world.shop, world.shop.settings(), image) == key


def test_a_disk_without_space_is_not_the_pictures_fault(world: World) -> None:
    image = find_image(world.shop, world.add_image())
    blocked = world.folder / "blocked"
    blocked.write_text("a file where the folder should be")
    shop = replace(world.shop, work_dir=blocked)
    with pytest.raises(TransientError, match="cannot be written"):
        secure_source(shop, shop.settings(), image)
