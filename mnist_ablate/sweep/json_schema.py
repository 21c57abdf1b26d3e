"""The JSON schema of sweep files, for editors: made from the models and the choices; validates nothing itself."""

from typing import Any

from mnist_ablate.sweep.sweep import METRICS, Sweep
from mnist_ablate.workloads.workload import default_workload

Schema = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest that every editor's YAML extension reads."""

MEANINGS = {
    "question": "What the sweep asks, in a sentence.",
    "source": "Where the claim was read; free text.",
    "design": "Which arms are run: all combinations, the baseline and single changes, named ones, a search, or a path.",
    "baseline": "The usual value of each scientific factor.",
    "scientific": "What the question is about: each factor with the values to compare.",
    "configurations": "Named arms, for design: configurations.",
    "target": "Where an ablation path ends that begins at the baseline: the same settings with other values.",
    "nuisance": "What is tuned for every arm alike, on validation data: a range, or a list of values.",
    "tuning_trials": "How many trials tune each arm, or search.",
    "as_written": "Whether the recipe is judged at its fixed values too, beside the tuned ones.",
    "conditions": "Of a searched factor: the values of other factors where it has a meaning and is searched.",
    "pruning": "Whether a search stops trials early: below the median, or not promoted by successive halving (asha).",
    "fixed": "Every setting that stays the same; what is not named has its default. Each is a caveat.",
    "seeds": "How many times each arm is trained; 6 at least for one claim. Or min and max: more while one is open.",
    "min": "Seeds for every arm at first.",
    "max": "Seeds at most, for the arms of claims that stay open.",
    "negative_control": "baseline trains it again with other seeds and compares the two, if there are claims; or none.",
    "claims": "What is claimed, and what would count as an effect.",
    "name": "A short name for tables.",
    "statement": "The claim, in a sentence.",
    "treatment": "The arm that the claim is about.",
    "control": "The arm it is compared with.",
    "reference": "In place of control: the number that is claimed.",
    "where": "Values of other factors; a factor that is not named is averaged over.",
    "versus": "In place of where in a second difference that is subtracted: claims an interaction.",
    "metric": "What is compared.",
    "direction": "lower, higher: an effect beyond the margin. not_lower, not_higher: none. same: none either way.",
    "margin": "The smallest difference that matters, 0.002 is 0.2 percentage points. Fix it before the first run.",
    "positive_control": "Whether the claim is known to hold: if the sweep does not find it, the report says so first.",
    "low": "The lowest value to try.",
    "high": "The highest value to try.",
    "log": "Choose log-uniformly, as a learning rate wants.",
    "integer": "Whole numbers only.",
    "model": "The network.",
    "activation": "The activation of hidden layers.",
    "normalizer": "What is done to the pixels, 0 to 255.",
    "optimizer": "The optimizer.",
    "learning_rate": "The learning rate; 0 stands for the optimizer's default.",
    "dropout": "The fraction of hidden units dropped.",
    "norm_layer": "The layer between a hidden layer and its activation.",
    "initializer": "How kernels are drawn.",
    "weights": "The weights of a frozen base; a model without one has none.",
    "width": "Units of a hidden layer.",
    "batch_size": "Images per step.",
    "epochs": "Passes over the 42,000 training images.",
}
"""Every key of a sweep file, in one line."""


def schema() -> Schema:
    """The schema of a sweep file: its keys, types, ranges, choices, and what each design needs."""
    made = _plain(Sweep.model_json_schema())
    claim, interval = made["$defs"]["Claim"], made["$defs"]["Range"]
    settings, own = _settings(), made["properties"]
    values = {key: _ref(key) for key in settings}
    lists = {key: {"type": "array", "minItems": 1, "uniqueItems": True, "items": each} for key, each in values.items()}
    choices = {key: {"anyOf": [each, _ref("Range")]} for key, each in lists.items()}
    own["baseline"] = own["fixed"] = own["target"] = _ref("Arm")
    own["scientific"], own["nuisance"] = _mapping(lists), _mapping(choices)
    own["conditions"] = {"type": "object", "additionalProperties": _mapping(lists)}
    own["configurations"] = {"type": "object", "additionalProperties": _ref("Arm")}
    own["claims"] = {"type": "array", "items": _ref("Claim")}
    seeds = made["$defs"]["SeedRange"]
    own["seeds"] = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1000}, _ref("SeedRange")]}
    sides = claim["properties"]
    sides |= dict.fromkeys(("treatment", "control", "where", "versus"), _ref("Side"))
    sides["reference"] = {"type": "number"}
    sides["metric"] = {"enum": list(METRICS)}
    del own["name"]
    return {
        "$schema": DIALECT,
        "title": "mnist-ablate sweep",
        "type": "object",
        "required": ["question", "seeds"],
        "additionalProperties": False,
        "properties": _described(own),
        **_designs(),
        "definitions": {
            "Claim": {
                **claim,
                "properties": _described(sides),
                "oneOf": [{"required": ["control"]}, {"required": ["reference"]}],
                "dependencies": {"versus": ["where", "control"]},
            },
            "Range": {**interval, "properties": _described(interval["properties"])},
            "SeedRange": {**seeds, "properties": _described(seeds["properties"])},
            "Arm": _mapping(values),
            "Side": {**_mapping({**values, "configuration": {"type": "string"}}), "minProperties": 1},
            **settings,
        },
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _mapping(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _settings() -> Schema:
    """The values of each setting of a recipe."""
    found: Schema = _plain(default_workload().settings.model_json_schema())["properties"]
    for axis, entries in default_workload().choices.items():
        found[axis] = {"enum": list(entries), "markdownEnumDescriptions": [*entries.values()]}
    return _described(found)


def _designs() -> Schema:
    """What each design needs and cannot have."""

    def when(design: str) -> Schema:
        return {"required": ["design"], "properties": {"design": {"const": design}}}

    tuned = {"required": ["tuning_trials"], "properties": {"tuning_trials": {"minimum": 1}}}
    named = {"required": ["configurations"], "not": {"anyOf": [_has("scientific"), _has("baseline")]}}
    searched = {"anyOf": [_has("scientific"), _has("nuisance")], **tuned}
    by_design = {"if": when("configurations"), "then": named, "else": {"not": _has("configurations")}}
    others = [when("configurations"), when("ablation_path"), _has("scientific")]
    rest = {"if": when("search"), "then": searched, "else": {"anyOf": others}}
    around = [{"if": when(design), "then": _has("baseline")} for design in ("one_factor", "leave_one_out")]
    path = {"required": ["baseline", "target"], "not": {"anyOf": [_has("scientific"), _has("nuisance")]}}
    around.append({"if": when("ablation_path"), "then": path, "else": {"not": _has("target")}})
    return {"dependencies": {"nuisance": tuned}, "allOf": [by_design, rest, *around]}


def _has(section: str) -> Schema:
    return {"required": [section]}


def _described(properties: Schema) -> Schema:
    """The same, each with its meaning; a reference, which admits nothing beside it, as the whole of one."""
    return {
        key: {"description": MEANINGS[key], **({"allOf": [about]} if "$ref" in about else about)}
        for key, about in properties.items()
    }


def _plain(value: Any) -> Any:
    """The same without the titles and descriptions that pydantic makes of names in Python."""
    if isinstance(value, dict):
        return {
            key: _plain(item)
            for key, item in value.items()
            if not (key in ("title", "description") and isinstance(item, str))
        }
    return [_plain(item) for item in value] if isinstance(value, list) else value
