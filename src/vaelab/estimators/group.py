"""A group of estimators of log p(x), whose results should agree."""

from vaelab.estimators.base import Estimator


class Several:
    """Several estimators by name, run one after another.

    Args:
        estimators: the estimators by name.

    Raises:
        ValueError: there is none, or one is not an `Estimator`.
    """

    name = "all"

    def __init__(self, **estimators: Estimator) -> None:
        wrong = [name for name, estimator in estimators.items() if not isinstance(estimator, Estimator)]
        if wrong or not estimators:
            raise ValueError(f"expected estimators by name, found {', '.join(wrong) or 'none'}")
        self.estimators = estimators
