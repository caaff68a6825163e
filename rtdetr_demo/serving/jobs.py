"""Long work in the background, for people who watch its progress from a page."""

import atexit
import logging
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import Busy, DemoError, Expired
from .scratch import Scratch

log = logging.getLogger(__name__)


@dataclass
class Job:
    """One piece of work. `result` is there when it has ended well, `error` when it has not."""

    id: str
    folder: Path
    progress: Any = None
    result: Any = None
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class Jobs:
    """At most `running` jobs at a time; the last `kept` results stay, older ones are deleted.

    Each has a folder for its files. `what` names the work in sentences: "videos".
    """

    def __init__(self, scratch: Scratch, what: str, running: int = 2, kept: int = 20):
        self._scratch = scratch
        self._what = what
        self._running = running
        self._kept = kept
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        atexit.register(self.close)

    def start(self, work: Callable[[Job], Any]) -> Job:
        """Begin with a piece of work, which gets its job and gives its result.

        Raises Busy past the limit.
        """
        job = Job(
            secrets.token_urlsafe(16), self._scratch.folder(self._what) / secrets.token_hex(8)
        )
        job.thread = threading.Thread(target=self._run, args=(job, work), daemon=True)
        with self._lock:
            if sum(one.running for one in self._jobs.values()) >= self._running:
                raise Busy(
                    f"As many {self._what} are being worked on as this machine does at once: "
                    f"{self._running}. Try again in a few minutes."
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
            raise Expired("This is no longer held here. Start it again.")
        return job

    def close(self) -> None:
        """Stop everything and delete the files."""
        for job in list(self._jobs.values()):
            job.stop.set()
        for job in list(self._jobs.values()):
            if job.thread:
                job.thread.join(15)
        shutil.rmtree(self._scratch.path / self._what, ignore_errors=True)

    def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        try:
            job.result = work(job)
        except DemoError as error:
            job.error = str(error)
        except Exception:
            log.exception("%s failed", self._what)
            job.error = "Something went wrong here. Try again; the log has the details."
        if job.error:
            shutil.rmtree(job.folder, ignore_errors=True)
