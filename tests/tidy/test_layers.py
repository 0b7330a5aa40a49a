"""Dependencies run one way: proto <- core <- py, and within the package along the table below."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.steps import ROOT

PACKAGE = ROOT / "python" / "ushabti"

# A module imports from the rows above its own, never from its own row or below. A new module takes its place here: a
# new arrow between components is the change that deserves the most thought.
LAYERS = (
    {"errors"},
    {
        "_core",
        "address",
        "ask",
        "dump",
        "exits",
        "handlers",
        "metrics",
        "patterns",
        "phase",
        "signals",
        "telling",
        "values",
    },
    {"alerts", "orders", "responses", "schema"},
    {"tls_options"},
    {"options"},
    {"config"},
    {"endpoints", "gathering", "logs", "sources", "workers"},
    {"socket_threads"},
    {"websocket"},
    {"routes"},
    {"frozen"},
    {"routing"},
    {"admin", "faults"},
    {"assembly"},
    {"locate", "server"},
    {"__init__"},
    {"testing_socket"},
    {"testing"},
    {"cli"},
    {"__main__"},
)
RANKS = {module: rank for rank, modules in enumerate(LAYERS) for module in modules}

MODULES = sorted(PACKAGE.rglob("*.py"))

# What a pure state machine must not do, whatever crate it comes from.
IMPURE = re.compile(r"\b(TcpStream|TcpListener|UdpSocket|UnixStream|Instant|SystemTime|std::(thread|fs|process|env))\b")


def dependencies(crate: str) -> set[str]:
    manifest = tomllib.loads((ROOT / "crates" / crate / "Cargo.toml").read_text())
    tables = [manifest, *manifest.get("target", {}).values()]
    kinds = ("dependencies", "dev-dependencies", "build-dependencies")
    return {name for table in tables for kind in kinds for name in table.get(kind, {})}


def test_proto_knows_neither_the_other_crates_nor_a_runtime() -> None:
    assert not dependencies("ushabti-proto") & {"ushabti-core", "ushabti-py", "pyo3", "tokio", "socket2", "libc"}


def test_proto_has_no_socket_no_clock_no_thread() -> None:
    sources = sorted((ROOT / "crates" / "ushabti-proto" / "src").rglob("*.rs"))
    found = [f"{path.relative_to(ROOT)}: {match[0]}" for path in sources for match in IMPURE.finditer(path.read_text())]
    assert sources
    assert found == []


def test_core_knows_nothing_of_python() -> None:
    assert not dependencies("ushabti-core") & {"ushabti-py", "pyo3", "pyo3-ffi"}


def module_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line and module for each import of the package's own modules; ``__init__`` for a public name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "ushabti"]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "a relative import"
                continue
            if node.module == "ushabti":
                names = [f"ushabti.{alias.name}" for alias in node.names]
            else:
                names = [node.module] if node.module and node.module.startswith("ushabti.") else []
        else:
            continue
        for name in names:
            module = name.partition(".")[2].split(".")[0]
            yield node.lineno, module if module in RANKS else "__init__"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_imports_only_from_the_layers_above_it(path: Path) -> None:
    name = module_name(path)
    assert name in RANKS, f"{name} has no place in LAYERS yet"
    wrong = [f"line {line}: {module}" for line, module in imports(path) if RANKS.get(module, 99) >= RANKS[name]]
    assert wrong == []


def test_every_module_of_the_table_exists() -> None:
    assert set(RANKS) - {module_name(path) for path in MODULES} - {"_core"} == set()
