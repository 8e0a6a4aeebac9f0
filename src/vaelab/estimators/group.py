"""Several estimators of the same number, which ought to agree."""

from collections.abc import Iterator

from vaelab.estimators.base import Estimator


class Several:
    """Estimators by name, in an order. Those that are not for a model are left out, with the reason.

    Args:
        estimators: name to estimator.

    Raises:
        ValueError: none, or something that is no estimator.
    """

    name = "all"

    def __init__(self, **estimators: Estimator) -> None:
        wrong = [name for name, estimator in estimators.items() if not isinstance(estimator, Estimator)]
        if wrong or not estimators:
            raise ValueError(f"expected estimators by name, found {', '.join(wrong) or 'none'}")
        self.estimators = estimators

    def for_latent(self, latent_dim: int) -> Iterator[tuple[str, Estimator, str | None]]:
        """Name, estimator, and why it is not for a latent of this size, if so."""
        for name, estimator in self.estimators.items():
            yield name, estimator, estimator.refusal(latent_dim)
