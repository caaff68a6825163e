"""Which checkpoint is used: the bundled one until the configured one has arrived."""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ..errors import Cancelled, CheckpointError, DemoError, Forbidden, Loading
from ..settings import Settings
from . import hub
from .catalog import BUNDLED, fallback_message, is_listed
from .store import ModelStore

if TYPE_CHECKING:
    from ..detector.detector import Detector

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one server: which one is active, and which ones visitors may use.

    Attributes:
        wanted: Name of the configured checkpoint.
        active: Name of the one that is used by default: `wanted`, or the bundled one until that
            has arrived, or for good if it cannot be loaded.
        notice: Why `active` is not `wanted`, as a sentence; empty if it is.
        searching: Whether the hub is still being asked for `wanted`.
    """

    def __init__(
        self,
        settings: Settings,
        on_load: Callable[["Detector"], None] = lambda detector: None,
        on_drop: Callable[[str], None] = lambda name: None,
    ):
        self._settings = settings
        self._downloaded_by: dict[str, str] = {}
        self.store = ModelStore(int(settings.model_memory_gb * 2**30), on_load, on_drop)
        self.wanted = settings.checkpoint
        if settings.checkpoint != BUNDLED and os.path.isdir(settings.checkpoint):
            self.wanted = self.store.name_folder(settings.checkpoint)
        self.active = self.wanted if self.store.is_here(self.wanted) else BUNDLED
        self.searching = True
        self.notice = "" if self.active == self.wanted else f"Looking for {self.wanted} on the hub."

    def start(self) -> None:
        """Load the active checkpoint and look for the configured one, in the background."""
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def load_active(self) -> "Detector":
        """Load the active checkpoint, or the bundled one if it cannot be loaded."""
        try:
            return self.store.get(self.active)
        except DemoError as error:
            return self._use_bundled(error)

    def _start(self) -> None:
        try:
            self.load_active()
            if self.active != self.wanted and self.searching:
                self.download(self.wanted)
        except DemoError as error:
            self._use_bundled(error)
        finally:
            self.searching = False

    def _use_bundled(self, error: DemoError) -> "Detector":
        self.notice = fallback_message(self.wanted, error)
        self.searching = False
        log.info(self.notice)
        self.active = BUNDLED
        return self.store.get(BUNDLED)

    def check(self, checkpoint: str | None) -> str:
        """Return the name of a checkpoint, by default the active one.

        Raises CheckpointError for one that visitors may not use.
        """
        name = checkpoint or self.active
        if not isinstance(name, str) or not (
            self._settings.any_checkpoint or name in (self.wanted, self.active) or is_listed(name)
        ):
            raise CheckpointError(
                f"“{str(name)[:100]}” is not available on this demo. Choose one from the list, "
                "or start the demo yourself with --any-checkpoint."
            )
        return name

    def request(self, checkpoint: str | None = None) -> "Future[Detector]":
        """The detector of a checkpoint as a future; one that is on this machine is loaded.

        Raises:
            CheckpointError: It is barred, or not on this machine.
            Loading: It is being downloaded.
        """
        name = self.check(checkpoint)
        if name in self.store.loaded() or self.store.is_loading(name):
            return self.store.request(name)
        download = self.store.downloading(name)
        if download and download.running:
            raise Loading(f"{name} is being downloaded. Send this again in a moment.")
        if not self.store.is_here(name):
            raise CheckpointError(
                f"{name} is not on this machine yet. Choose it on the page to download it, or "
                f"use {self.active}."
            )
        return self.store.request(name)

    def detector(self, checkpoint: str | None = None) -> "Detector":
        """The detector of a checkpoint, once it is loaded; errors as in `request`."""
        return self.request(checkpoint).result()

    def cancel_download(self, checkpoint: str, visitor: str) -> None:
        """Stop the download of a checkpoint. On a server that only this machine can reach every
        visitor is its operator. Raises Forbidden for visitors who did not start it."""
        download = self.store.downloading(self.check(checkpoint))
        if download is None:
            return
        if not self._settings.is_local and self._downloaded_by.get(checkpoint) != visitor:
            raise Forbidden("Someone else started this download, so only they can cancel it.")
        download.cancel()

    def download(self, checkpoint: str, visitor: str = "") -> None:
        """Ask the hub for a checkpoint and, if it answers, start the download; does not wait for
        its end.

        Args:
            checkpoint: Hub id.
            visitor: Address of the visitor who requests it; empty for the operator.

        Raises:
            CheckpointError: The hub does not answer, or does not have it.
        """
        if self.store.is_here(checkpoint):
            return
        reason = hub.why_unreachable(checkpoint)
        if reason:
            raise CheckpointError(reason)
        download, is_new = self.store.download(checkpoint)
        if is_new:
            self._downloaded_by[checkpoint] = visitor
            threading.Thread(target=self._load_downloaded, args=(download,), daemon=True).start()

    def _load_downloaded(self, download: hub.Download) -> None:
        is_wanted = download.checkpoint == self.wanted
        if is_wanted:
            self.notice = f"{self.wanted} is on its way; the bundled checkpoint serves until then."
        try:
            download.wait()
            self.store.get(download.checkpoint)
        except (CheckpointError, Cancelled) as error:
            log.info("%s did not arrive: %s", download.checkpoint, error)
            if is_wanted and self.active != self.wanted:
                self._use_bundled(error)
        else:
            if is_wanted:
                self.active, self.notice = self.wanted, ""
