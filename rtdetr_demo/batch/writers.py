"""Rows as one file of each form: JSON lines, COCO JSON, CSV, YOLO text, Parquet."""

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import BadInput
from ..media.coco_categories import category_ids
from ..media.exporters import CSV_COLUMNS, coco_annotation, csv_text, csv_values, yolo_line
from .rows import Row, RunInfo
from .storage import is_remote, is_web

if TYPE_CHECKING:
    import pyarrow

Rows = Callable[[], Iterable[Row]]
"""Gives all rows from the first, each time it is called."""

PARQUET_ROWS = 1000
"""Rows of one row group."""


def writer_of(out: str) -> Callable[[Path, Rows, RunInfo], None]:
    """What writes the form that a name asks for by its ending, whole or not at all (YOLO's folder
    fills file by file). Raises BadInput for other endings, and where Parquet lacks its package."""
    name = out.rstrip("/")
    ending = Path(name).suffix.lower()
    if out.endswith("/") or not ending or os.path.isdir(out):
        return _write_yolo
    if ending == ".parquet":
        check_parquet()
    if ending not in _WRITERS:
        raise BadInput(
            f"{out} has no ending that we write: use .jsonl (JSON lines), .json (COCO), .csv, "
            ".parquet, or a folder such as labels/ for YOLO text."
        )
    return _WRITERS[ending]


def check_writable(out: str, option: str) -> None:
    """Raises BadInput where `out`, a file or (with a slash at its end) a folder, cannot be written.
    What lies elsewhere than on this machine is not checked."""
    if is_remote(out):
        return
    target = Path(out.removeprefix("file://"))
    folder = target if out.endswith("/") or target.is_dir() else target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            f"{folder} could not be written: {error.strerror}. Name another place with {option}."
        ) from None


