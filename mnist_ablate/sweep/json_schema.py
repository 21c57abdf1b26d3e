"""The JSON schema of sweep files, for editors: from the models, the designs and the workload; validates nothing."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel

from mnist_ablate.sweep.claim import Claim, kind_named, kind_names
from mnist_ablate.sweep.designs import CONFIGURATION, DESIGNS, SECTIONS, Design
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.workloads.workload import default_workload

Schema: TypeAlias = dict[str, Any]  # as pydantic makes it
_OF_OWN_CODE = ("settings", "metrics", "choose_by", "code", "timeout_s")
"""The keys that say nothing of the settings and metrics of our own workload."""


def schema() -> Schema:
    """The schema of a sweep file: its keys, types, ranges and choices, what each means, and what a design needs."""
    workload = default_workload()
    made = _schema_of(Sweep)
    own, models = made["properties"], made["$defs"]
    kinds = {name: _claim(kind_named(name).keys) for name in kind_names() if name != "compare"}
    for model in models.values():
        model.pop("description", None)  # a docstring, which speaks of Python
    settings: Schema = _schema_of(workload.settings)["properties"]
    _replace(settings, {setting: _names(names) for setting, names in workload.choices.items()})
    values = {key: _ref(key) for key in settings}
    lists = {key: {"type": "array", "minItems": 1, "uniqueItems": True, "items": each} for key, each in values.items()}
    choices = {key: {"anyOf": [each, _ref("Range")]} for key, each in lists.items()}
    del own["name"], own["found_settings"]
    ours = dict.fromkeys(("baseline", "fixed", "target"), _ref("Arm")) | {
        "scientific": _mapping(lists),
        "nuisance": _mapping(choices),
        "conditions": {"type": "object", "additionalProperties": _mapping(lists)},
        "configurations": {"type": "object", "additionalProperties": _ref("Arm")},
        "claims": {"items": _ref("KnownClaim")},
    }
    changed: dict[str, Schema] = {
        "claims": {"type": "array", "items": {"allOf": [_by_kind(name) for name in ("compare", *kinds)]}},
        "nuisance": {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": "array", "minItems": 1, "uniqueItems": True}, _ref("Range")]},
        },
        "settings": {"type": "object", "additionalProperties": _ref("Setting")},
        "metrics": {"type": "object", "additionalProperties": _ref("MetricDeclaration")},
        "vary": {"minItems": 1, "uniqueItems": True, **own["vary"]},
        "seeds": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1000}, _ref("SeedRange")]},
        "design": _names({name: str(design.__doc__) for name, design in DESIGNS.items()}),
    }
    _replace(own, changed)
    sides: dict[str, Schema] = dict.fromkeys(("treatment", "control", "where", "versus"), _ref("Side"))
    metrics = _names({name: metric.meaning for name, metric in workload.metrics.items()})
    some: dict[str, Schema] = {key: {"type": "object", "minProperties": 1} for key in sides}
    _replace(models["Claim"]["properties"], {**some, "reference": {"type": "number"}})
    models["Claim"] |= {
        "oneOf": [{"required": ["control"]}, {"required": ["reference"]}],
        "dependencies": {"versus": ["where", "control"]},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",  # the newest that every editor's YAML extension reads
        "title": "mnist-ablate sweep",
        "type": "object",
        "required": ["question", "seeds"],
        "additionalProperties": False,
        "properties": own,
        "allOf": [
            *(_of(design) for design in DESIGNS.values()),
            {
                "if": {"required": ["train"]},
                "then": {"properties": {"vary": False}},
                "else": {"properties": dict.fromkeys(_OF_OWN_CODE, False)},
            },
            {  # names of the user's own are only known to the file that has them
                "if": {"anyOf": [{"required": ["train"]}, {"required": ["choices"]}]},
                "else": {"properties": ours},
            },
        ],
        "definitions": {
            **models,
            **{f"Claim-{name}": model for name, model in kinds.items()},
            "KnownClaim": {"properties": {**sides, "metric": metrics}},
            "Arm": _mapping(values),
            "Side": {**_mapping({**values, CONFIGURATION: {"type": "string"}}), "minProperties": 1},
            **settings,
        },
    }


def _claim(keys: type[Claim]) -> Schema:
    """The keys of a kind of claim."""
    made = _schema_of(keys)
    for key in keys.never:
        made["properties"].pop(key, None)
    return {key: value for key, value in made.items() if key != "description"}


def _by_kind(name: str) -> Schema:
    """A claim that names a kind has its keys; one that names none is a comparison."""
    is_it: Schema = {"properties": {"kind": {"const": name}}}
    if name == "compare":
        return {"if": is_it, "then": _ref("Claim")}
    return {"if": {**is_it, "required": ["kind"]}, "then": _ref(f"Claim-{name}")}


def _schema_of(model: type[BaseModel]) -> Schema:
    """The model's, without the titles that pydantic makes of names in Python."""

    def untitled(each: Schema) -> Schema:
        return {key: item for key, item in each.items() if key != "title" or isinstance(item, dict)}

    found: Schema = json.loads(json.dumps(model.model_json_schema()), object_hook=untitled)
    return found


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _mapping(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _names(meanings: Mapping[str, str]) -> Schema:
    """One of several names, each with what it means."""
    return {"enum": list(meanings), "markdownEnumDescriptions": list(meanings.values())}


def _replace(properties: Schema, replacements: Mapping[str, Schema]) -> None:
    """Replace schemas but not their descriptions; a reference, which admits nothing beside it, is wrapped."""
    for key, about in replacements.items():
        described = {"description": properties[key]["description"]}
        properties[key] = {**described, **({"allOf": [about]} if "$ref" in about else about)}


def _of(design: Design) -> Schema:
    """What a file of a design needs and cannot have. The default design need not be written."""
    is_default = design.name == Sweep.model_fields["design"].default
    when = {"properties": {"design": {"const": design.name}}, **({} if is_default else {"required": ["design"]})}
    tuned = {"required": ["tuning_trials"], "properties": {"tuning_trials": {"minimum": 1}}}
    defaults = {section: Sweep.model_fields[section].default for section in SECTIONS if section not in design.sections}
    never = {section: False if default == {} else {"const": default} for section, default in defaults.items()}
    found = {"properties": never, "dependencies": dict.fromkeys(design.tried_sections, tuned)}
    if design.needs:
        found["required"] = list(design.needs)
    if design.searches:
        found["anyOf"] = [{"required": [section]} for section in design.tried_sections]
    return {"if": when, "then": found}
