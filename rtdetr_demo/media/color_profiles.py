"""Embedded color profiles (ICC): pictures are converted to sRGB."""

import io
from functools import cache

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB": ("RGB",), "GRAY": ("L",), "CMYK": ("CMYK",)}
"""Color space of a profile: the modes of pictures that it can describe."""

SAME = 2
"""Steps of 255 within which a profile counts as sRGB itself, and nothing is converted."""


def to_srgb(image: Image.Image) -> Image.Image:
    """The picture in sRGB, where a profile that fits it is embedded; else the picture itself."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return image
    try:
        return _converted(image, profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image  # a damaged profile, or of a kind that describes no pictures


def _converted(image: Image.Image, content: bytes) -> Image.Image:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
    space = profile.profile.xcolor_space.strip()
    alpha = None
    if image.has_transparency_data:
        deep = image.convert("RGBA")
        alpha = deep.getchannel("A")
        image = image.convert("L") if space == "GRAY" else deep.convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in _SPACES.get(space, ()):
        return image if alpha is None else _with_alpha(image.convert("RGB"), alpha)
    transform = ImageCms.buildTransform(
        profile,
        _srgb(),
        image.mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if image.mode != "RGB" or not _changes_nothing(transform):
        image = ImageCms.applyTransform(image, transform) or image
    return image if alpha is None else _with_alpha(image, alpha)


def _with_alpha(image: Image.Image, alpha: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(alpha)
    return image


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether colors from all over RGB stay as they are."""
    steps = np.linspace(0, 255, 6).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    mapped = np.asarray(ImageCms.applyTransform(Image.fromarray(cube), transform))
    return int(np.abs(mapped.astype(int) - cube).max()) <= SAME


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
