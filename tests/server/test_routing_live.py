"""Routes on a live server: what the IO thread answers, what comes to which handler, and what stands around it."""

import threading
from uuid import UUID

import pytest

from tests.server.waiting import Log
from ushabti.errors import HTTPError
from ushabti.responses import Response
from ushabti.routing import Router


def methods(allow: str | None) -> set[str]:
    assert allow is not None
    return {method.strip() for method in allow.split(",")}


@pytest.fixture
def blocked(serve):
    """A server whose only worker is busy for the whole test: what is answered, the IO thread answers."""
    began, release = threading.Event(), threading.Event()
    router = Router()

    @router.get("/busy")
    def busy(request):
        began.set()
        release.wait(30)
        return "done"

    router.post("/jars/{number:int}", lambda request, number: "jar")
    running = serve(router, workers=1)
    raw = running.connect()
    raw.send(b"GET /busy HTTP/1.1\r\nHost: a\r\n\r\n")
    assert began.wait(10)
    yield running
    release.set()
    assert raw.read_response().body == b"done"


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("GET", "/none", 404, None),
        ("POST", "/busy", 405, {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/jars/7", 405, {"POST", "OPTIONS"}),
        ("DELETE", "/jars/7", 405, {"POST", "OPTIONS"}),
        ("POST", "/jars/seven", 404, None),
        ("OPTIONS", "/busy", 204, {"GET", "HEAD", "OPTIONS"}),
        ("OPTIONS", "/jars/7", 204, {"POST", "OPTIONS"}),
        ("OPTIONS", "/none", 404, None),
        ("GET", "/jars/%zz", 400, None),
    ],
)
def test_io_thread_answers_without_a_worker(blocked, method: str, target: str, status: int, allow: set[str] | None):
    answer = blocked.ask(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert answer.status == status
    assert answer.field("allow") is None if allow is None else methods(answer.field("allow")) == allow
    assert (answer.body == b"") == (status == 204)


def test_options_of_the_server_tells_the_methods_of_all_its_routes(blocked):
    answer = blocked.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.status, answer.body) == (204, b"")
    assert methods(answer.field("allow")) >= {"GET", "HEAD", "POST", "OPTIONS"}


