"""Variational auto-encoders with one likelihood or many, after Kingma & Welling (2014). Numbers are nats per example.

In Python or a notebook:

```python
import vaelab

run = vaelab.fit("data=mnist5k latent_dim=2")  # train, or complete what began; a finished run returns at once
run = vaelab.load("logs/runs/NAME")            # open a run folder, also a stranger's
x = run.data.draw("test", range(16))           # pixels as the decoder models them
z = run.vae.encode(x).mean                     # encoder and decoder return torch.distributions
runs = vaelab.run_sweep("decoder=bernoulli,mixture_of_bernoullis seed=range(2)")
vaelab.compare_runs(runs)                      # who is better, by how much, and how sure that is
```

On a command line, each with `--help`: `python -m vaelab.train`, `evaluate`, `explore`, `list`, `compare`, `report`,
`dashboard` and `export`.

The parts are plain PyTorch, and can be used alone:

| package | holds |
|---|---|
| `vaelab.vae` | `Conditional`, p(event \\| context); `VAE`, which joins two of these and a prior |
| `vaelab.hierarchical` | a VAE with several stochastic layers |
| `vaelab.heads` | likelihoods and posteriors: from a network's features to a distribution |
| `vaelab.networks` | from a context to features |
| `vaelab.priors` | p(z), fixed or learnt |
| `vaelab.distributions` | densities and masses that `torch.distributions` lacks or gets wrong in float32 |
| `vaelab.objectives` | what training minimises |
| `vaelab.estimators` | estimates of log p(x) |
| `vaelab.data` | data sets, verified and split |
| `vaelab.errors` | what is raised if an input is wrong |

Importing `vaelab` imports none of this, no PyTorch and no Lightning; a name is imported at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelab import data, distributions, errors, estimators, heads, hierarchical, networks, objectives, priors, vae
    from vaelab.api import Compared, Curve, Run, Runs, compare_runs, fit, load, run_sweep

    __version__: str

__all__ = [
    "Compared",
    "Curve",
    "Run",
    "Runs",
    "compare_runs",
    "data",
    "distributions",
    "errors",
    "estimators",
    "fit",
    "heads",
    "hierarchical",
    "load",
    "networks",
    "objectives",
    "priors",
    "run_sweep",
    "vae",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("vaelab")
    if name in __all__:
        is_module = import_module("importlib.util").find_spec(f"vaelab.{name}") is not None
        found = import_module(f"vaelab.{name}") if is_module else getattr(import_module("vaelab.api"), name)
        globals()[name] = found  # not asked for again
        return found
    raise AttributeError(f"module 'vaelab' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
