"""The router: what may be registered, what freezing makes of it, and routers in routers."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.asking import answer, body, hello
from ushabti import _core
from ushabti.errors import ConfigError, RouteConflict, ServerStateError
from ushabti.routes import Policy
from ushabti.routing import Router


def test_decorator_and_call_register_the_same_and_return_the_handler() -> None:
    router = Router()
    assert router.get("/a", hello) is hello
    assert router.get("/b")(hello) is hello
    assert router.freeze().endpoints == [hello, hello]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_each_verb_registers_its_method(method: str) -> None:
    router = Router()
    getattr(router, method.lower())("/a", hello)
    assert router.freeze().routes == [(0, (method,), (("literal", "a"),), Policy())]


def test_route_takes_methods_and_without_them_answers_every_one() -> None:
    router = Router()
    router.route("/a", hello, methods=["GET", "PURGE", "GET"])
    router.route("/b", hello)
    assert [methods for _, methods, *_ in router.freeze().routes] == [("GET", "PURGE"), None]
    assert body(router, "/b", "BREW") == "hello"


def test_options_reach_the_native_table() -> None:
    router = Router()
    router.post("/a", hello, max_body="2 GiB", access_log=False)
    router.post("/b", hello, max_body=10, lane="slow", deadline="500 ms", concurrency=2, queue=0)
    router.post("/c", hello, deadline="off")
    assert [route[3] for route in router.freeze().routes] == [
        Policy(max_body=2 << 30, access_log=False),
        Policy(max_body=10, lane="slow", deadline=0.5, concurrency=2, queue=0),
        Policy(deadline=0),
    ]


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda router: router.get(hello), r"@router.get\('/'\), not @router.get"),
        (lambda router: router.get("a", hello), "write '/a'"),
        (lambda router: router.get("/{x:re([)}", hello), "no end"),
        (lambda router: router.get("/{x:re(*)}"), 'regular expression of parameter "x" does not compile'),
        (lambda router: router.get("/{x:re((?=a))}"), "does not compile"),
        (lambda router: router.get("/a", hello, max_bdy=1), "did you mean max_body"),
        (lambda router: router.get("/a", hello, max_body="2 pigs"), "max_body is '2 pigs'"),
        (lambda router: router.get("/a", hello, max_body=-1), "max_body is -1"),
        (lambda router: router.get("/a", hello, access_log="off"), "access_log is True or False, not 'off'"),
        (lambda router: router.get("/a", hello, lane=1), "lane is the name of one, such as 'reports', not 1"),
        (lambda router: router.get("/a", hello, deadline=0), "deadline is 0: write seconds from 0.01"),
        (lambda router: router.get("/a", hello, deadline="soon"), "deadline is 'soon'"),
        (lambda router: router.get("/a", hello, concurrency=0), "concurrency is 0"),
        (lambda router: router.get("/a", hello, queue=3), "queue is for requests beyond the concurrency"),
        (lambda router: router.get("/a", hello, name=1), "name is a str, not 1"),
        (lambda router: router.route("/a", hello, methods="GET"), r"methods are a list such as \['GET', 'POST'\]"),
        (lambda router: router.route("/a", hello, methods=[]), "methods are a list"),
        (lambda router: router.route("/a", hello, methods=["get"]), "write 'GET' for 'get'"),
        (
            lambda router: router.route("/a", hello, methods=["GET,POST"]),
            "a method is a token such as 'GET', not 'GET,POST'",
        ),
        (lambda router: router.route("/a", hello, methods=[1]), "a method is a token"),
        (lambda router: router.route("/a", hello, methods=["CONNECT"]), "CONNECT asks for a tunnel"),
        (lambda router: router.mount("/a", hello), "mount takes a Router"),
        (lambda router: router.mount("/a/", Router()), "write '/a'"),
        (lambda router: router.mount("/{x:re(*)}", Router()), "does not compile"),
        (
            lambda router: router.middleware(lambda request: None),
            r"must take \(request, call_next\), and takes \(request\)",
        ),
        (lambda router: router.error(404)(lambda: None), r"must take \(request, problem\), and takes \(\)"),
        (lambda router: router.error(hello), r"write @router.error\(404\)"),
        (lambda router: router.error(200), "status of 400 to 599"),
        (lambda router: router.error(True), "not for True"),
        (lambda router: router.error("404"), "not for '404'"),
        (lambda router: router.error(KeyboardInterrupt), "not for <class 'KeyboardInterrupt'>"),
        (lambda router: router.on_start(lambda: None), r"must take \(server\)"),
        (lambda router: router.on_thread_start(lambda server: None), r"must take \(\)"),
    ],
)
def test_wrong_registration_is_refused_at_once(register: Callable[[Any], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        register(Router())


def test_conflict_names_both_handlers_and_their_places() -> None:
    def other(request: Any, **_: Any) -> str:
        return ""

    router = Router()
    router.route("/users/{id}", other, methods=["GET", "POST"])
    router.get("/users/{name}", lambda request, name: "")
    with pytest.raises(RouteConflict) as refused:
        router.freeze()
    message = str(refused.value)
    assert message.startswith("GET /users/{name}: two routes answer this, ")
    assert f"other ({__file__}:{other.__code__.co_firstlineno}) as '/users/{{id}}'" in message
    assert message.count(__file__) == 2


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (("/a", ["GET"]), ("/a", ["GET"]), True),
        (("/a", None), ("/a", ["GET"]), True),
        (("/a", None), ("/a", None), True),
        (("/**", None), ("/{x:path}", ["PUT"]), True),
        (("/{x:int}", ["GET"]), ("/{y:int}", ["GET"]), True),
        (("/a", ["GET"]), ("/a", ["HEAD"]), False),
        (("/a", ["GET"]), ("/a", ["POST"]), False),
        (("/{x:int}", ["GET"]), ("/{x}", ["GET"]), False),
        (("/a{x}", ["GET"]), ("/b{x}", ["GET"]), False),
    ],
)
def test_python_and_the_native_table_agree_on_conflicts(one: Any, other: Any, conflict: bool) -> None:
    router = Router()
    for path, methods in (one, other):
        router.route(path, answer(""), methods=methods)
    routes = [(number, route.methods, route.pattern.parts, None) for number, route in enumerate(router._routes)]
    for build in (router.freeze, lambda: _core.RouteTable(routes)):
        try:
            build()
            refused = False
        except ConfigError:
            refused = True
        assert refused is conflict


def test_frozen_router_is_shared_and_refuses_changes() -> None:
    inner, router = Router(), Router()
    decorator, catch = inner.get("/x"), inner.error(404)
    router.mount("/in", inner)
    assert router.freeze() is router.freeze()
    for change in (
        lambda: router.get("/a", hello),
        lambda: router.mount("/b", Router()),
        lambda: router.middleware(lambda request, call_next: None),
        lambda: router.error(404),
        lambda: router.on_start(lambda server: None),
        lambda: inner.get("/c", hello),
        lambda: decorator(hello),
        lambda: catch(lambda request, problem: ""),
    ):
        with pytest.raises(ServerStateError, match="in use by a server"):
            change()


def test_router_that_cannot_be_frozen_may_be_corrected() -> None:
    router = Router()
    router.get("", hello)
    with pytest.raises(ConfigError, match=r"hello .*: the path '' is for mounted routers; write '/'"):
        router.freeze()
    router.get("/", hello)
    router._routes.pop(0)
    assert body(router) == "hello"


def test_handler_without_anything_around_it_is_called_directly() -> None:
    inner, router = Router(), Router()
    inner.get("/", hello)
    router.get("/", hello)
    router.mount("/in", inner)
    router.error(404)(lambda request, problem: "none")
    assert router.freeze().endpoints == [hello, hello]


def test_router_of_a_handler_answers_everything_with_it() -> None:
    router = Router.of(lambda request: f"{request.method} {request.path}")
    for method, path in (("GET", "/"), ("BREW", "/a/b"), ("OPTIONS", "/x/")):
        assert body(router, path, method) == f"{method} {path}"


def test_hooks_come_in_order_and_those_of_the_end_in_reverse() -> None:
    inner, router = Router(), Router()
    router.mount("/a", inner)
    router.mount("/b", inner)
    for each in (router, inner):
        for kind in ("on_start", "on_stop"):
            for _ in range(2):
                getattr(each, kind)(lambda server: None)
        for kind in ("on_thread_start", "on_thread_stop"):
            getattr(each, kind)(lambda: None)
    frozen = router.freeze()
    assert frozen.on_start == (*router._on_start, *inner._on_start)
    assert frozen.on_stop == (*reversed(inner._on_stop), *reversed(router._on_stop))
    assert frozen.on_thread_start == (*router._on_thread_start, *inner._on_thread_start)
    assert frozen.on_thread_stop == (*inner._on_thread_stop, *router._on_thread_stop)


def test_json_codecs_are_those_of_the_outermost_router() -> None:
    def dumps(value: object) -> str:
        return f"<{value}>"

    inner, router = Router(), Router(dumps=dumps, loads=len)
    router.mount("/in", inner)
    inner.get("/", lambda request: [1])
    assert body(router, "/in/") == "<[1]>"
    assert router.freeze().loads is len
    other = Router()
    other.mount("/x", router)
    with pytest.raises(ConfigError, match="mounted at '/x' has dumps or loads of its own"):
        other.freeze()


def test_mounted_routes_stand_under_the_prefix_wherever_they_were_registered() -> None:
    router, inner, innermost = Router(), Router(), Router()
    router.mount("/a", inner)
    inner.mount("/{x}/b", innermost)
    inner.get("", answer("itself"))
    inner.get("/", answer("slash"))
    innermost.get("/c", lambda request, x: f"deep {x}")
    assert [body(router, path) for path in ("/a", "/a/", "/a/1/b/c")] == ["itself", "slash", "deep 1"]


def test_router_may_be_mounted_at_the_root_and_twice() -> None:
    router, inner = Router(), Router()
    inner.get("/x", answer("x"))
    router.mount("/", inner)
    router.mount("/y", inner)
    assert body(router, "/x") == body(router, "/y/x") == "x"


def test_router_in_itself_is_refused() -> None:
    first, second, third = Router(), Router(), Router()
    first.mount("/a", second)
    second.mount("/b", third)
    for inner, outer in ((first, first), (first, third), (second, third)):
        with pytest.raises(ConfigError, match="mounted into itself"):
            outer.mount("/c", inner)


def test_path_of_a_named_route_is_built() -> None:
    router, inner = Router(), Router()
    inner.get("/jars/{number:int}", lambda request, **_: "", name="jar")
    inner.get("/{name}", lambda request, **_: "", name="name")
    router.mount("/{town:slug}", inner)
    assert router.url_for("jar", town="abydos", number=7) == "/abydos/jars/7"
    assert router.url_for("name", town="a", name="b c") == "/a/b%20c"
    assert inner.url_for("jar", number=7) == "/jars/7"
    router.freeze()
    assert router.url_for("jar", town="abydos", number=8) == "/abydos/jars/8"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("none", {}, "no routes have the name 'none'"),
        ("twice", {}, "2 routes have the name 'twice'"),
        ("jar", {}, "needs a value for its parameter 'number'"),
        (
            "jar",
            {"number": "x"},
            r"parameters \{'number': 'x'\} do not fit the pattern '/jars/\{number:int\}' of 'jar'",
        ),
        ("jar", {"number": 1.5}, "do not fit"),
        ("jar", {"number": 1, "x": 2}, "has no parameter 'x'"),
    ],
)
def test_path_that_would_lead_elsewhere_is_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    router, inner = Router(), Router()
    inner.get("/x", hello, name="twice")
    router.mount("/a", inner)
    router.mount("/b", inner)
    router.get("/jars/{number:int}", lambda request, number: "", name="jar")
    with pytest.raises(ValueError, match=message):
        router.url_for(name, **parameters)


def test_path_of_a_prefix_is_built_only_where_the_prefix_is_known() -> None:
    router, inner = Router(), Router()
    inner.get("", hello, name="all")
    router.mount("/a", inner)
    assert router.url_for("all") == "/a"
    with pytest.raises(ValueError, match="ask the router in which this one is mounted"):
        inner.url_for("all")


def test_name_of_two_routes_is_refused() -> None:
    router = Router()
    router.get("/a", hello, name="x")
    router.get("/b", lambda request: "", name="x")
    with pytest.raises(ConfigError, match=r"two routes have the name 'x': .*hello .* and .*lambda.*; rename one"):
        router.freeze()


def test_router_of_what_is_no_handler_is_refused():
    with pytest.raises(ConfigError, match="a handler is a function, not None"):
        Router.of(None)  # type: ignore[arg-type]
