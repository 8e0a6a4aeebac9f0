"""A group of estimators of log p(x), whose results should agree."""

from collections.abc import Iterator

from vaelab.estimators.base import Estimator


class Several:
    """Several estimators by name, run one after another.

    Args:
        estimators: the estimators by name.

    Raises:
        ValueError: there is none, or one is not an `Estimator`.

    Examples:
        >>> from vaelab.estimators import ImportanceSampling
        >>> [name for name, _, refusal in Several(iwae=ImportanceSampling()).for_latent(2) if refusal is None]
        ['iwae']
    """

    name = "all"

    def __init__(self, **estimators: Estimator) -> None:
        wrong = [name for name, estimator in estimators.items() if not isinstance(estimator, Estimator)]
        if wrong or not estimators:
            raise ValueError(f"expected estimators by name, found {', '.join(wrong) or 'none'}")
        self.estimators = estimators

    def for_latent(self, latent_dim: int) -> Iterator[tuple[str, Estimator, str | None]]:
        """Yield each name and estimator, and why it does not work for a latent of this size, or None."""
        for name, estimator in self.estimators.items():
            yield name, estimator, estimator.refusal(latent_dim)
