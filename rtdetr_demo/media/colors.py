"""One colour per class name, the same in every checkpoint, picture and session."""

import colorsys
import zlib
from functools import cache

# In the order of their numbers in COCO, so that classes often seen together lie far apart in hue.
_FREQUENT = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,bird,cat,dog,horse,sheep,cow,"
    "bottle,chair,couch,potted plant,dining table,tv"
).split(",")
_GOLDEN = 0.618033988749895


@cache
def class_color(name: str) -> str:
    """A saturated mid-tone, `#rrggbb`; text on it goes in `text_color`."""
    place = _FREQUENT.index(name) if name in _FREQUENT else zlib.crc32(name.encode()) % 4093
    hue = (0.02 + place * _GOLDEN) % 1.0
    lightness = (0.62, 0.52, 0.70)[place % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def text_color(background: str) -> str:
    """Black or white, whichever stands out more (WCAG relative luminance)."""
    channels = [int(background[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"
