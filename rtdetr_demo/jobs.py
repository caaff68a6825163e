"""Clips being worked on in the background, for people who watch the progress from a page."""

import atexit
import logging
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .clips import Limits
from .errors import Busy, DemoError, Expired

if TYPE_CHECKING:
    from .detector import Detector
    from .video import Options, Progress, Summary

FILES = ("annotated.mp4", "detections.jsonl", "detections.csv")

log = logging.getLogger(__name__)


@dataclass
class Job:
    """One clip. `summary` is there when it has ended well, `error` when it has not."""

    id: str
    folder: Path
    progress: "Progress | None" = None
    summary: "Summary | None" = None
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class Jobs:
    """At most `running` clips at a time; the last `kept` results stay, older ones are deleted.

    They lie in a new folder inside `folder`, which goes when the process ends.
    """

    def __init__(self, folder: Path, limits: Limits, running: int = 2, kept: int = 20):
        self._folder = Path(tempfile.mkdtemp(prefix="videos-", dir=folder))
        self._limits = limits
        self._running = running
        self._kept = kept
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        atexit.register(self.close)

    def start(self, source: Path, detector: "Detector", options: "Options") -> Job:
        """Begin with a clip. Raises Busy past the limit."""
        job = Job(secrets.token_urlsafe(16), self._folder / secrets.token_hex(8))
        job.thread = threading.Thread(
            target=self._run, args=(job, source, detector, options), daemon=True
        )
        with self._lock:
            if sum(one.running for one in self._jobs.values()) >= self._running:
                raise Busy(
                    f"{self._running} videos are being worked on, which is all that this machine "
                    "does at once. Try again in a few minutes."
                )
            for name in [name for name, one in self._jobs.items() if not one.running]:
                if len(self._jobs) >= self._kept:
                    shutil.rmtree(self._jobs.pop(name).folder, ignore_errors=True)
            self._jobs[job.id] = job
            job.folder.mkdir()
            job.thread.start()
        return job

    def get(self, name: str) -> Job:
        """Raises Expired where there is none of this name (any more)."""
        with self._lock:
            job = self._jobs.get(name)
        if job is None:
            raise Expired("This video is no longer held here. Send it again.")
        return job

    def close(self) -> None:
        """Stop everything and delete the files."""
        for job in list(self._jobs.values()):
            job.stop.set()
        for job in list(self._jobs.values()):
            if job.thread:
                job.thread.join(5)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, job: Job, source: Path, detector: "Detector", options: "Options") -> None:
        from .video import process

        def tell(progress: "Progress") -> None:
            job.progress = progress

        try:
            job.summary = process(
                source, job.folder, detector, options, tell, job.stop, self._limits
            )
        except DemoError as error:
            job.error = str(error)
        except Exception:
            log.exception("a video failed")
            job.error = "Something went wrong with this video. Try another one."
        if job.error:
            shutil.rmtree(job.folder, ignore_errors=True)
