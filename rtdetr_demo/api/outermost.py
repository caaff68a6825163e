"""The ASGI middleware in front of the whole app, in order."""

from starlette.types import ASGIApp

from ..settings import Settings
from .auth import Keys
from .floods import RateMiddleware
from .forwarding import ForwardingMiddleware
from .hosts import HostMiddleware
from .security_headers import SecurityHeadersMiddleware


def outermost(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap the app in what sees every request before it."""
    app = HostMiddleware(app, settings)
    app = RateMiddleware(app, Keys(settings))
    app = SecurityHeadersMiddleware(app)
    return ForwardingMiddleware(app, settings)