def test_head_is_answered_wherever_get_is(serve):
    router = Router()
    router.get("/a", lambda request: f"by {request.method}")
    answer = serve(router).ask(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n", to_head=True)
    assert (answer.status, answer.field("content-length")) == (200, "7")


def test_own_head_and_options_win(serve):
    router = Router()
    router.get("/a", lambda request: "get")
    router.head("/a", lambda request: ("", 200, {"X-By": "head"}))
    router.options("/a", lambda request: ("", 200, {"X-By": "options"}))
    running = serve(router)
    assert running.ask(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n", to_head=True).field("x-by") == "head"
    assert running.ask(b"OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n").field("x-by") == "options"
    assert running.get("/a").body == b"get"


@pytest.mark.parametrize("reverse", [False, True], ids=["as written", "in reverse"])
def test_most_specific_route_wins_in_any_order(serve, reverse: bool):
    patterns = [
        "/jars/new",
        "/jars/{n:int}",
        "/jars/{name:slug}",
        "/jars/{name}",
        "/jars/*.txt",
        "/jars/*",
        "/jars/**",
        "/**",
    ]
    router = Router()
    for pattern in reversed(patterns) if reverse else patterns:
        router.get(pattern, lambda request, pattern=pattern, **parameters: pattern)
    running = serve(router)
    for target, pattern in [
        ("/jars/new", "/jars/new"),
        ("/jars/7", "/jars/{n:int}"),
        ("/jars/barley", "/jars/{name:slug}"),
        ("/jars/a%20b", "/jars/{name}"),
        ("/jars/", "/jars/*"),
        ("/jars/a/b", "/jars/**"),
        ("/else", "/**"),
        ("/", "/**"),
    ]:
        assert running.get(target).body.decode() == pattern, target


def test_methods_of_one_path_may_come_from_several_routes(serve):
    router = Router()
    router.get("/users/me", lambda request: "me")
    router.post("/users/{name}", lambda request, name: f"post {name}")
    running = serve(router)
    assert running.get("/users/me").body == b"me"
    assert running.ask(b"POST /users/me HTTP/1.1\r\nHost: a\r\n\r\n").body == b"post me"
    answer = running.ask(b"PUT /users/me HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 405
    assert methods(answer.field("allow")) >= {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/int/42", "int 42"),
        ("/int/-7", "int -7"),
        ("/int/99999999999999999999999", "404"),
        ("/int/4.2", "404"),
        ("/float/1.5", "float 1.5"),
        ("/slug/a-b_9", "str a-b_9"),
        ("/uuid/00000000-0000-0000-0000-00000000002a", "UUID 00000000-0000-0000-0000-00000000002a"),
        ("/uuid/42", "404"),
        ("/path/a/b%2Fc/", "str a/b/c/"),
        ("/text/a%2Fb", "str a/b"),
        ("/text/%C3%BC+%20", "str ü+ "),
        ("/text/a%252Fb", "str a%2Fb"),
        ("/text/", "404"),
        ("/word/abc", "str abc"),
        ("/word/abd", "404"),
        ("/file-7.json", "int 7"),
    ],
)
def test_parameters_are_converted(serve, target: str, expected: str):
    router = Router()

    def handler(request, value):
        assert request.path_params == {"value": value}
        return f"{type(value).__name__} {value}"

    for kind in ("int", "float", "slug", "uuid", "path"):
        router.get(f"/{kind}/{{value:{kind}}}", handler)
    router.get("/text/{value}", handler)
    router.get("/word/{value:re(ab?c)}", handler)
    router.get("/file-{value:int}.json", handler)
    answer = serve(router).get(target)
    assert (answer.body.decode() if answer.status == 200 else str(answer.status)) == expected


def test_uuid_is_a_uuid(serve):
    router = Router()
    seen: list[object] = []

    @router.get("/{one:uuid}")
    def handler(request, one: UUID):
        seen.append(one)
        return "ok"

    serve(router).get("/12345678-1234-5678-1234-567812345678")
    assert seen == [UUID("12345678-1234-5678-1234-567812345678")]


def test_own_404_and_405_handlers_answer(serve):
    router = Router()
    router.get("/a", lambda request: "a")

    @router.error(404)
    def missing(request, problem):
        return {"missing": request.path}, 404

    @router.error(405)
    def mismatched(request, problem):
        return f"not {request.method}, but {request.allow}", 405

    running = serve(router)
    answer = running.get("/b%20c")
    assert (answer.status, answer.body) == (404, b'{"missing":"/b c"}')
    answer = running.ask(b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
    assert (answer.status, answer.field("allow")) == (405, answer.body.decode().removeprefix("not PUT, but "))
    assert methods(answer.field("allow")) == {"GET", "HEAD", "OPTIONS"}


def test_error_handlers_answer_by_class_and_status(serve, log: Log):
    router = Router()

    class Shut(Exception):
        pass

    class Locked(Shut):
        pass

    problems = {
        "shut": Shut(),
        "locked": Locked(),
        "value": ValueError("v"),
        "gone": HTTPError(410),
        "teapot": HTTPError(418),
    }

    @router.get("/{name}")
    def handler(request, name: str):
        raise problems[name]

    router.error(Shut)(lambda request, problem: (f"shut {type(problem).__name__}", 503))
    router.error(410)(lambda request, problem: (f"gone {problem.status}", 410))
    router.error(500)(lambda request, problem: (f"ours {problem.__cause__!r}", 500))
    running = serve(router)
    found = {name: (answer := running.get(f"/{name}")) and (answer.status, answer.body.decode()) for name in problems}
    assert found == {
        "shut": (503, "shut Shut"),
        "locked": (503, "shut Locked"),
        "value": (500, "ours ValueError('v')"),
        "gone": (410, "gone 410"),
        "teapot": (418, "418 I'm a Teapot\n"),
    }
    assert log.count("failed") == 1 and "ValueError: v" in log.text()


def test_middleware_stands_around_handlers_from_the_outermost_in(serve):
    router = Router()
    calls: list[str] = []

    @router.middleware
    def outer(request, call_next):
        calls.append("outer in")
        response = call_next(request)
        calls.append(f"outer out {response.status}")
        response.headers["X-Outer"] = "yes"
        return response

    @router.middleware
    def inner(request, call_next):
        if request.path == "/shut":
            return "shut", 403
        calls.append("inner")
        return call_next(request)

    @router.get("/{name}")
    def handler(request, name: str):
        calls.append(f"handler {name}")
        if name == "gone":
            raise HTTPError(410)
        return name

    running = serve(router)
    answer = running.get("/a")
    assert (answer.body, answer.field("x-outer")) == (b"a", "yes")
    assert calls == ["outer in", "inner", "handler a", "outer out 200"]
    assert running.get("/gone").status == 410
    assert calls[-1] == "outer out 410"
    calls.clear()
    assert running.get("/shut").status == 403
    assert calls == ["outer in", "outer out 403"]


def test_middleware_that_forgets_its_return_is_500(serve, log: Log):
    router = Router()
    router.get("/", lambda request: "x")

    @router.middleware
    def forgetful(request, call_next):
        call_next(request)

    assert serve(router).get("/").status == 500
    assert "forgetful" in log.text() and "None" in log.text()


def test_mounted_routers_have_prefixes_errors_and_middleware_of_their_own(serve):
    shop = Router()
    shop.get("", lambda request, town: f"shop of {town}")
    shop.get("/jars/{number:int}", lambda request, town, number: f"{town} {number}")

    @shop.get("/shut")
    def shut(request, town):
        raise KeyError("key")

    shop.error(KeyError)(lambda request, problem: ("shut", 503))
    shop.error(404)(lambda request, problem: ("not in this shop", 404))

    @shop.middleware
    def mark(request, call_next):
        response = call_next(request)
        response.headers["X-Shop"] = "1"
        return response

    router = Router()
    router.get("/", lambda request: "root")
    router.mount("/towns/{town}", shop)
    running = serve(router)
    answer = running.get("/towns/thebes/jars/7")
    assert (answer.body, answer.field("x-shop")) == (b"thebes 7", "1")
    assert running.get("/towns/thebes").body == b"shop of thebes"
    assert (running.get("/towns/thebes/shut").status, running.get("/towns/thebes/shut").body) == (503, b"shut")
    assert running.get("/towns/thebes/none").body == b"not in this shop"
    assert running.get("/none").body == b"404 Not Found\n"
    answer = running.get("/")
    assert (answer.body, answer.field("x-shop")) == (b"root", None)


def test_server_takes_a_handler_for_everything(serve):
    running = serve(lambda request: f"{request.method} {request.path}")
    assert running.get("/any/where").body == b"GET /any/where"
    assert running.ask(b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n").body == b"BREW /pot"
    assert running.ask(b"OPTIONS /pot HTTP/1.1\r\nHost: a\r\n\r\n").body == b"OPTIONS /pot"


def test_body_of_a_404_handler_is_bounded_like_any(serve):
    router = Router()
    router.error(404)(lambda request, problem: Response(request.body, 404))
    running = serve(router, max_body=4)
    assert running.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd").body == b"abcd"
    assert running.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde").status == 413


def test_servers_may_share_a_router(serve):
    router = Router()
    router.get("/{number:int}", lambda request, number: f"{number}")
    one, other = serve(router), serve(router, max_body=1)
    assert (one.get("/1").body, other.get("/2").body) == (b"1", b"2")
    one.stop()
    assert other.get("/3").body == b"3"


def test_thousands_of_routes_are_found(serve):
    router = Router()
    for number in range(3000):
        router.get(f"/a/{number}/{{x:int}}", lambda request, x, number=number: f"{number} {x}")
    running = serve(router)
    assert [running.get(f"/a/{number}/5").body for number in (0, 1234, 2999)] == [b"0 5", b"1234 5", b"2999 5"]
    assert running.get("/a/3000/5").status == 404
