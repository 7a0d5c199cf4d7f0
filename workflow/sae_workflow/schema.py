"""The JSON schema of config.yaml, and lists of its keys for people.

`python -m sae_workflow.schema` writes both. Editors complete and check config.yaml with
the schema. It is made from `sae.config.models` and the entries' `Options`. It knows the
project's own entries to the last key, and lets entries from outside (`extensions`) have
what they like. It requires no key: a file may be laid over config.yaml, and an entry
may extend another one.

Snakemake lacks it: `validate()` takes a schema, and makes none.
"""

import json
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from sae.config import models
from sae.core import registry
from sae.core.files import write_text
from sae.data.entries import ImageDatasetEntry, NetworkEntry
from sae_workflow.command_line import run_command
from sae_workflow.settings import HERE

PATH = HERE / "schemas/config.schema.json"
README = HERE.parent / "config/README.md"
# What parts README: the text above the line is written by hand.
MARK_OF_LISTS = (
    "<!-- from here on made by `make schema` from sae/config/ and the entries' "
    "Options; not to be edited -->\n"
)
# Kinds whose entries have keys beside their own options.
KINDS_WITH_MORE: tuple[Literal["dataset", "backbone", "metric"], ...] = (
    "dataset",
    "backbone",
    "metric",
)

Schema = dict[str, Any]
# A kind and the name of an entry, such as ("metric", "probe"); "" names what the config
# has but once, ("config", "") and ("recipe", "").
Described = tuple[str, str]

_CONFIG: Described = ("config", "")
_RECIPE: Described = ("recipe", "")


# The schema.


def schema() -> Schema:
    """Return the schema; call it where no extensions are known."""
    model_of = _described_models()
    references, content = models_json_schema(
        [(model, "validation") for model in model_of.values()]
    )
    # {what is described: {"$ref": its definition}}
    reference_of = {
        described: references[model, "validation"]
        for described, model in model_of.items()
    }
    definitions = content["$defs"]
    for definition in definitions.values():
        definition.pop("required", None)

    config = _definition(definitions, reference_of[_CONFIG])
    _describe_entries_by_name(config, definitions, reference_of)
    _describe_methods(config, definitions, reference_of)
    for section in config["properties"].values():
        if "patternProperties" in section:
            section["additionalProperties"] = False
    config["properties"]["metrics"]["properties"] = {
        name: {"anyOf": [reference, {"type": "null"}]}
        for (kind, name), reference in reference_of.items()
        if kind == "metric"
    }
    config["properties"]["figures"]["items"] = {
        "anyOf": [{"enum": registry.names("figure")}, {"type": "string"}]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": (
            "made by `make schema` from sae/config/ and the entries' Options; not to "
            "be edited"
        ),
        **reference_of[_CONFIG],
        "$defs": definitions,
    }


def _described_models() -> dict[Described, Any]:
    """Return the class of each thing that the schema describes."""
    model_of: dict[Described, Any] = {
        _CONFIG: models.Config,
        _RECIPE: models.TypedMethod,
    }
    for kind in registry.PACKAGES:
        for name in registry.names(kind):
            model_of[kind, name] = registry.head(kind, name).options
    for kind_with_more in KINDS_WITH_MORE:
        for name in registry.names(kind_with_more):
            model_of[kind_with_more, name] = models.entry_model(kind_with_more, name)
    return model_of


def _describe_entries_by_name(
    config: Schema, definitions: Schema, reference_of: dict[Described, Schema]
) -> None:
    """Let the keys of a dataset hang on its type, and of a backbone on its loader."""
    for kind, key in (("dataset", "type"), ("backbone", "loader")):
        names = registry.names(kind)
        rules = [
            {
                "if": {"properties": {key: {"const": name}}, "required": [key]},
                "then": reference_of[kind, name],
            }
            for name in names
        ]
        name_schema = {"anyOf": [{"enum": names}, {"type": "string"}]}
        values = _definition(definitions, _schema_of_values(config, f"{kind}s"))
        values["properties"] = {key: name_schema}
        values["allOf"] = rules


def _describe_methods(
    config: Schema, definitions: Schema, reference_of: dict[Described, Schema]
) -> None:
    """Let a method have the options of recipes, objectives and penalties."""
    method = _definition(definitions, _schema_of_values(config, "methods"))
    properties = method["properties"]
    for (kind, _), reference in reference_of.items():
        if kind in ("recipe", "objective", "penalty"):
            options = _definition(definitions, reference)["properties"]
            for name, option in options.items():
                # A method leaves out what its experiment's recipe says.
                properties[name] = {**option, "default": None}
    for kind in ("objective", "penalty"):
        properties[kind] = {
            "anyOf": [{"enum": registry.names(kind)}, {"type": ["string", "null"]}]
        }


def _definition(definitions: Schema, reference: Schema) -> Schema:
    return definitions[reference["$ref"].rpartition("/")[2]]


