"""Which choices of `conf/` make a model together, and why others do not."""

import itertools
import random
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from vaelab.errors import ConfigError
from vaelab.runs.configuration import CONF
from vaelab.runs.model import SMALL, build_objective, model_for
from vaelab.runs.resolvers import register_resolvers

GROUPS = ("model", "network", "encoder", "decoder", "prior", "objective")
Choices = dict[str, str]  # the name of a YAML for each of some groups

register_resolvers()


def choices(group: str) -> list[str]:
    """Return the names of a group's YAMLs."""
    return sorted(path.stem for path in (Path(CONF) / group).glob("*.yaml"))


@cache
def composed(*overrides: str) -> DictConfig:
    """Return the configuration of small models for these overrides."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", ["data=digits", "hidden_features=8", *overrides])


def configuration(chosen: Mapping[str, str]) -> DictConfig:
    """Return the configuration with these choices, and the defaults elsewhere. Compose each choice only once."""
    cfg = composed().copy()
    with open_dict(cfg):
        for group, name in chosen.items():
            cfg[group] = composed(f"{group}={name}")[group]
    return cfg


def refusal(chosen: Mapping[str, str]) -> str | None:
    """Return why these choices, and the defaults elsewhere, make no model with an objective; None if they do."""
    cfg = configuration(chosen)
    try:
        build_objective(cfg.objective, 1, model_for(cfg, SMALL))
    except (ConfigError, ValueError) as error:
        return str(error)
    return None


@cache
def companions(group: str, name: str) -> tuple[tuple[str, str], ...]:
    """Return the choice that this one needs instead of a default, or nothing. A discrete latent needs its own prior."""
    if refusal({group: name}) is None:
        return ()
    order = sorted(GROUPS, key=lambda other: other not in ("encoder", "prior"))  # they share the latent
    others = [(other, choice) for other in order if other != group for choice in choices(other)]
    return (next(pair for pair in others if refusal({group: name, pair[0]: pair[1]}) is None),)


def with_companions(*pairs: tuple[str, str]) -> Choices:
    """Return these choices with what each of them needs. A choice that is given stays."""
    return dict([needed for pair in pairs for needed in companions(*pair)]) | dict(pairs)


def pairs() -> Iterator[tuple[tuple[str, str], Choices]]:
    """Yield all pairs of choices from two groups, as typed, and with what they need."""
    for group, other in itertools.combinations(GROUPS, 2):
        for name, choice in itertools.product(choices(group), choices(other)):
            chosen = with_companions((group, name), (other, choice))
            yield (f"{group}={name}", f"{other}={choice}"), chosen


def drawn(seed: int) -> Choices:
    """Draw a choice for every group until they make a model together."""
    rng = random.Random(seed)
    while True:
        chosen = {group: rng.choice(choices(group)) for group in GROUPS}
        if refusal(chosen) is None:
            return chosen


def refused_table() -> str:
    """Return a table of the pairs that are refused, each reason once."""
    refused: dict[str, list[tuple[str, str]]] = {}
    for pair, chosen in pairs():
        if reason := refusal(chosen):
            refused.setdefault(reason, []).append(pair)
    lines = ["| these do not go together | because |", "|---|---|"]
    for reason, found in refused.items():
        most = max((choice for pair in found for choice in pair), key=lambda choice: sum(choice in p for p in found))
        with_most = [next(choice for choice in pair if choice != most) for pair in found if most in pair]
        rest = [" with ".join(f"`{choice}`" for choice in pair) for pair in found if most not in pair]
        cells = [f"`{most}` with {', '.join(f'`{choice}`' for choice in with_most)}", *rest]
        lines.append(f"| {'; '.join(cells)} | {reason} |".replace("q(z|x)", r"q(z\|x)"))
    return "\n".join(lines)
