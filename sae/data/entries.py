"""The door to datasets and backbones: a mapping of config.yaml, which JSON brings, becomes the entry's `Options`."""

from types import ModuleType
from typing import Any, Literal

from sae.core import registry

NAMED_BY = {
    "dataset": "type",
    "backbone": "loader",
}  # the key of a mapping that names its entry


def entry(
    kind: Literal["dataset", "backbone"], spec: dict[str, Any]
) -> tuple[ModuleType, Any]:
    """The module that a mapping names, and what its functions take: its `Options`; without such a class the mapping.

    Raises:
        UserError: there is no such entry, or its file cannot be imported.
    """
    module = registry.load(kind, spec[NAMED_BY[kind]])
    if not hasattr(module, "Options"):
        return module, spec
    return module, module.Options.model_validate(
        {key: spec[key] for key in module.Options.model_fields if key in spec}
    )
