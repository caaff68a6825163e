"""The report of a depth study as one HTML file that needs nothing else."""

import base64
import html
import io
from collections.abc import Callable, Iterable

from PIL import Image

from ..errors import DemoError
from ..media.exporters import annotate
from .depth import DepthReport, DepthRow, PictureLoss
from .depth_choice import layers_in_words
from .depth_counts import IOUS

SHOWN = 6
"""Pictures that are shown of those that lose most."""

_SIDE = 480
"""Longest side of a shown picture in pixels."""

_STYLE = """
:root { color-scheme: light dark }
body { max-width: 80rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif }
.summary { font-size: 1.2rem }
table { display: block; overflow-x: auto; border-collapse: collapse; margin: 1rem 0 }
td, th { white-space: nowrap; padding: .1rem 1rem .1rem 0; text-align: right }
table { font-variant-numeric: tabular-nums }
td:first-child, th:first-child { text-align: left }
tr.chosen { font-weight: 700 }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)) }
figure { margin: 0 }
img, svg { max-width: 100%; height: auto }
figcaption { overflow-wrap: anywhere }
"""


def to_html(report: DepthReport, picture: Callable[[str], Image.Image]) -> str:
    """The report as a document.

    Args:
        report: The result of a study.
        picture: Opens a picture by its name; one that raises DemoError is not shown.
    """
    shown = min(report.recommendation.layers, max(report.depth - 1, 1))
    losses = [loss for loss in report.losses if loss.layers == shown]
    title = f"Decoder depths of {html.escape(report.checkpoint)}"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{_STYLE}</style>
