"""Take apart the numbers of an evaluation with several estimators."""

from collections.abc import Iterator, Mapping
from typing import Any

from vaelab.evaluation.comparability import Key
from vaelab.security.redaction import presentable


def by_estimator(key: Key, metrics: Mapping[str, Any]) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Yield, for each estimator of `key`, its own key, and the metrics of the split without prefixes.

    Its own key is the same whether other estimators ran beside it or not. Its texts are redacted and printable.
    """
    prefix = f"{key['split']}/"
    of_split = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    for name, chosen in key["estimators"].items():
        own = {full.removeprefix(f"{name}/"): value for full, value in of_split.items()}
        yield presentable({**key, "estimators": {name: dict(chosen)}}), own
