"""The router against a naive model of it: whatever is registered and mounted, in whatever order.

The model keeps lists of what was said and decides by trying every pattern as a regular expression of Python. What the
real router has and it has not: a tree, ranks, shared data, a native table.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from ushabti import _core
from ushabti.errors import ConfigError, RouteConflict, ServerStateError
from ushabti.frozen import Frozen
from ushabti.routing import Router

# The kinds of segments that are tried: how the model matches one, and how specific it is. Fewer texts than in life,
# so that patterns meet.
_SEGMENTS = {
    "a": ("a", 0),
    "b": ("b", 0),
    "1": ("1", 0),
    "": ("", 0),
    "{x:int}": ("(-?[0-9]+)", 1),
    "{x}": ("([^/]+)", 2),
    "{y}": ("([^/]+)", 2),
    "a*": ("a[^/]*", 3),
    "*": ("[^/]*", 4),
    # As few segments as can be, the leftmost first: what a lazy repetition takes.
    "**": ("[^/]*(?:/[^/]*)*?", 5),
    "{x:path}": ("([^/]*(?:/[^/]*)*?)", 5),
}
# A text that matches each, where it is not the same.
_MATCHING = {"{x:int}": "-7", "{x}": "a", "{y}": "b", "{z}": "1", "a*": "ab", "*": "", "**": "a/b", "{x:path}": "1/a"}
_METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PURGE")
# In this order they stand in Allow fields.
_ALLOW_ORDER = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE")


def _pattern(segments: list[str]) -> str:
    """A pattern of these segments; an empty one only stands at the end."""
    inner = [segment for segment in segments[:-1] if segment]
    return "".join(f"/{segment}" for segment in [*inner, *segments[-1:]])


_PATTERNS = st.lists(st.sampled_from(sorted(_SEGMENTS)), max_size=3).map(_pattern)
_PREFIXES = st.sampled_from(("", "/a", "/b", "/{y}", "/{z}", "/{y}/b", "/**"))
_PATHS = st.lists(st.sampled_from(("a", "b", "1", "-7", "ab", "")), min_size=1, max_size=4).map(
    lambda segments: "/" + "/".join(segments)
)
_METHOD_SETS = st.none() | st.lists(st.sampled_from(_METHODS), min_size=1, max_size=2, unique=True)
_ROUTES = st.tuples(_PATTERNS, _METHOD_SETS, st.booleans())
_ROUTERS = 3
_NUMBERS = st.integers(0, _ROUTERS - 1)
_RARELY = st.integers(0, 3).map(lambda number: number == 3)


def _names(pattern: str) -> list[str]:
    return re.findall(r"\{(\w+)", pattern)


def _segment(text: str) -> tuple[str, int]:
    return ("([^/]+)", 2) if text == "{z}" else _SEGMENTS[text]


@dataclass
class Placed:
    """A route at one of its places."""

    pattern: str
    methods: list[str] | None
    handler: Callable[..., object]
    name: str | None

    @property
    def shape(self) -> str:
        """The pattern without names."""
        return re.sub(r"\{\w+", "{", self.pattern).replace("{:path}", "**")

    @property
    def path(self) -> str:
        """A path that this route matches, and perhaps a better one."""
        return "/" + "/".join(_MATCHING.get(text, text) for text in self.pattern.split("/")[1:])

    @property
    def specificity(self) -> list[tuple[int, int]]:
        """Sorts before another route's if this one is more specific."""
        ranks = [_segment(text)[1] for text in self.pattern.split("/")[1:]]
        # What goes on is more specific than what ends.
        return [*((rank, 0) for rank in ranks), (9, 0)]

    def parameters(self, path: str) -> dict[str, object] | None:
        """The parameters that ``path`` gives this route; ``None`` if it does not match."""
        segments = self.pattern.split("/")[1:]
        found = re.fullmatch("".join(f"/{_segment(text)[0]}" for text in segments), path)
        if found is None:
            return None
        kinds = [text for text in segments if text.startswith("{")]
        values = (int(value) if ":int" in kind else value for kind, value in zip(kinds, found.groups(), strict=True))
        return dict(zip(_names(self.pattern), values, strict=True))

    def has(self, method: str) -> bool:
        return self.methods is None or method in self.methods