<h1>{title}</h1>
<p class="summary">{html.escape(report.summary)}</p>
{_chart(report)}
<h2>All detections</h2>
<p>{_conditions(report)}</p>
{_overview(report)}
{_groups(report, "class", "By class")}
{_groups(report, "size", "By size of the object")}
<p>Sizes are COCO's: small is under 32 x 32 pixels, large is from 96 x 96 pixels.</p>
{_worst(losses, shown, picture)}
{_unreadable(report)}
</html>
"""


def _conditions(report: DepthReport) -> str:
    words = [
        f"{report.pictures:,} photos, {report.recommendation.detections:,} detections that score "
        f"above {report.threshold:g} at full depth.",
        "Kept and added are shares of full depth's detections, paired one-to-one (same class, IoU "
        "as stated), each with a 90% interval over photos.",
    ]
    if report.latency:
        latency = report.latency
        words.append(
            f"Time: {latency.runtime}, {latency.precision}, {latency.device}, "
            f"{latency.size[0]} x {latency.size[1]} pixels, from a decoded picture to detections."
        )
    if report.averages:
        words.append(f"AP: COCO's, in percent, on {report.labelled:,} labelled photos.")
    return html.escape(" ".join(words))


def _overview(report: DepthReport) -> str:
    head = ["layers"]
    head += [f"kept, IoU {iou:g}" for iou in IOUS] + [f"added, IoU {iou:g}" for iou in IOUS]
    head += ["ms", "saved, ms"] if report.latency else []
    head += ["AP", "AP50"] if report.averages else []
    by_iou = [report.overall(iou) for iou in IOUS]
    lines = []
    for k in range(report.depth):
        cells = [str(k + 1)]
        cells += [str(rows[k].kept_share) for rows in by_iou]
        cells += [str(rows[k].added_share) for rows in by_iou]
        if report.latency:
            saved = report.saved_ms(k + 1) or 0.0
            unsure = " (within noise)" if report.latency.within_noise[k] else ""
            cells += [f"{report.latency.total_ms[k]:.1f}", f"{saved:.1f}{unsure}"]
        if report.averages:
            values = [report.averages[k][name] for name in ("AP", "AP50")]
            cells += ["-" if value is None else f"{100 * value:.1f}" for value in values]
        lines.append(_line(cells, k + 1 == report.recommendation.layers))
    return _table(head, lines)


def _groups(report: DepthReport, kind: str, title: str) -> str:
    rows = [row for row in report.rows if row.kind == kind and row.iou == IOUS[0]]
    names = list(dict.fromkeys(row.group for row in rows))
    head = ["", "detections", *map(str, range(1, report.depth + 1))]
    tables = []
    for what in ("kept", "added"):
        lines = []
        for name in names:
            own = [row for row in rows if row.group == name]
            cells = [name, f"{own[0].reference:,}", *(_share(row, what) for row in own)]
            lines.append(_line(cells))
        caption = f"{what.capitalize()}, in percent, by number of decoder layers"
        tables.append(f"<h3>{caption}</h3>{_table(head, lines)}")
    return f"<h2>{title}, at IoU {IOUS[0]:g}</h2>{''.join(tables)}"


def _share(row: DepthRow, what: str) -> str:
    if not row.reference:
        return f"{row.added} of 0" if what == "added" and row.added else "-"
    return (row.kept_share if what == "kept" else row.added_share).short()


def _line(cells: Iterable[str], is_chosen: bool = False) -> str:
    tag = "<tr class='chosen'>" if is_chosen else "<tr>"
    return tag + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _table(head: Iterable[str], lines: Iterable[str]) -> str:
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    return f"<table><tr>{names}</tr>{''.join(lines)}</table>"


def _chart(report: DepthReport) -> str:
    """What each depth keeps, with its interval, and the tolerance as a line."""
    width, height, left, bottom = 640, 260, 56, 36
    rows = report.overall(IOUS[0])
    lows = [row.kept_share.low or 0.0 for row in rows]
    floor = max(0.0, min(*lows, report.recommendation.keep) - 0.05)

    def up(share: float) -> float:
        return 10 + (height - bottom - 10) * (1 - (share - floor) / (1 - floor))

    step = (width - left - 20) / len(rows)
    parts = []
    for place in range(5):
        level = floor + (1 - floor) * place / 4
        parts.append(
            f"<line x1='{left}' x2='{width}' y1='{up(level):.1f}' y2='{up(level):.1f}' "
            "stroke='currentColor' opacity='.15'/>"
            f"<text x='{left - 6}' y='{up(level) + 4:.1f}' text-anchor='end'>{100 * level:.0f}%"
            "</text>"
        )
    keep = up(report.recommendation.keep)
    parts.append(
        f"<line x1='{left}' x2='{width}' y1='{keep:.1f}' y2='{keep:.1f}' stroke='currentColor' "
        "stroke-dasharray='6 4'/>"
    )
    for k, row in enumerate(rows):
        x, share = left + step * (k + 0.5), row.kept_share
        value, low, high = share.value or 0.0, share.low or 0.0, share.high or 0.0
        parts.append(
            f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{up(low):.1f}' y2='{up(high):.1f}' "
            "stroke='currentColor' stroke-width='2'/>"
            f"<circle cx='{x:.1f}' cy='{up(value):.1f}' r='5' fill='currentColor'/>"
            f"<text x='{x:.1f}' y='{height - 12}' text-anchor='middle'>{row.layers}</text>"
        )
    return (
        f"<svg viewBox='0 0 {width} {height}' width='{width}' font-size='13' fill='currentColor' "
        "role='img' aria-label='Share of detections kept, by number of decoder layers'>"
        f"{''.join(parts)}</svg>"
        "<p>The share of full depth's detections that each number of decoder layers keeps at IoU "
        f"{IOUS[0]:g}, with its 90% interval. Dashed: the share to keep.</p>"
    )


def _worst(losses: list[PictureLoss], layers: int, picture: Callable[[str], Image.Image]) -> str:
    if not losses:
        return ""
    figures = []
    for loss in losses[:SHOWN]:
        try:
            drawn = _drawn(picture(loss.picture), loss)
            image = f"<img alt='' src='data:image/jpeg;base64,{drawn}'>"
        except DemoError:
            image = ""
        words = f"{loss.picture}: {loss.words()} of {loss.reference} detections"
        figures.append(f"<figure>{image}<figcaption>{html.escape(words)}</figcaption></figure>")
    return (
        f"<h2>The photos that lose most at {layers_in_words(layers)}</h2>"
        f"<p>Boxes are the detections that are lost.</p><div class='pictures'>{''.join(figures)}"
        "</div>"
    )


def _drawn(image: Image.Image, loss: PictureLoss) -> str:
    scale = min(1.0, _SIDE / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    across, down = width / image.width, height / image.height
    boxes = [
        detection._replace(
            xmin=detection.xmin * across,
            ymin=detection.ymin * down,
            xmax=detection.xmax * across,
            ymax=detection.ymax * down,
        )
        for detection in loss.lost
    ]
    buffer = io.BytesIO()
    annotate(image.resize((width, height)), boxes).save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


def _unreadable(report: DepthReport) -> str:
    if not report.unreadable:
        return ""
    lines = [_line([name, reason]) for name, reason in report.unreadable]
    return f"<h2>Pictures that could not be read</h2>{_table(['picture', 'reason'], lines)}"
