"""What can go wrong, said to a person.

Every message is one plain sentence (or two) that says what happened and what to do next. The page
shows it as it stands; the command line prints it; an HTTP surface pairs it with `status`.
"""


class DemoError(Exception):
    """An error whose text is written for whoever uses the demo. `status` is its HTTP status."""

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


class Expired(BadInput):
    """A result was asked for that is no longer held."""

    status = 404


class Busy(DemoError):
    """More is asked than this machine serves at once."""

    status = 503


class CheckpointError(DemoError):
    """A checkpoint is unknown, absent, unreachable or not an RT-DETR."""

    status = 404


class Cancelled(DemoError):
    """A person stopped it."""

    status = 499
