"""What the package exports: complete, real and documented."""

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import ushabti
from tools.steps import ROOT

PACKAGE = ROOT / "python" / "ushabti"
# `__main__` is run, not imported.
MODULES = sorted(path for path in PACKAGE.glob("*.py") if path.stem != "__main__")

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)


def load(path: Path) -> ModuleType:
    return importlib.import_module("ushabti" if path.stem == "__init__" else f"ushabti.{path.stem}")


@each_module
def test_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@each_module
def test_all_is_complete_and_real(path: Path) -> None:
    module = load(path)
    defined = {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
    exported: list[str] = module.__all__
    assert defined - set(exported) == set(), "public by name, and not in __all__"
    assert [name for name in exported if not hasattr(module, name)] == []
    assert len(exported) == len(set(exported))


def test_every_module_with_public_names_is_reachable_from_the_package() -> None:
    """``from ushabti import *`` brings what ``__all__`` of the package says, and nothing private."""
    assert [name for name in ushabti.__all__ if name.startswith("_") and name != "__version__"] == []


@each_module
def test_every_public_name_is_documented(path: Path) -> None:
    module = load(path)
    missing = []
    for name in module.__all__:
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        if not inspect.getdoc(value):
            missing.append(name)
        if inspect.isclass(value) and value.__module__ == module.__name__:
            missing += [f"{name}.{method}" for method, code in public_methods(value) if not inspect.getdoc(code)]
    assert missing == []


def public_methods(of: type) -> list[tuple[str, object]]:
    kinds = (property, classmethod, staticmethod)
    return [
        (name, value)
        for name, value in vars(of).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds))
    ]
