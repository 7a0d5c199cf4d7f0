"""The JSON schema of config.yaml, with which editors complete and check it, and a table of its keys for people.

`python -m sae_workflow.schema` writes both. The schema is made from `sae.config.models` and the entries' `Options`. It
knows the project's own entries to the last key, and lets entries from outside (`extensions`) have what they like. It
requires no key: a file may be laid over config.yaml, and an entry may extend another one.
"""

import json
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from sae.config import models
from sae.core import registry
from sae.core.files import write_text
from sae_workflow.settings import HERE
from sae_workflow.start import start

PATH = HERE / "schemas/config.schema.json"
README = HERE.parent / "config/README.md"
TABLES = "<!-- from here on made by `make schema` from sae/config/ and the entries' Options; not to be edited -->\n"
# Kinds whose entries have keys beside their own options.
WITH_MORE: tuple[Literal["dataset", "backbone", "metric"], ...] = (
    "dataset",
    "backbone",
    "metric",
)
Schema = dict[str, Any]


def schema() -> Schema:
    """The schema; call it where no extensions are known."""
    described: dict[tuple[str, str], Any] = {
        ("config", ""): models.Config,
        ("recipe", ""): models.TypedMethod,
    }
    for kind in registry.PACKAGES:
        described |= {
            (kind, name): registry.head(kind, name).options
            for name in registry.names(kind)
        }
    for with_more in WITH_MORE:
        described |= {
            (with_more, name): models.entry_model(with_more, name)
            for name in registry.names(with_more)
        }
    refs, content = models_json_schema(
        [(model, "validation") for model in described.values()]
    )
    found = {key: refs[model, "validation"] for key, model in described.items()}
    definitions = content["$defs"]
    for definition in definitions.values():
        definition.pop("required", None)
    frame = _definition(definitions, found["config", ""])
    for kind, chosen_by in (("dataset", "type"), ("backbone", "loader")):
        _definition(definitions, _values(frame, f"{kind}s")).update(
            _by_name(kind, chosen_by, found)
        )
    method = _definition(definitions, _values(frame, "methods"))
    for key, ref in found.items():
        if key[0] in ("recipe", "objective", "penalty"):
            options = _definition(definitions, ref)["properties"]
            method["properties"] |= {
                name: {**o, "default": None} for name, o in options.items()
            }
    for kind in ("objective", "penalty"):
        method["properties"][kind] = {
            "anyOf": [{"enum": registry.names(kind)}, {"type": ["string", "null"]}]
        }
    for section in frame["properties"].values():
        if "patternProperties" in section:
            section["additionalProperties"] = False
    frame["properties"]["metrics"]["properties"] = {
        name: {"anyOf": [ref, {"type": "null"}]}
        for (kind, name), ref in found.items()
        if kind == "metric"
    }
    frame["properties"]["figures"]["items"] = {
        "anyOf": [{"enum": registry.names("figure")}, {"type": "string"}]
    }
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
    return mapping.get("additionalProperties") or next(
        iter(mapping["patternProperties"].values())
    )


def _by_name(kind: str, chosen_by: str, found: dict[tuple[str, str], Schema]) -> Schema:
    """What a dataset or backbone may have hangs on its entry."""
    names = registry.names(kind)
    rules = [
        {
            "if": {"properties": {chosen_by: {"const": name}}, "required": [chosen_by]},
            "then": found[kind, name],
        }
        for name in names
    ]
    about = {"anyOf": [{"enum": names}, {"type": "string"}]}
    return {"properties": {chosen_by: about}, "allOf": rules}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(_without_titles(schema()), indent=1, ensure_ascii=False) + "\n"


def write() -> None:
    """Write the schema and config/README.md."""
    write_text(PATH, text())
    write_text(README, readme())


def _without_titles(value: Any) -> Any:
    """Pydantic's titles only repeat the names of the keys."""
    if isinstance(value, dict):
        return {
            key: _without_titles(v)
            for key, v in value.items()
            if key != "title" or not isinstance(v, str)
        }
    return [_without_titles(v) for v in value] if isinstance(value, list) else value


# {section: the model of it, or of its values}
_SECTIONS: dict[str, Any] = {
    "top level": models.Config,
    "experiments": models.Experiment,
    "experiments: gallery": models.Gallery,
    "methods": models.Method,
    "training": models.RecipeEntry,
    "datasets": models.ImageDataset,
    "backbones": models.Network,
    "metrics": models.Metric,
    "claims": models.Claims,
    "compute": models.Compute,
}
_KINDS = {
    "dataset": "datasets, by `type`",
    "backbone": "backbones, by `loader`",
    "objective": "methods, by `objective`",
    "penalty": "methods, by `penalty`",
    "metric": "metrics",
    "protocol": "protocols, there and of an experiment",
}


def readme() -> str:
    """config/README.md, with new tables below `TABLES`: call it where no extensions are known."""
    parts = [README.read_text().partition(TABLES)[0] + TABLES]
    for title, model in _SECTIONS.items():
        parts += [f"\n## {title[0].upper()}{title[1:]}\n", *_table(model)]
    for kind, title in _KINDS.items():
        parts.append(f"\n## Keys of {title}\n")
        for name in registry.names(kind):
            rows = _table(registry.head(kind, name).options)
            parts += (
                [f"\n### {name}\n", *rows]
                if len(rows) > 2
                else [f"\n`{name}` has none of its own.\n"]
            )
    return "\n".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _table(model: Any) -> list[str]:
    found = model.model_json_schema()
    required, rows = (
        found.get("required", ()),
        ["| key | type | default | meaning |", "|---|---|---|---|"],
    )
    for name, about in found.get("properties", {}).items():
        default = "" if name in required else f"`{json.dumps(about.get('default'))}`"
        said = about.get("description", "").replace("\n", " ")
        cells = (f"`{name}`", _type(about, found.get("$defs", {})), default, said)
        rows.append(
            f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |".replace(
                "|  |", "| |"
            )
        )
    return rows


def _type(about: Schema, definitions: Schema) -> str:
    """A type in a few words."""
    if "$ref" in about:
        found = definitions[about["$ref"].rpartition("/")[2]]
        return _type(
            {"type": "object"} if "properties" in found else found, definitions
        )
    for every in ("anyOf", "oneOf"):
        if every in about:
            return " or ".join(
                dict.fromkeys(_type(one, definitions) for one in about[every])
            )
    if "enum" in about or "const" in about:
        return ", ".join(
            str(value) for value in about.get("enum", [about.get("const")])
        )
    if about.get("type") == "array":
        return f"list of {_type(about.get('items', {}), definitions)}"
    words = {
        "object": "mapping",
        "string": "text",
        "integer": "whole number",
        "boolean": "true or false",
        None: "any",
    }
    kind = about.get("type")
    ends = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    # What no study reaches need not be said.
    limits = [
        f"{word} {about[key]:g}"
        for key, word in ends.items()
        if key in about and about[key] < 1e15
    ]
    return " ".join([words.get(kind, str(kind)), *limits])


if __name__ == "__main__":
    start(write)
