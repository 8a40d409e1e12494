"""Access control of the live server: loopback clients, or clients with the token; other sites' requests are refused."""

import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

OPEN = ("/", "/page/", "/openapi.json")
"""Paths served without a token: the page and the description of the interface."""


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self' ws: wss:; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Of every answer: nothing may be framed, and no page loads anything from elsewhere."""


@dataclass(frozen=True)
class Guard:
    """Checks every request."""

    token: str | None = None
    """What a request must carry; None: only this machine's own names are served."""

    @classmethod
    def of_host(cls, host: str) -> "Guard":
        """No token for a loopback address, a fresh one for any other."""
        return cls(None if is_loopback(host) else secrets.token_urlsafe(24))

    def check(self, request: web.Request) -> None:
        """
        Raises:
            web.HTTPForbidden: the request comes from another site's page, or names a host that this is not.
            web.HTTPUnauthorized: it lacks the token.
        """
        host = urlsplit(f"//{request.host}").hostname or ""
        # A name that somebody lets point here (DNS rebinding) would make another site's page one of ours.
        if self.token is None and not is_loopback(host):
            raise web.HTTPForbidden(text="This address is not served.\n")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text="Pages of other sites may not use this head.\n")
        if self.token is not None and not _is_open(request.path):
            given = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.query.get("token", "")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise web.HTTPUnauthorized(text="This head needs the token that its server printed.\n")

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Checks, then answers."""
        self.check(request)
        response = await handler(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/page/")
