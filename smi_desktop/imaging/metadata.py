"""What travels with the pixels: colour profile, EXIF and resolution.

This module alone decides what is kept. The place (GPS), the maker's private notes and the embedded
thumbnail never reach a customer; XMP and IPTC are not carried over, since they repeat the place.
Pixels are upright wherever this is used, so the orientation tag is always 1.
"""

from __future__ import annotations

import pyvips

PROFILE = "icc-profile-data"
_EXIF = "exif-data"
_THUMBNAIL = "jpeg-thumbnail-data"
_ORIENTATION = "orientation"
_PRIVATE_FIELDS = ("exif-ifd3-", "exif-ifd1-", "exif-ifd2-MakerNote")
"""libvips numbers the parts of EXIF: 1 is the thumbnail's, 3 the place."""
_PRIVATE_BLOCKS = ("xmp-data", "iptc-data", "photoshop-data", _THUMBNAIL)
_STRUCTURAL_TAGS = frozenset(
    {
        "ColorSpace",
        "ComponentsConfiguration",
        "ExifVersion",
        "FlashpixVersion",
        "Orientation",
        "PixelXDimension",
        "PixelYDimension",
        "ResolutionUnit",
        "XResolution",
        "YCbCrPositioning",
        "YResolution",
    }
)
"""What encoders write by themselves: EXIF of these alone tells nothing about the picture."""
_SPACE_OF_PROFILE = slice(16, 20)
"""Where an ICC profile names its colour space (ICC.1:2022, 7.2.1)."""
_SPACES = {1: b"GRAY", 2: b"GRAY", 3: b"RGB ", 4: b"RGB "}
_CMYK_SPACE = b"CMYK"


def has_alpha(image: pyvips.Image) -> bool:
    """Tell whether the last band says how opaque a pixel is."""
    return bool(image.hasalpha())


def profile_of(image: pyvips.Image) -> bytes | None:
    """Return the colour profile if there is one and it fits the picture's bands."""
    if PROFILE not in image.get_fields():
        return None
    profile = bytes(image.get(PROFILE))
    return profile if profile_fits(profile, image) else None


def profile_fits(profile: bytes, image: pyvips.Image) -> bool:
    """Tell whether a profile describes the colour space that the picture is in."""
    space = _CMYK_SPACE if image.interpretation == "cmyk" else _SPACES.get(image.bands)
    return profile[_SPACE_OF_PROFILE] == space


def lacks_metadata_of(image: pyvips.Image, source: pyvips.Image) -> bool:
    """Tell whether the source has a fitting profile or EXIF that the picture has not."""
    profile = profile_of(source)
    wants_profile = profile is not None and PROFILE not in image.get_fields()
    if wants_profile and profile is not None and profile_fits(profile, image):
        return True
    return _tells_something(source) and not _tells_something(image)


def carries_private_metadata(image: pyvips.Image) -> bool:
    """Tell whether the picture holds what no customer should get, or is not upright."""
    fields = image.get_fields()
    private = any(name.startswith(_PRIVATE_FIELDS) or name in _PRIVATE_BLOCKS for name in fields)
    return private or (_ORIENTATION in fields and int(image.get(_ORIENTATION)) > 1)


def with_metadata_of(image: pyvips.Image, source: pyvips.Image) -> pyvips.Image:
    """Return the picture with the source's profile and EXIF where it has none, nothing private."""
    marked = image.copy()
    fields = set(marked.get_fields())
    profile = profile_of(source)
    if PROFILE not in fields and profile is not None and profile_fits(profile, marked):
        marked.set_type(pyvips.GValue.blob_type, PROFILE, profile)
    if _tells_something(source) and not _tells_something(marked):
        _copy_exif(marked, source)
    _remove_private(marked)
    return marked


def _tells_something(image: pyvips.Image) -> bool:
    """Tell whether there is EXIF that somebody may care for, and that may be passed on."""
    return any(
        name.startswith("exif-ifd")
        and not name.startswith(_PRIVATE_FIELDS)
        and name.partition("-ifd")[2].partition("-")[2] not in _STRUCTURAL_TAGS
        for name in image.get_fields()
    )


def _copy_exif(image: pyvips.Image, source: pyvips.Image) -> None:
    for name in image.get_fields():
        if name.startswith("exif-ifd"):
            image.remove(name)
    image.set_type(pyvips.GValue.blob_type, _EXIF, bytes(source.get(_EXIF)))
    for name in source.get_fields():
        if name.startswith("exif-ifd"):
            image.set_type(pyvips.GValue.gstr_type, name, source.get(name))


def _remove_private(image: pyvips.Image) -> None:
    # libvips leaves out of the EXIF that it writes whatever has no field any more.
    for name in image.get_fields():
        if name.startswith(_PRIVATE_FIELDS) or name in _PRIVATE_BLOCKS:
            image.remove(name)
    image.set_type(pyvips.GValue.gint_type, _ORIENTATION, 1)
