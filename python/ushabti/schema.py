"""One entry of the options' schema, and how a schema is read off the type that describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from ushabti.values import Kind

__all__ = ["Option", "schema_of"]


@dataclass(frozen=True, slots=True)
class Option:
    """One entry of the schema.

    Attributes:
        kind: What its values are.
        default: The value as somebody would write it.
        group: The heading under which ``--help`` shows it.
        help: What it does.
        why: Why the default is what it is.
    """

    kind: Kind
    default: object
    group: str
    help: str
    why: str
    name: str = field(default="", compare=False)

    @property
    def flag(self) -> str:
        """Its spelling on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its spelling in the environment."""
        return "USHABTI_" + self.name.upper()


def schema_of(described: type) -> Mapping[str, Option]:
    """The options that a ``TypedDict`` describes, by name; those that it inherits come first."""
    schema = {}
    for name, hint in described.__annotations__.items():
        option = get_args(hint)[1]
        schema[name] = Option(option.kind, option.default, option.group, option.help, option.why, name)
    return schema
