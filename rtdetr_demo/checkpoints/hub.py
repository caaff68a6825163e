"""Where checkpoints lie on this machine, and how they come from the hub.

Only configurations and safetensors are ever fetched: nothing that runs code.
Environment variables of huggingface_hub (`HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN`, `HF_HOME`)
keep their meaning.
"""

import errno
import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import tqdm

from ..detector.checkpoint_files import missing_file, names_in
from ..errors import Cancelled, CheckpointError
from .catalog import BUNDLED, BUNDLED_FOLDER
from .files import CONFIGS, INDEX, WEIGHTS, shards, weight_files

SPARE_BYTES = 2**28
"""What a download leaves free on the disk."""
HUB_TIMEOUT = 3.0
"""Seconds that the hub has for a first answer."""
DOWNLOAD_TIMEOUT = 10.0
"""Seconds that the hub has to answer once a download has begun."""

# Plain HTTP downloads can be stopped at any chunk; the Xet client cannot.
constants.HF_HUB_DISABLE_XET = True
# Small enough for a bar that moves, and for a cancel that is heard, on a slow line too.
constants.DOWNLOAD_CHUNK_SIZE = 256 * 1024

log = logging.getLogger(__name__)


def local_folder(checkpoint: str) -> Path | None:
    """The folder that holds the checkpoint's files on this machine, or None."""
    if checkpoint == BUNDLED:
        return BUNDLED_FOLDER
    folder = Path(os.path.expanduser(checkpoint))
    if os.path.isdir(folder):
        return folder if _is_whole(folder) else None
    try:
        cached = try_to_load_from_cache(checkpoint, CONFIGS[0])
    except HFValidationError:
        return None
    if not isinstance(cached, str) or not _is_whole(Path(cached).parent):
        return None
    return Path(cached).parent


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in CONFIGS) and bool(weight_files(folder))


def why_unreachable(checkpoint: str, seconds: float = HUB_TIMEOUT) -> str | None:
    """None where the hub answers for this checkpoint in time; else a sentence that says why not.

    A folder of this machine is not looked for on the hub: then the sentence says what it lacks.
    """
    folder = Path(os.path.expanduser(checkpoint))
    if os.path.isdir(folder):
        reason = missing_file(names_in(folder))
        return f"{checkpoint} {reason or 'lacks a file that the index of its weights names'}."
    pool = ThreadPoolExecutor(1)
    # Name resolution knows no timeout of its own, so the clock runs out here and not in the client.
    asked = pool.submit(HfApi().model_info, checkpoint, timeout=seconds)
    pool.shutdown(wait=False)
    try:
        asked.result(seconds)
    except Exception as error:
        return _reason(checkpoint, error, seconds)
    return None


class Download:
    """One checkpoint on its way from the hub, in a thread of its own; `cancel` stops it.

    One of more than `max_bytes`, or for which the disk has no room, is given up before it begins.
    """

    def __init__(self, checkpoint: str, max_bytes: float = float("inf")):
        self.checkpoint = checkpoint
        self._max_bytes = max_bytes
        self.done_bytes = 0
        self.total_bytes = 0
        self.error: CheckpointError | Cancelled | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"get {checkpoint}", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def cancel(self, seconds: float = 2.0) -> None:
        """Ask it to stop, and wait up to `seconds` until it has."""
        self._stop.set()
        self._thread.join(seconds)

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the end. Raises what went wrong: CheckpointError or Cancelled."""
        self._thread.join(seconds)
        if self.error:
            raise self.error

    def _run(self) -> None:
        try:
            info = HfApi().model_info(
                self.checkpoint, files_metadata=True, timeout=DOWNLOAD_TIMEOUT
            )
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
            weights = WEIGHTS if WEIGHTS in sizes or INDEX not in sizes else INDEX
            wanted = [*CONFIGS, weights]
            if reason := missing_file(set(sizes)):
                raise CheckpointError(f"{self.checkpoint} {reason}.")
            if missing := [name for name in wanted if name not in sizes]:
                raise CheckpointError(
                    f"{self.checkpoint} has no {missing[0]}, so it cannot be an RT-DETR checkpoint "
                    "in safetensors form. Check the name, or choose another checkpoint."
                )
            if weights == INDEX:
                # The last to be asked for is the last to come: an index alone is no checkpoint.
                index = hf_hub_download(self.checkpoint, INDEX)
                self.done_bytes = sizes[INDEX]
                wanted += shards(Path(index).read_bytes())
            self.total_bytes = sum(sizes.get(name, 0) for name in wanted)
            self._check_room()
            for name in wanted:
                if name != INDEX:
                    hf_hub_download(self.checkpoint, name, tqdm_class=self._progress_bar())
        except (CheckpointError, Cancelled) as error:
            self.error = error
        except Exception as error:
            log.info("download of %s failed: %r", self.checkpoint, error)
            self.error = CheckpointError(_reason(self.checkpoint, error, DOWNLOAD_TIMEOUT))

    def _check_room(self) -> None:
        if self.total_bytes > self._max_bytes:
            raise CheckpointError(
                f"{self.checkpoint} has {self.total_bytes / 2**30:.1f} GB, more than models may "
                "take here. Choose a smaller one."
            )
        cache = Path(constants.HF_HUB_CACHE)
        there = next(folder for folder in (cache, *cache.parents) if folder.exists())
        if self.total_bytes - self.done_bytes > shutil.disk_usage(there).free - SPARE_BYTES:
            raise OSError(errno.ENOSPC, "no room for the download")

    def _progress_bar(self) -> Any:
        download = self

        class Bar(tqdm):
            """Counts for the page instead of drawing on the console."""

            def __init__(self, *arguments: Any, initial: float = 0, **options: Any):
                super().__init__(*arguments, initial=initial, **{**options, "disable": True})
                download.done_bytes += int(initial)

            def update(self, n: float | None = 1) -> None:
                download.done_bytes += int(n or 0)
                if download._stop.is_set():
                    raise Cancelled("The download was cancelled.")

        return Bar


_DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EIO)


def _timed_out(error: BaseException | None) -> bool:
    """Whether a timeout is the cause, beneath whatever the HTTP client raises."""
    while error and not isinstance(error, TimeoutError):
        error = error.__cause__ or error.__context__
    return error is not None


def _reason(checkpoint: str, error: BaseException, timeout: float) -> str:
    """What went wrong; `timeout`: the seconds that the hub had to answer."""
    match error:
        case OfflineModeIsEnabled():
            return "The hub is disabled here (HF_HUB_OFFLINE is set)."
        case HFValidationError():
            return f"“{checkpoint[:100]}” is neither a local folder nor a hub ID like owner/name."
        case GatedRepoError():
            return f"{checkpoint} is gated: accept its terms on the hub, then set HF_TOKEN."
        case RepositoryNotFoundError():
            return f"The hub has no public model {checkpoint}: check the name, or set HF_TOKEN."
        case RemoteEntryNotFoundError():
            return f"{checkpoint} lacks a file that an RT-DETR checkpoint has: choose another one."
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            return "The hub denied access: check HF_TOKEN, or unset it."
        case HfHubHTTPError():
            return f"The hub answered with error {error.response.status_code}: try again later."
        case _ if _timed_out(error):
            return f"The hub did not answer within {timeout:.0f} seconds."
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return "The disk is full: free some space, or set HF_HOME to a folder on another disk."
        case OSError(errno=number) if number in _DISK:
            return (
                f"The hub's files cannot be kept on this machine ({error.strerror}): set HF_HOME "
                "to a folder that can be written."
            )
    return "The hub cannot be reached from here: check the network, then try again."
