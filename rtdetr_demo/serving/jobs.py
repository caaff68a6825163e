"""Long work in the background, for people who watch its progress from a page."""

import atexit
import contextvars
import logging
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import memory
from ..errors import INTERNAL_ERROR, Busy, DemoError, Expired
from .owners import owned_folder
from .quota import Quota
from .scratch import Scratch, folder_bytes

log = logging.getLogger(__name__)


@dataclass
class Job:
    """One piece of work. `result` is there when it has ended well, `error` when it has not."""

    id: str
    folder: Path
    owner: str
    """Whom its files count against, such as a visitor's address."""
    visitor: str = ""
    """Who may use it."""
    progress: Any = None
    result: Any = None
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    asked: float = field(default_factory=time.monotonic)
    """When somebody last wanted to know how it goes."""

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class Jobs:
    """At most `running` jobs at a time; the last `kept` results stay, older ones are deleted.

    So are the oldest where their files take more than `max_bytes`, and an owner's oldest where
    theirs are more than a share of either (`quota.OWN_SHARE`). A job that nobody has asked for in
    `abandon_timeout` seconds is stopped. Each has a folder for its files. `what` names the work in
    sentences: "videos".
    """

    def __init__(
        self,
        scratch: Scratch,
        what: str,
        running: int = 2,
        kept: int = 20,
        max_bytes: float = float("inf"),
        abandon_timeout: float = 300.0,
    ):
        self._scratch = scratch
        self._what = what
        self._running = running
        self._kept = kept
        self._max_bytes = max_bytes
        self._abandon_timeout = abandon_timeout
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        atexit.register(self.close)
        threading.Thread(target=self._stop_abandoned, name="jobs", daemon=True).start()

    def start(self, work: Callable[[Job], Any], owner: str, visitor: str = "") -> Job:
        """Begin with a piece of work, which gets its job and gives its result.

        It runs in the caller's context (`contextvars`). Raises Busy past the limit, and DiskFull
        where the disk is full.
        """
        self._scratch.check_room()
        folder = owned_folder(self._scratch.folder(self._what), visitor)
        job = Job(secrets.token_urlsafe(16), folder, owner, visitor)
        run = contextvars.copy_context().run
        job.thread = threading.Thread(target=run, args=(self._run, job, work), daemon=True)
        with self._lock:
            if sum(one.running for one in self._jobs.values()) >= self._running:
                raise Busy(
                    f"This machine is already running as many {self._what} as it can "
                    f"({self._running}). Try again in a few minutes."
                )
            quota = Quota(self._max_bytes, self._kept)
            for name, other in self._jobs.items():
                if not other.running:
                    quota.add(name, other.owner, folder_bytes(other.folder))
            quota.add(job.id, owner, 0)
            for name in quota.excess():
                shutil.rmtree(self._jobs.pop(name).folder, ignore_errors=True)
            self._jobs[job.id] = job
            job.folder.mkdir()
            job.thread.start()
        return job

    def get(self, name: str, visitor: str = "") -> Job:
        """The job named `name`; also resets its abandon timer.

        Raises Expired if it was never started, has been deleted, or is another visitor's.
        """
        with self._lock:
            job = self._jobs.get(name)
            if job is not None and job.visitor != visitor:
                job = None
            if job is not None:
                job.asked = time.monotonic()
        if job is None:
            raise Expired("This job has expired. Start it again.")
        return job

    def stop(self) -> None:
        """Have every job end; does not wait."""
        self._closing.set()
        for job in list(self._jobs.values()):
            job.stop.set()

    def close(self, deadline: float | None = None) -> None:
        """Stop every job, wait for them until `deadline` (on the clock of `time.monotonic`; by
        default for 5 seconds), and delete their files."""
        self.stop()
        deadline = time.monotonic() + 5.0 if deadline is None else deadline
        for job in list(self._jobs.values()):
            if job.thread:
                job.thread.join(max(deadline - time.monotonic(), 0.0))
        shutil.rmtree(self._scratch.path / self._what, ignore_errors=True)

    def _stop_abandoned(self) -> None:
        while not self._closing.wait(min(5.0, self._abandon_timeout / 2)):
            for job in list(self._jobs.values()):
                if job.running and time.monotonic() - job.asked > self._abandon_timeout:
                    log.info("nobody asks for a job any more: it is stopped")
                    job.stop.set()

    def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        try:
            job.result = work(job)
        except DemoError as error:
            job.error = str(error)
        except Exception:
            log.exception("%s failed", self._what)
            job.error = INTERNAL_ERROR
        if job.error:
            shutil.rmtree(job.folder, ignore_errors=True)
        memory.trim()
