"""Each example is started and asked what it is there to answer."""

import json
from collections.abc import Callable

import examples.bench
import examples.conformance
import examples.hello
from tests.support import Running

Serve = Callable[..., Running]


def test_hello_answers_and_says_what_it_does_not_know(serve: Serve) -> None:
    running = serve(examples.hello.router)
    assert running.get("/").status == 200
    assert running.get("/nowhere").status == 404
    known = running.get("/users/1")
    assert known.status == 200
    assert known.field("content-type") == "application/json"


def test_conformance_serves_what_the_judge_asks_for(serve: Serve) -> None:
    running = serve(examples.conformance.router)
    assert running.get("/hello").body == b"hello"
    assert running.get("/header", "X-Test: a").body == b"a"
    assert running.get("/header").body == b"-"
    assert running.get("/status/418").status == 418
    assert len(running.get("/big").body) == 16 * 1024 * 1024
    echo = running.ask(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nConnection: close\r\n\r\nking")
    assert echo.body == b"king"


def test_bench_serves_what_the_comparison_asks_for(serve: Serve) -> None:
    running = serve(examples.bench.router)
    assert running.get("/").body == b"Hello, World!"
    assert len(running.get("/sleep").body) == 26
    assert json.loads(running.get("/users/123?limit=10").body) == {"id": "123", "limit": "10"}
    assert running.get("/hog").status == 200
