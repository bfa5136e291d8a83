"""The algorithms of torch.optim that `optimizer=torch` offers, and their settings. Torch-free: a wrong name
or value is answered before torch is imported.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from deeplabx.config.fields import range_words
from deeplabx.errors import ConfigError, nearest, printable, quoted


class Rule(NamedTuple):
    """What a setting can be: numbers of a range, as many as `length`; or, for `flag`, true or false."""

    bounds: Mapping[str, float] = {}
    length: int | None = None  # of a list; None: a single value
    flag: bool = False

    @property
    def words(self) -> str:
        if self.flag:
            return "true or false"
        said = range_words(self.bounds)
        if self.length is not None:
            return f"a list of {self.length} numbers, each {said}"
        return f"a number that is {said}"

    def allows(self, value: Any) -> bool:
        if self.flag:
            return isinstance(value, bool)
        values = [value] if self.length is None else value
        if not isinstance(values, list) or (self.length is not None and len(values) != self.length):
            return False
        return all(is_number(one) and within(one, self.bounds) for one in values)


def is_number(value: Any) -> bool:
    """Whether it is one that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # of a whole number of more than 308 digits
        return False


def within(value: float, bounds: Mapping[str, float]) -> bool:
    return (
        value >= bounds.get("at_least", -math.inf)
        and value > bounds.get("above", -math.inf)
        and value <= bounds.get("at_most", math.inf)
        and value < bounds.get("below", math.inf)
    )


FLAG = Rule(flag=True)
POSITIVE, NOT_NEGATIVE = Rule({"above": 0}), Rule({"at_least": 0})
SHARE = Rule({"at_least": 0, "below": 1})
ADAM = {"betas": Rule({"at_least": 0, "below": 1}, length=2), "eps": NOT_NEGATIVE}
# By name: the settings beside optimizer.lr and optimizer.weight_decay.
ALGORITHMS: dict[str, dict[str, Rule]] = {
    "ASGD": {"lambd": NOT_NEGATIVE, "alpha": NOT_NEGATIVE, "t0": NOT_NEGATIVE},
    "Adadelta": {"rho": Rule({"at_least": 0, "at_most": 1}), "eps": NOT_NEGATIVE},
    "Adafactor": {
        "beta2_decay": Rule({"at_most": 0}),
        "eps": Rule({"above": 0}, length=2),
        "d": Rule({"at_least": 1}),
    },
    "Adagrad": {"lr_decay": NOT_NEGATIVE, "initial_accumulator_value": NOT_NEGATIVE, "eps": NOT_NEGATIVE},
    "Adam": {**ADAM, "amsgrad": FLAG, "decoupled_weight_decay": FLAG},
    "AdamW": {**ADAM, "amsgrad": FLAG},
    "Adamax": ADAM,
    "NAdam": {**ADAM, "momentum_decay": NOT_NEGATIVE, "decoupled_weight_decay": FLAG},
    "RAdam": {**ADAM, "decoupled_weight_decay": FLAG},
    "RMSprop": {"alpha": SHARE, "eps": NOT_NEGATIVE, "momentum": SHARE, "centered": FLAG},
    "Rprop": {"etas": Rule({"above": 0}, length=2), "step_sizes": Rule({"above": 0}, length=2)},
    "SGD": {"momentum": SHARE, "dampening": SHARE, "nesterov": FLAG},
}
# PyTorch's default learning rates, with which the run doctor compares optimizer.lr. Those of Rprop and SGD
# say little: the first uses it in one step only, and that of the second depends on the data.
USUAL_LR = {
    "ASGD": 1e-2,
    "Adadelta": 1.0,
    "Adafactor": 1e-2,
    "Adagrad": 1e-2,
    "Adam": 1e-3,
    "AdamW": 1e-3,
    "Adamax": 2e-3,
    "NAdam": 2e-3,
    "RAdam": 1e-3,
    "RMSprop": 1e-2,
}
REFUSED = {
    "LBFGS": "it computes the loss of a batch several times in each step",
    "SparseAdam": "it takes sparse gradients, which these networks do not have",
    "Muon": "it takes matrices only, not the four-dimensional kernels of convolutions",
}
OWN_SETTINGS = {"lr": "optimizer.lr", "weight_decay": "optimizer.weight_decay"}


def check_algorithm(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for an algorithm that is not offered, and for a setting that it does not have or
    that is out of range.
    """
    if name in REFUSED:
        raise ConfigError(
            f"optimizer.algorithm={name} cannot be used: {REFUSED[name]}",
            hint=f"optimizer.algorithm can be {', '.join(ALGORITHMS)}",
        )
    if name not in ALGORITHMS:
        raise ConfigError(
            f"optimizer.algorithm={printable(name, 60)} is not offered.{nearest(name, ALGORITHMS)}",
            hint=f"optimizer.algorithm can be {', '.join(ALGORITHMS)}",
        )
    rules = ALGORITHMS[name]
    for key, value in settings.items():
        if key in OWN_SETTINGS:
            raise ConfigError(
                f"optimizer.settings.{key} is {OWN_SETTINGS[key]} here", hint="set that instead"
            )
        if key not in rules:
            raise ConfigError(
                f"optimizer.settings.{printable(str(key), 60)} is not a setting of {name}."
                f"{nearest(str(key), rules)}",
                hint=f"{name} has {', '.join(rules)}",
            )
        if not rules[key].allows(value):
            raise ConfigError(f"optimizer.settings.{key}={quoted(value)} is not {rules[key].words}")
