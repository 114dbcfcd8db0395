"""Objectives and metrics, which know no Keras, as JSON in Keras' configs and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import keras

from rankloss._metrics import AveragePrecision, AveragePrecisionAtR, RecallAtK, RPrecision
from rankloss.objectives import Blockwise, FastAP, SmoothAP, SupCon

_OURS = {
    kind.__name__: kind
    for kind in (
        AveragePrecision,
        AveragePrecisionAtR,
        Blockwise,
        FastAP,
        RPrecision,
        RecallAtK,
        SmoothAP,
        SupCon,
    )
}


def to_config(value: Any) -> dict[str, Any]:
    """The name of an objective's or metric's class, and its options; those that are such values, too, likewise."""
    options = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
    return {
        "kind": keras.saving.get_registered_name(type(value)),
        "options": {
            name: to_config(option) if is_dataclass(option) else option for name, option in options.items()
        },
    }


def from_config(config: Any) -> Any:
    """The objective or metric of a config; anything else as it is."""
    if not (isinstance(config, dict) and config.keys() == {"kind", "options"}):
        return config
    kind = keras.saving.get_registered_object(config["kind"], module_objects=_OURS)
    if kind is None:
        raise ValueError(
            f"the config names {config['kind']!r}, which rankloss does not have: decorate your class with "
            "keras.saving.register_keras_serializable(), before saving and before loading"
        )
    return kind(**{name: from_config(option) for name, option in config["options"].items()})