@dataclass(eq=False)
class Model:
    """A router as a list of what was said to it."""

    real: Router
    routes: list[Placed] = field(default_factory=list)
    mounts: list[tuple[str, "Model"]] = field(default_factory=list)
    is_frozen: bool = False

    def placed(self, prefix: str = "") -> Iterator[Placed]:
        for route in self.routes:
            yield Placed(prefix + route.pattern, route.methods, route.handler, route.name)
        for inner, other in self.mounts:
            yield from other.placed(prefix + inner)

    def prefixes(self, prefix: str = "") -> Iterator[str]:
        yield prefix
        for inner, other in self.mounts:
            yield from other.prefixes(prefix + inner)

    def reachable(self) -> list["Model"]:
        return [self, *(router for _, other in self.mounts for router in other.reachable())]

    def names_clash(self) -> bool:
        wholes = [*self.prefixes(), *(route.pattern for route in self.placed())]
        return any(len(_names(whole)) > len(set(_names(whole))) for whole in wholes)

    def conflicts(self) -> bool:
        routes = list(self.placed())
        return any(
            one.shape == other.shape and any(one.has(method) and other.has(method) for method in _METHODS)
            for at, one in enumerate(routes)
            for other in routes[at + 1 :]
        )

    def shares_names(self) -> bool:
        named: dict[str, object] = {}
        routes = (route for route in self.placed() if route.name)
        return any(named.setdefault(str(route.name), route.handler) is not route.handler for route in routes)

    def problem(self) -> type[Exception] | None:
        """What freezing raises."""
        if self.names_clash() or any(not route.pattern for route in self.placed()):
            return ConfigError
        if self.conflicts():
            return RouteConflict
        return ConfigError if self.shares_names() else None

    def find(self, method: str, path: str) -> tuple[Any, ...]:
        """What the native table has to find."""
        routes = list(self.placed())
        matching = [route for route in routes if route.parameters(path) is not None]
        able = [route for route in matching if self._answers(route, method)]
        if able:
            # The first of the best ones: minimum is stable.
            best = min(able, key=lambda route: route.specificity)
            return ("route", best.handler, best.parameters(path))
        if not matching:
            return ("not found",)
        allowed = {name for name in _ALLOW_ORDER if any(route.has(name) for route in matching)} | {"OPTIONS"}
        if "GET" in allowed:
            allowed.add("HEAD")
        kind = "options" if method == "OPTIONS" else "method not allowed"
        return (kind, ", ".join(name for name in _ALLOW_ORDER if name in allowed))

    def _answers(self, route: Placed, method: str) -> bool:
        """HEAD is answered by what answers GET, unless the same pattern has a HEAD of its own."""
        if route.has(method):
            return True
        own = any(other.has("HEAD") and other.shape == route.shape for other in self.placed())
        return method == "HEAD" and route.has("GET") and not own


