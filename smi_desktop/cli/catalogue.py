"""`catalogue add` and `catalogue list`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.root import cli, json_option, print_json, print_table, read_config
from smi_desktop.services.catalogue import CatalogueEntry, add_pictures, find_pictures
from smi_desktop.store import images
from smi_desktop.store.models import Image


@cli.group()
def catalogue() -> None:
    """The pictures that are for sale."""


@catalogue.command("add")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--post", "post_id", type=click.IntRange(1), help="The page that they belong to.")
@json_option
@click.pass_obj
def add(data: Path | None, folder: Path, post_id: int | None, as_json: bool) -> None:
    """Add every JPEG, PNG and WebP of FOLDER; one that cannot be read is named and left out."""
    entries = [
        CatalogueEntry(path, title=path.stem.replace("-", " ").replace("_", " "), post_id=post_id)
        for path in find_pictures(folder)
    ]
    with open_shop(read_config(data)) as shop:
        added = list(add_pictures(shop, entries))
    if as_json:
        print_json(
            [
                {
                    "file": item.path,
                    "image": describe(item.image) if item.image else None,
                    "problem": item.problem,
                }
                for item in added
            ]
        )
    else:
        for item in added:
            if item.image is None:
                click.echo(f"Left out {item.path.name}: {item.problem}", err=True)
            else:
                size = f"{item.image.width} × {item.image.height}"
                click.echo(f"{item.image.attachment_id:>6}  {size:>13}  {item.image.title}")
        good = sum(item.image is not None for item in added)
        click.echo(f"{good} of {len(added)} pictures are in the catalogue.")
    if any(item.image is None for item in added):
        sys.exit(1)


@catalogue.command("list")
@click.option("--after", default=0, help="Go on after this number.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), help="How many at most.")
@json_option
@click.pass_obj
def list_images(data: Path | None, after: int, limit: int, as_json: bool) -> None:
    """List the catalogue by number."""
    with open_shop(read_config(data), only_look=True) as shop, shop.database.read() as session:
        found = images.list_page(session, after=after, limit=limit)
    if as_json:
        print_json([describe(image) for image in found])
        return
    rows = [
        (
            image.attachment_id,
            image.post_id,
            f"{image.width} × {image.height}",
            image.format,
            "yes" if image.for_sale else "no",
            image.title,
        )
        for image in found
    ]
    print_table(
        ("Number", "Post", "Pixels", "Type", "For sale", "Title"),
        rows,
        "The catalogue is empty. Fill it: smi-desktop catalogue add FOLDER",
    )


def describe(image: Image) -> dict[str, Any]:
    """Return a picture's entry as plain values."""
    return {
        "attachment_id": image.attachment_id,
        "post_id": image.post_id,
        "title": image.title,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "source": image.source,
        "for_sale": image.for_sale,
    }
