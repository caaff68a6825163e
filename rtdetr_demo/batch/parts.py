"""A run's rows as a folder of Parquet files, each of which any worker can write again.

Part n holds the n-th slice of the list of pictures, always of the same length, and is written whole
or not at all. So a part that two workers did is there once, one that none finished is done by the
next, and neither the number of workers nor a death among them shows in the rows.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence

from ..errors import BadInput
from ..predictions import Detection
from .inputs import Picture
from .rows import Row, RunInfo
from .storage import filesystem, put
from .writers import write_parquet

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Parts:
    """The parts in a folder, by a path or by an address that `storage.filesystem` knows."""

    def __init__(self, folder: str):
        self._storage, root = filesystem(folder)
        self._root = root.rstrip("/")
        self.folder = folder

    def write(self, number: int, rows: Sequence[Row], run: RunInfo) -> None:
        """Raises BadInput where it cannot be written."""
        file = io.BytesIO()
        write_parquet(file, rows, run)
        try:
            put(self._storage, self._path(number), file.getvalue())
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadInput(f"{self.folder} could not be written: {reason}.") from None

    def numbers(self) -> list[int]:
        """Of the parts that are here, in their order."""
        self._storage.invalidate_cache()
        if not self._storage.exists(self._root):
            return []
        names = (path.rpartition("/")[2] for path in self._storage.find(self._root, maxdepth=1))
        return sorted(int(name[5:-8]) for name in names if name.startswith("part-"))

    def plan(
        self, pictures: Sequence[Picture], size: int, run: RunInfo
    ) -> dict[int, Sequence[Picture]]:
        """What is left to do: pictures by the number of their part.

        Where the list has changed since the parts were written, what they hold stays, and the rest
        follows. Raises BadInput where the parts are of a run with other settings.
        """
        slices = {
            number: pictures[start : start + size]
            for number, start in enumerate(range(0, len(pictures), size))
        }
        held = {number: self._names(number, run) for number in self.numbers()}
        if all(names == _names(slices.get(number, ())) for number, names in held.items()):
            return {number: some for number, some in slices.items() if number not in held}
        done = {name for names in held.values() for name in names}
        left = [picture for picture in pictures if picture.name not in done]
        first = max(held) + 1
        return {
            first + number: left[start : start + size]
            for number, start in enumerate(range(0, len(left), size))
        }

    def rows(self, pictures: Sequence[Picture]) -> Iterator[Row]:
        """All rows, part by part; `pictures` gives their stems and file names."""
        from pyarrow import parquet

        named: Mapping[str, Picture] = {picture.name: picture for picture in pictures}
        for number in self.numbers():
            with self._storage.open(self._path(number), "rb") as file:
                for row in parquet.read_table(file).to_pylist():
                    name = row["picture"]
                    picture = named.get(name, Picture(name, name.rpartition("/")[2]))
                    yield Row(
                        name,
                        picture.stem,
                        row["width"] or 0,
                        row["height"] or 0,
                        tuple(_detection(detection) for detection in row["detections"]),
                        row["error"],
                        picture.file,
                        row.get("note"),
                    )

    def failed(self) -> int:
        """How many pictures could not be read."""
        from pyarrow import parquet

        count = 0
        for number in self.numbers():
            with self._storage.open(self._path(number), "rb") as file:
                errors = parquet.read_table(file, columns=["error"])["error"]
            count += len(errors) - errors.null_count
        return count

    def remove(self) -> None:
        """Delete the folder and every part in it."""
        self._storage.rm(self._root, recursive=True)

    def _path(self, number: int) -> str:
        return f"{self._root}/part-{number:06}.parquet"

    def _names(self, number: int, run: RunInfo) -> list[str]:
        from pyarrow import parquet

        with self._storage.open(self._path(number), "rb") as file:
            table = parquet.read_table(file, columns=["picture"])
        begun = json.loads(table.schema.metadata[b"rtdetr_demo"])
        for setting in ("checkpoint", "decoder_layers", "threshold", "annotated"):
            if begun[setting] != getattr(run, setting):
                raise BadInput(
                    f"The run to resume had another {setting.replace('_', ' ')}. Give the same "
                    f"options as before, or delete {self.folder} to begin anew."
                )
        return table["picture"].to_pylist()


def _names(pictures: Sequence[Picture]) -> list[str]:
    return [picture.name for picture in pictures]


def _detection(one: Mapping) -> Detection:
    return Detection(
        one["label"], one["class_id"], one["score"], *(one[corner] for corner in CORNERS)
    )
