"""Where an operator may set options: command line, environment, TOML file; and which of them wins."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ushabti.errors import ConfigError
from ushabti.options import LAUNCH, OPTIONS
from ushabti.schema import Option
from ushabti.values import unknown_name

__all__ = ["SCHEMA", "Given", "from_environment", "from_file", "likely_mistakes", "where_to_listen"]

#: Everything that can be set, by name.
SCHEMA: Mapping[str, Option] = {**LAUNCH, **OPTIONS}

# What is read of the environment and is no option of the schema.
_OTHER_VARIABLES = ("USHABTI_CONFIG",)


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was set somewhere.

    Attributes:
        value: As it was written; not checked.
        label: What the operator calls it: ``--max-queue``, ``USHABTI_MAX_QUEUE``, ``max_queue in ushabti.toml``.
        origin: Where it was set: ``command line``, ``environment``, or the file's name.
    """

    value: Any
    label: str
    origin: str


def from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    """The options that the environment sets, by name."""
    return {
        name: Given(environment[option.variable], option.variable, "environment")
        for name, option in SCHEMA.items()
        if option.variable in environment
    }


def likely_mistakes(environment: Mapping[str, str]) -> list[str]:
    """Sentences about variables that look like a misspelt option.

    Not errors: other programs, Kubernetes for one, make variables with the prefix of a service's name.
    """
    known = [option.variable for option in SCHEMA.values()] + list(_OTHER_VARIABLES)
    found = []
    for variable in sorted(environment):
        if variable.startswith("USHABTI_") and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1, cutoff=0.9)
            if near:
                found.append(f"{variable} is no option and does nothing; did you mean {near[0]}?")
    return found


def from_file(path: str) -> dict[str, Given]:
    """The options that a TOML file sets, by name.

    Raises:
        ConfigError: It cannot be read, is no TOML, or sets what does not exist.
    """
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as problem:
        raise ConfigError(f"the configuration file {path} cannot be read: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"the configuration file {path} is no TOML: {problem}") from problem
    for name in table:
        if name not in SCHEMA:
            raise unknown_name(name, SCHEMA, f" ({path})")
    return {name: Given(value, f"{name} in {path}", os.path.basename(path)) for name, value in table.items()}


def where_to_listen(sources: list[dict[str, Given]]) -> dict[str, Given]:
    """``bind``, or ``host`` and ``port``, of the sources that say where to listen, the strongest source first.

    They answer one question in two ways, so a source that gives one way silences the other way of the weaker ones.

    Raises:
        ConfigError: One source gives both.
    """
    found: dict[str, Given] = {}
    for source in sources:
        ways: dict[str, Given] = {name: source[name] for name in ("bind", "host", "port") if name in source}
        if "bind" in ways and len(ways) > 1:
            other = next(given for name, given in ways.items() if name != "bind")
            raise ConfigError(f"{ways['bind'].label} and {other.label} both say where to listen: write one of them")
        if ("bind" in ways and found) or "bind" in found:
            continue
        found = {**ways, **found}
    return found