def check_parquet() -> None:
    """Raises BadInput where pyarrow is absent."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise BadInput("Parquet needs the package pyarrow: pip install pyarrow==26.0.1") from None


def parquet_schema(run: RunInfo) -> "pyarrow.Schema":
    """One row a picture; the settings of the run are in the file's metadata."""
    import pyarrow as pa

    corners = [(name, pa.float32()) for name in ("xmin", "ymin", "xmax", "ymax")]
    detection = [("label", pa.string()), ("class_id", pa.int32()), ("score", pa.float32())]
    fields = [
        ("picture", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("detections", pa.list_(pa.struct(detection + corners))),
        ("error", pa.string()),
        ("note", pa.string()),
    ]
    return pa.schema(fields, {"rtdetr_demo": json.dumps(run.to_json())})


def write_parquet(file: "IO[bytes] | Path", rows: Iterable[Row], run: RunInfo) -> None:
    """Rows as Parquet. Boxes are in pixels of the upright picture, not clipped to it."""
    import pyarrow as pa
    from pyarrow import parquet

    schema, rows = parquet_schema(run), iter(rows)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while some := list(islice(rows, PARQUET_ROWS)):
            records = [
                {
                    "picture": _readable(row.picture),
                    "width": row.width or None,
                    "height": row.height or None,
                    "detections": [detection._asdict() for detection in row.found],
                    "error": row.error and _readable(row.error),
                    "note": row.note,
                }
                for row in some
            ]
            writer.write_table(pa.Table.from_pylist(records, schema))


def _readable(text: str) -> str:
    """File names may hold bytes that are no text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _write_whole(out: Path, write: Callable[[IO[str]], None]) -> None:
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            write(file)
        unfinished.replace(out)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise _unwritable(out, error) from None


def _unwritable(out: Path, error: OSError) -> BadInput:
    return BadInput(
        f"{out} could not be written: {error.strerror}. What was found is kept: mend that, and go "
        "on with --resume."
    )


def _write_lines(out: Path, rows: Rows, run: RunInfo) -> None:
    def write(file: IO[str]) -> None:
        for row in rows():
            file.write(json.dumps(row.to_json(run)) + "\n")

    _write_whole(out, write)


def _write_csv(out: Path, rows: Rows, run: RunInfo) -> None:
    """One line a detection; a picture without any, or with an error, has one line, too."""

    def write(file: IO[str]) -> None:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["picture", *CSV_COLUMNS, "error", "note"])
        for row in rows():
            size = (row.width, row.height)
            lines = [csv_values(detection, size) for detection in row.found] or [
                [""] * len(CSV_COLUMNS)
            ]
            name, *rest = (csv_text(text or "") for text in (row.picture, row.error, row.note))
            table.writerows([name, *values, *rest] for values in lines)

    _write_whole(out, write)


def _write_coco(out: Path, rows: Rows, run: RunInfo) -> None:
    """A COCO file. Pictures that could not be read are listed under `errors`, which readers of COCO
    ignore; a picture with a note has it as `note`, one from the web its address as `coco_url`."""
    ids = category_ids(run.class_names)

    def images() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(_readable_rows(rows), start=1):
            yield {
                "id": number,
                "file_name": row.file_name,
                "width": row.width,
                "height": row.height,
                **({"coco_url": row.picture} if is_web(row.picture) else {}),
                **({} if row.note is None else {"note": row.note}),
            }

    def annotations() -> Iterator[dict[str, Any]]:
        count = 0
        for number, row in enumerate(_readable_rows(rows), start=1):
            for detection in row.found:
                count += 1
                size = (row.width, row.height)
                yield coco_annotation(detection, size, count, number, ids[detection.class_id])

    def errors() -> Iterator[dict[str, Any]]:
        return (
            {"file_name": row.file_name, "error": row.error}
            for row in rows()
            if row.error is not None
        )

    def write(file: IO[str]) -> None:
        names = zip(ids, run.class_names, strict=True)
        categories = [{"id": number, "name": name} for number, name in names]
        parts = {
            "images": images(),
            "categories": categories,
            "annotations": annotations(),
            "errors": errors(),
        }
        for place, (name, items) in enumerate(parts.items()):
            file.write(f'{"," if place else "{"}\n"{name}": [')
            for number, item in enumerate(items):
                file.write(("," if number else "") + "\n" + json.dumps(item))
            file.write("]")
        file.write("\n}\n")

    _write_whole(out, write)


def _readable_rows(rows: Rows) -> Iterator[Row]:
    return (row for row in rows() if row.error is None)


def _write_yolo(out: Path, rows: Rows, run: RunInfo) -> None:
    """A folder: a file of lines for each picture, the names of the classes in `data.yaml` (and in
    `classes.txt`, unless that is a picture's file), and `errors.csv` where need be."""
    errors, notes, stems = [], [], set()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for row in rows():
            if row.error is not None:
                errors.append((csv_text(row.picture), csv_text(row.error)))
                continue
            if row.note is not None:
                notes.append((csv_text(row.picture), csv_text(row.note)))
            stems.add(row.stem.casefold())
            file = out / f"{row.stem}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            size = (row.width, row.height)
            file.write_text("".join(yolo_line(detection, size) for detection in row.found))
        names = (f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(run.class_names))
        (out / "data.yaml").write_text(f"nc: {len(run.class_names)}\nnames:\n{''.join(names)}")
        if "classes" not in stems:
            text = "".join(f"{name}\n" for name in run.class_names)
            (out / "classes.txt").write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(out, error) from None
    for name, lines in (("errors.csv", errors), ("notes.csv", notes)):
        if lines:
            _write_whole(out / name, partial(_write_table, lines))


def _write_table(lines: Iterable[tuple[str, ...]], file: IO[str]) -> None:
    csv.writer(file).writerows(lines)


def _write_parquet_file(out: Path, rows: Rows, run: RunInfo) -> None:
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        write_parquet(unfinished, rows(), run)
        unfinished.replace(out)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise _unwritable(out, error) from None


_WRITERS = {
    ".jsonl": _write_lines,
    ".ndjson": _write_lines,
    ".json": _write_coco,
    ".csv": _write_csv,
    ".parquet": _write_parquet_file,
}