class RouterMachine(RuleBasedStateMachine):
    """Some routers, filled, mounted and asked at random; late in their lives some are frozen."""

    def __init__(self) -> None:
        super().__init__()
        # A router that was frozen has a hub, and two hubs cannot be mounted together: that is tested elsewhere.
        self.hub = _core.Hub()
        self.models: list[Model] = []
        self.registered = 0

    @initialize()
    def begin(self) -> None:
        self.models = [Model(Router(hub=self.hub)) for _ in range(_ROUTERS)]

    def _may_add(self, entries: list[Any], entry: object, is_daring: bool) -> bool:
        """Whether to add this to a list of a model: most of what leads to a refusal is left out, as it stays there."""
        before = [model.problem() for model in self.models]
        entries.append(entry)
        after = [model.problem() for model in self.models]
        entries.pop()
        return is_daring or before == after

    @rule(number=_NUMBERS, routes=st.lists(_ROUTES, min_size=1, max_size=4), is_daring=_RARELY)
    def register(self, number: int, routes: list[tuple[str, list[str] | None, bool]], is_daring: bool) -> None:
        for route in routes:
            self._register(self.models[number], *route, is_daring)

    def _register(self, model: Model, pattern: str, methods: list[str] | None, is_named: bool, is_daring: bool) -> None:
        self.registered += 1
        # Some of the names are that of an earlier route.
        name = f"route {self.registered // 2}" if is_named else None
        options: dict[str, Any] = {} if name is None else {"name": name}

        def handler(request: Any, **parameters: Any) -> str:
            return pattern

        def register() -> object:
            return model.real.route(pattern, handler, methods=methods, **options)

        placed = Placed(pattern, methods, handler, name)
        if model.is_frozen:
            with pytest.raises(ServerStateError):
                register()
        elif len(_names(pattern)) > len(set(_names(pattern))):
            with pytest.raises(ConfigError, match="there is a parameter"):
                register()
        elif self._may_add(model.routes, placed, is_daring):
            assert register() is handler
            model.routes.append(placed)

    @rule(outer=_NUMBERS, inner=_NUMBERS, prefix=_PREFIXES, is_daring=_RARELY)
    def mount(self, outer: int, inner: int, prefix: str, is_daring: bool) -> None:
        model, other = self.models[outer], self.models[inner]
        if model.is_frozen:
            with pytest.raises(ServerStateError):
                model.real.mount(prefix, other.real)
        elif model in other.reachable():
            with pytest.raises(ConfigError, match="into itself"):
                model.real.mount(prefix, other.real)
        # Each mount doubles what is below, and two are enough to meet all that can be met.
        elif len(model.mounts) < 2 and self._may_add(model.mounts, (prefix, other), is_daring):
            model.real.mount(prefix, other.real)
            model.mounts.append((prefix, other))

    @rule(number=_NUMBERS, paths=st.lists(_PATHS, min_size=1, max_size=6))
    def ask(self, number: int, paths: list[str]) -> None:
        model = self.models[number]
        # As freezing does, after which nothing more could be registered.
        frozen = self._checked(model, model.real._compile)
        if frozen is None:
            return
        table = _core.RouteTable(frozen.routes)
        # A path of each route, too: of the drawn ones, most lead nowhere.
        paths = [*paths, *(route.path for route in model.placed())]
        for path, method in product(paths, (*_METHODS, "BREW")):
            found = table.find(method, path)
            if found[0] == "route":
                found = ("route", frozen.endpoints[found[1]], found[2])
            assert found == model.find(method, path), f"{method} {path}"

    def _checked(self, model: Model, freeze: Callable[[], Frozen]) -> Frozen | None:
        """What this returns, unless the model knows why it must raise."""
        problem = model.problem()
        if problem is None:
            return freeze()
        with pytest.raises(problem) as refused:
            freeze()
        assert type(refused.value) is problem
        return None

    @precondition(lambda self: self.registered > 12)
    @rule(number=_NUMBERS)
    def freeze(self, number: int) -> None:
        model = self.models[number]
        frozen = self._checked(model, model.real.freeze)
        if frozen is not None:
            assert model.real.freeze() is frozen
            for router in model.reachable():
                router.is_frozen = True

    @rule(number=_NUMBERS)
    def replace(self, number: int) -> None:
        """Puts a new router in the place of one that is mounted, and stays where it is."""
        if any(self.models[number] in model.reachable() for at, model in enumerate(self.models) if at != number):
            self.models[number] = Model(Router(hub=self.hub))

    @precondition(lambda self: self.registered)
    @rule(
        number=_NUMBERS,
        back=st.integers(0, 3),
        values=st.lists(st.sampled_from(("a", "7", "a/b")), min_size=3, max_size=3),
    )
    def url_for(self, number: int, back: int, values: list[str]) -> None:
        model = self.models[number]
        name = f"route {self.registered // 2 - back}"
        if model.names_clash():
            with pytest.raises(ConfigError, match="both have a parameter"):
                model.real.url_for(name)
            return
        named = [route for route in model.placed() if route.name == name]
        if len(named) != 1:
            with pytest.raises(ValueError, match="have the name"):
                model.real.url_for(name)
            return
        route = named[0]
        parameters = dict(zip(_names(route.pattern), values, strict=False))
        segments = route.pattern.split("/")[1:]
        path = self._built(segments, parameters)
        if not path:
            with pytest.raises(ValueError, match=r"wildcard|do not fit|that of the prefix"):
                model.real.url_for(name, **parameters)
            return
        assert model.real.url_for(name, **parameters) == path
        with pytest.raises(ValueError, match="no parameter 'other'"):
            model.real.url_for(name, other=1, **parameters)

    def _built(self, segments: list[str], parameters: dict[str, str]) -> str | None:
        """The path of these segments; ``None`` or nothing if there can be none with these parameters."""
        path = ""
        for text in segments:
            if "*" in text:
                return None
            value = parameters[_names(text)[0]] if text.startswith("{") else text
            if text == "{x:int}" and not value.isdigit():
                return None
            path += "/" + quote(value, safe="/" if text == "{x:path}" else "")
        return path


def test_router_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        RouterMachine,
        # The same examples on each run, so that only a change can fail it; a database would have nothing to keep.
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None),
    )
