"""What can go wrong, said to a person.

Every message is one plain sentence (or two) that says what happened and what to do next. The page
shows it as it stands; the command line prints it; an HTTP surface pairs it with `status`.
"""

INTERNAL_ERROR = "Something went wrong. Try again; the server log has the details."
"""What a person reads of an error that we did not foresee."""

GOING_DOWN = "This server is shutting down. Try again in a moment."


class DemoError(Exception):
    """An error whose message is shown to users. `status` is its HTTP status."""

    status = 500


class BadInput(DemoError):
    """What was sent cannot be used."""

    status = 400


class TooLarge(BadInput):
    """What was sent is over a limit."""

    status = 413


class NotAPicture(BadInput):
    """The bytes are no picture that we can read."""

    status = 415


class Unprocessable(BadInput):
    """What was sent is well-formed, but nothing can be made of it here."""

    status = 422


class DamagedPicture(NotAPicture, Unprocessable):
    """The bytes begin a picture, but do not hold a whole one."""

    status = 422


class Forbidden(DemoError):
    """The caller may not do this."""

    status = 403


class Expired(BadInput):
    """A result was asked for that is no longer held."""

    status = 404


class Busy(DemoError):
    """More is asked than this machine serves at once."""

    status = 503


class TooManyRequests(DemoError):
    """A client asks faster than it is served. `retry_after`: seconds until asking again is worth
    while."""

    status = 429

    def __init__(self, message: str, retry_after: float = 1.0):
        super().__init__(message)
        self.retry_after = retry_after


class Loading(Busy):
    """A checkpoint is on its way into memory."""


class CheckpointError(DemoError):
    """A checkpoint is unknown, absent, unreachable or not an RT-DETR."""

    status = 404


class Cancelled(DemoError):
    """A person stopped it."""

    status = 499


class DiskFull(DemoError):
    """The disk has no room for what would be written."""

    status = 507
