"""The operator API: HTTP on loopback for status, lineage, elections, the model and metrics."""

import contextlib
import ipaddress
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CONTENT_TYPE_LATEST

from appliance.operator_api.metrics import exposition
from appliance.operator_api.views import NewMember, Operated, Rollback
from appliance.words.errors import OperatorError
from appliance.words.settings import Operator

_BODY_LIMIT = 4096
_LIST_LIMIT = 128 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def operator_api(settings: Operator, node: Operated) -> AsyncIterator[None]:
    """Serve the API as long as the context lasts.

    Raises:
        OperatorError: the port can't be bound.
    """
    async with _served(settings, _application(settings.host, node)):
        yield


@contextlib.asynccontextmanager
async def _served(settings: Operator, application: web.Application) -> AsyncIterator[None]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            raise OperatorError(
                f"operator.port: {settings.host}:{settings.port} can't be opened ({error.strerror}); "
                "end what uses it or choose another port"
            ) from None
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def unavailable_api(settings: Operator, reason: str) -> AsyncIterator[None]:
    """Answer every request with status 503 and the reason why the node can't work now. Raises as ``operator_api``."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503, text=reason + "\n")

    application = web.Application(client_max_size=_BODY_LIMIT, middlewares=[_refuse_other_names(settings.host)])
    application.router.add_route("*", "/{path:.*}", answer)
    async with _served(settings, application):
        yield


def _application(host: str, node: Operated) -> web.Application:
    middlewares = [_refuse_browsers, _refuse_other_names(host)]
    application = web.Application(client_max_size=_BODY_LIMIT, middlewares=middlewares)

    async def status(_: web.Request) -> web.Response:
        return _json(msgspec.json.encode(node.status()))

    async def lineage(_: web.Request) -> web.Response:
        return _json(msgspec.json.encode(node.lineage()))

    async def elections(_: web.Request) -> web.Response:
        return _json(node.elections())

    async def healthz(_: web.Request) -> web.Response:
        state = node.status()
        return web.Response(status=200 if state.ready else 503, text=state.summary + "\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(node.status()), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def model(request: web.Request) -> web.Response:
        found = await node.model()
        if found is None:
            return web.Response(status=404, text="no global model is committed yet, or its bytes are not here yet\n")
        digest, content = found
        if request.headers.get("If-None-Match") == f'"{digest}"':
            return web.Response(status=304, headers={"ETag": f'"{digest}"'})
        return web.Response(body=content, content_type="application/octet-stream", headers={"ETag": f'"{digest}"'})

    async def models(_: web.Request) -> web.Response:
        return _json(msgspec.json.encode(node.models()))

    async def model_of(request: web.Request) -> web.Response:
        try:
            digest, content = await node.model_of(request.match_info["which"])
        except OperatorError as error:
            return web.Response(status=404, text=f"{error}\n")
        return web.Response(body=content, content_type="application/octet-stream", headers={"ETag": f'"{digest}"'})

    async def roll_back(request: web.Request) -> web.Response:
        try:
            node.roll_back(msgspec.json.decode(await request.read(), type=Rollback).version)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return web.Response(status=400, text=f"not a rollback: {error}\n")
        except OperatorError as error:
            return web.Response(status=409, text=f"{error}\n")
        return web.Response(status=202)

    async def resign(_: web.Request) -> web.Response:
        problem = node.resign()
        return web.Response(status=202) if problem is None else web.Response(status=409, text=problem + "\n")

    async def members(_: web.Request) -> web.Response:
        return _json(msgspec.json.encode(node.members()))

    async def add_member(request: web.Request) -> web.Response:
        try:
            new = msgspec.json.decode(await request.read(), type=NewMember)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return web.Response(status=400, text=f"not a member: {error}\n")
        return await _done(node.add_member(new))

    async def remove_member(request: web.Request) -> web.Response:
        return await _done(node.remove_member(request.match_info["node"]))

    async def reload(_: web.Request) -> web.Response:
        try:
            return _json(msgspec.json.encode(node.reload()))
        except OperatorError as error:
            return web.Response(status=409, text=f"{error}\n")

    async def revoke(request: web.Request) -> web.Response:
        try:
            node.revoke(await request.clone(client_max_size=_LIST_LIMIT).read())
        except OperatorError as error:
            return web.Response(status=409, text=f"{error}\n")
        return web.Response(status=202)

    application.add_routes(
        [
            web.get("/v1/status", status),
            web.get("/v1/lineage", lineage),
            web.get("/v1/elections", elections),
            web.get("/v1/model", model),
            web.get("/v1/models", models),
            web.get("/v1/models/{which}", model_of),
            web.post("/v1/rollback", roll_back),
            web.post("/v1/resign", resign),
            web.post("/v1/reload", reload),
            web.get("/v1/members", members),
            web.post("/v1/members", add_member),
            web.delete("/v1/members/{node}", remove_member),
            web.post("/v1/revocations", revoke),
            web.get("/healthz", healthz),
            web.get("/metrics", metrics),
        ]
    )
    return application


@web.middleware
async def _refuse_browsers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A page that somebody opens in a browser on this machine must not make the node act."""
    if request.method != "GET" and "Origin" in request.headers:
        return web.Response(status=403, text="requests from web pages are refused\n")
    return await handler(request)


_HOST = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<name>[^:]*))(?::\d*)?")


def _refuse_other_names(host: str) -> Middleware:
    """A web page can give its own name this machine's loopback address ("DNS rebinding"), and is then allowed to read
    what it gets: the model's weights. Its requests carry that name; honest ones ask for an address or for localhost.
    """

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        found = _HOST.fullmatch(request.headers.get("Host", ""))
        asked = (found["six"] or found["name"] or "localhost") if found else None
        if _is_loopback(host) and (asked is None or not (asked in {"localhost", host} or _is_address(asked))):
            return web.Response(status=403, text="this API answers to localhost and to addresses only\n")
        return await handler(request)

    return refuse


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _done(work: Awaitable[None]) -> web.Response:
    try:
        await work
    except OperatorError as error:
        return web.Response(status=409, text=f"{error}\n")
    return web.Response(status=202)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