def _schema_of_values(config: Schema, section: str) -> Schema:
    """Return the reference to what the values of a section are."""
    mapping = config["properties"][section]
    if mapping.get("additionalProperties"):
        return mapping["additionalProperties"]
    return next(iter(mapping["patternProperties"].values()))


def schema_text() -> str:
    """Return the schema as the file holds it."""
    text = json.dumps(_without_titles(schema()), indent=1, ensure_ascii=False)
    return text + "\n"


def _without_titles(value: Any) -> Any:
    """Leave out pydantic's titles, which only repeat the names of the keys."""
    if isinstance(value, list):
        return [_without_titles(element) for element in value]
    if not isinstance(value, dict):
        return value
    # A key of the config may be called `title`; its value is no text.
    return {
        key: _without_titles(nested)
        for key, nested in value.items()
        if not (key == "title" and isinstance(nested, str))
    }


# The lists.

# {title: the model of a section of the config, or of its values}
_MODEL_OF_SECTION: dict[str, Any] = {
    "top level": models.Config,
    "experiments": models.Experiment,
    "experiments: gallery": models.Gallery,
    "methods": models.MethodEntry,
    "training": models.RecipeEntry,
    "datasets": ImageDatasetEntry,
    "backbones": NetworkEntry,
    "metrics": models.Metric,
    "claims": models.ClaimRule,
    "compute": models.Compute,
}
_TITLE_OF_KIND = {
    "dataset": "datasets, by `type`",
    "backbone": "backbones, by `loader`",
    "objective": "methods, by `objective`",
    "penalty": "methods, by `penalty`",
    "metric": "metrics",
    "protocol": "protocols, there and of an experiment",
}


def readme_text() -> str:
    """Return config/README.md with new lists below the text that is written by hand.

    Call it where no extensions are known.
    """
    parts = [README.read_text().partition(MARK_OF_LISTS)[0] + MARK_OF_LISTS]
    for title, model in _MODEL_OF_SECTION.items():
        parts += [f"\n## {title[0].upper()}{title[1:]}\n", *_list_of_keys(model)]
    for kind, title in _TITLE_OF_KIND.items():
        parts.append(f"\n## Keys of {title}\n")
        without_keys = []
        for name in registry.names(kind):
            lines = _list_of_keys(registry.head(kind, name).options)
            if lines:
                parts += [f"\n### {name}\n", *lines]
            else:
                without_keys.append(f"`{name}`")
        if without_keys:
            parts.append(f"\nNo keys of their own: {', '.join(without_keys)}.\n")
    return "\n".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _list_of_keys(model: Any) -> list[str]:
    """Return a line for each key of a model, such as "- `k` (integer; `8`): ..."."""
    model_schema = model.model_json_schema()
    required = model_schema.get("required", ())
    definitions = model_schema.get("$defs", {})
    lines = []
    for name, key_schema in model_schema.get("properties", {}).items():
        if name == "extends":
            continue  # The text above the lists says it once for all.
        in_brackets = _type_in_words(key_schema, definitions)
        if name not in required:
            default = json.dumps(key_schema.get("default"))
            if default == "null":
                # The default says that it may be null.
                in_brackets = in_brackets.removesuffix(" or null")
            in_brackets += f"; `{default}`"
        line = f"- `{name}` ({in_brackets})"
        meaning = key_schema.get("description", "").replace("\n", " ")
        if meaning:
            line += f": {meaning}"
        lines.append(line)
    return lines


_WORD_OF_TYPE = {
    "object": "mapping",
    "string": "text",
    None: "any",
}
_SIGN_OF_LIMIT = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}
# What no study reaches need not be said.
_LARGEST_LIMIT = 1e15


def _type_in_words(key_schema: Schema, definitions: Schema) -> str:
    """Return a type in a few words, such as "integer ≥ 1 or null"."""
    if "$ref" in key_schema:
        definition = _definition(definitions, key_schema)
        if "properties" in definition:
            return _WORD_OF_TYPE["object"]
        return _type_in_words(definition, definitions)
    for choice in ("anyOf", "oneOf"):
        if choice in key_schema:
            types = [
                _type_in_words(alternative, definitions)
                for alternative in key_schema[choice]
            ]
            return " or ".join(dict.fromkeys(types))
    if "enum" in key_schema:
        return ", ".join(map(str, key_schema["enum"]))
    if "const" in key_schema:
        return str(key_schema["const"])
    type_name = key_schema.get("type")
    if type_name == "array":
        element = key_schema.get("items", {})
        return f"list of {_type_in_words(element, definitions)}"
    limits = [
        f"{sign} {key_schema[key]:g}"
        for key, sign in _SIGN_OF_LIMIT.items()
        if key in key_schema and key_schema[key] < _LARGEST_LIMIT
    ]
    word = _WORD_OF_TYPE.get(type_name, str(type_name))
    return f"{word} {', '.join(limits)}".rstrip()


def write() -> None:
    """Write the schema and config/README.md."""
    write_text(PATH, schema_text())
    write_text(README, readme_text())


if __name__ == "__main__":
    run_command(write)
