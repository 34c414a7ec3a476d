"""Bring any accepted picture to 8-bit grey or RGB, with or without alpha.

RGB and grey stay in their own profile, which goes along with the result. CMYK has no place in the
network nor on most screens: it becomes sRGB through its profile.
"""

from __future__ import annotations

import pyvips

from smi_desktop.imaging.metadata import has_alpha

_GREY = ("b-w", "grey16")
_WHITE = 255


def to_eight_bits(image: pyvips.Image) -> pyvips.Image:
    """Return the picture as 8-bit grey or RGB; an alpha band stays the last one."""
    if image.interpretation == "cmyk":
        return image.icc_transform(
            "srgb",
            embedded=True,
            input_profile="cmyk",
            intent="relative",
            black_point_compensation=True,
        )
    if image.format == "ushort":
        image = image.cast("uchar", shift=True)
    grey = image.interpretation in _GREY
    return image.copy(interpretation="b-w" if grey else "srgb")


def split_alpha(image: pyvips.Image) -> tuple[pyvips.Image, pyvips.Image | None]:
    """Return the colours and, if there is one, the alpha band."""
    if not has_alpha(image):
        return image, None
    return image.extract_band(0, n=image.bands - 1), image.extract_band(image.bands - 1)


def without_alpha(image: pyvips.Image) -> pyvips.Image:
    """Return the picture on white."""
    return image.flatten(background=_WHITE) if has_alpha(image) else image


def with_hidden_colours_filled(colours: pyvips.Image, alpha: pyvips.Image) -> pyvips.Image:
    """Give fully transparent pixels the colour of their visible neighbours.

    What lies under full transparency is arbitrary, often black, and would bleed into the edges.
    """
    reach = 4.0
    weight = alpha / _WHITE
    nearby = (colours * weight).gaussblur(reach) / (weight.gaussblur(reach) + 1e-6)
    filled = (alpha == 0).ifthenelse(nearby.rint(), colours)
    return filled.cast("uchar").copy(interpretation=colours.interpretation)
