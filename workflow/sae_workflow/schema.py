"""The JSON schema of config.yaml, with which editors complete and check it: `python -m sae_workflow.schema` writes it.

It is made from `sae.config.models` and the entries' `Options`. It knows the project's own entries to the last key, and
lets entries from outside (`extensions`) have what they like. It requires no key: a file may be laid over config.yaml,
and an entry may extend another one.
"""

import json
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from sae.config.models import Config, Trained, entry_model
from sae.core import registry
from sae.core.files import write_text
from sae_workflow.settings import HERE
from sae_workflow.start import start

PATH = HERE / "schemas/config.schema.json"
# Kinds whose entries have keys beside their own options.
WITH_MORE: tuple[Literal["dataset", "backbone", "metric"], ...] = ("dataset", "backbone", "metric")
Schema = dict[str, Any]


def schema() -> Schema:
    """The schema; call it where no extensions are known."""
    models: dict[tuple[str, str], Any] = {("config", ""): Config, ("recipe", ""): Trained}
    for kind in registry.PACKAGES:
        models |= {(kind, name): registry.head(kind, name).options for name in registry.names(kind)}
    for with_more in WITH_MORE:
        models |= {(with_more, name): entry_model(with_more, name) for name in registry.names(with_more)}
    refs, content = models_json_schema([(model, "validation") for model in models.values()])
    found = {key: refs[model, "validation"] for key, model in models.items()}
    definitions = content["$defs"]
    for definition in definitions.values():
        definition.pop("required", None)
    frame = _definition(definitions, found["config", ""])
    for kind, chosen_by in (("dataset", "type"), ("backbone", "loader")):
        _definition(definitions, _values(frame, f"{kind}s")).update(_by_name(kind, chosen_by, found))
    method = _definition(definitions, _values(frame, "methods"))
    for key, ref in found.items():
        if key[0] in ("recipe", "objective", "penalty"):
            options = _definition(definitions, ref)["properties"]
            method["properties"] |= {name: {**o, "default": None} for name, o in options.items()}
    for kind in ("objective", "penalty"):
        method["properties"][kind] = {"anyOf": [{"enum": registry.names(kind)}, {"type": ["string", "null"]}]}
    for section in frame["properties"].values():
        if "patternProperties" in section:
            section["additionalProperties"] = False
    frame["properties"]["metrics"]["properties"] = {
        name: {"anyOf": [ref, {"type": "null"}]} for (kind, name), ref in found.items() if kind == "metric"
    }
    frame["properties"]["figures"]["items"] = {"anyOf": [{"enum": registry.names("figure")}, {"type": "string"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "made by `make schema` from sae/config/ and the entries' Options; not to be edited",
        **found["config", ""],
        "$defs": definitions,
    }


def _definition(definitions: Schema, ref: Schema) -> Schema:
    return definitions[ref["$ref"].rpartition("/")[2]]


def _values(frame: Schema, section: str) -> Schema:
    """The reference to what the values of a section are."""
    mapping = frame["properties"][section]
    return mapping.get("additionalProperties") or next(iter(mapping["patternProperties"].values()))


def _by_name(kind: str, chosen_by: str, found: dict[tuple[str, str], Schema]) -> Schema:
    """What a dataset or backbone may have hangs on its entry."""
    names = registry.names(kind)
    rules = [
        {"if": {"properties": {chosen_by: {"const": name}}, "required": [chosen_by]}, "then": found[kind, name]}
        for name in names
    ]
    about = {"anyOf": [{"enum": names}, {"type": "string"}]}
    return {"properties": {chosen_by: about}, "allOf": rules}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(_without_titles(schema()), indent=1, ensure_ascii=False) + "\n"


def write() -> None:
    """Write the schema."""
    write_text(PATH, text())


def _without_titles(value: Any) -> Any:
    """Pydantic's titles only repeat the names of the keys."""
    if isinstance(value, dict):
        return {key: _without_titles(v) for key, v in value.items() if key != "title" or not isinstance(v, str)}
    return [_without_titles(v) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    start(write)
