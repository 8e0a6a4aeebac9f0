"""Time importance sampling on MNIST's test digits, beside the matrix products that it needs at least.

    python benchmarks/evaluation.py [--examples 10000] [--num-samples 5000] [--threads 2] [--device cuda]

The model is a 784-200-50-200-784 VAE with a Bernoulli decoder. Its weights are random, because neither time nor memory
depends on them. The digits are read from VAELAB_DATA_DIR (default: data); without them the embedded mnist5k is used,
and the table says so. For each block of examples, `vaelab.estimators.ImportanceSampling` is timed, and so are the
decoder's matrix products for as many samples: `z @ W1` and `h @ W2`, in parts of `--part` rows, into preallocated
memory. The table has the seconds for all examples, the ratio of the two over blocks (median, lowest to highest), and
the process's peak memory. It is printed and written to `--out` as evaluation.md, with evaluation.json. `--examples 500`
suffices for the ratio.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from digits import digits
from report import line, machine, ratio
from torch import Tensor
from worker import now, peaks

from vaelab.estimators import ImportanceSampling
from vaelab.heads import Bernoulli, DiagonalGaussian
from vaelab.networks import MLP
from vaelab.priors import StandardNormal
from vaelab.vae import VAE, Conditional

PIXELS, HIDDEN, LATENT = 784, 200, 50


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000, help="at most (default 10000)")
    parser.add_argument("--num-samples", type=int, default=5000, help="K (default 5000)")
    parser.add_argument("--block", type=int, default=100, help="examples at once (default 100)")
    parser.add_argument("--part", type=int, default=500, help="rows of a product at once (default 500; 50000 on a GPU)")
    parser.add_argument("--max-batch-elements", type=int, default=ImportanceSampling.max_batch_elements)
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU (default: PyTorch's choice)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU")
    return options


def model(device: str) -> VAE:
    image, mlp = (1, 28, 28), partial(MLP, hidden_features=HIDDEN)
    encoder = Conditional(image, (LATENT,), mlp, DiagonalGaussian)
    decoder = Conditional((LATENT,), image, mlp, Bernoulli)
    return VAE(encoder, decoder, StandardNormal((LATENT,), image)).to(device).eval()


def multiply(rows: int, part: int, device: str) -> None:
    """Compute the decoder's matrix products for `rows` samples, `part` at a time."""
    z, w1, w2 = (torch.randn(shape, device=device) for shape in [(part, LATENT), (LATENT, HIDDEN), (HIDDEN, PIXELS)])
    h, y = torch.empty(part, HIDDEN, device=device), torch.empty(part, PIXELS, device=device)
    for start in range(0, rows, part):
        some = slice(min(part, rows - start))
        torch.mm(z[some], w1, out=h[some])
        torch.mm(h[some], w2, out=y[some])


def time_blocks(blocks: list[Tensor], options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of each block. The order alternates, so that a drift of the machine favours neither."""
    vae = model(options.device)
    estimator = ImportanceSampling(options.num_samples, options.max_batch_elements)
    part = max(options.part, 50_000) if options.device == "cuda" else options.part
    found: dict[str, list[float]] = {"importance": [], "products": []}
    with torch.no_grad():
        ImportanceSampling(min(options.num_samples, 200))(vae, blocks[0])  # warms up
        multiply(part, part, options.device)
        for i, x in enumerate(blocks):
            jobs = {
                "importance": partial(estimator, vae, x),
                "products": partial(multiply, len(x) * options.num_samples, part, options.device),
            }
            for name in list(jobs)[:: -1 if i % 2 else 1]:
                start = now(options.device)
                jobs[name]()
                found[name].append(now(options.device) - start)
    return found


def table(data: str, examples: int, seconds: dict[str, list[float]], options: argparse.Namespace) -> str:
    where, memory = machine(options.device), peaks()
    gpu = f"; {memory['cuda_mib']:.0f} MiB on the GPU" if options.device == "cuda" else ""
    importance, products = seconds["importance"], seconds["products"]
    lines = [
        f"{where.get('gpu', where['cpu'])}, {torch.get_num_threads()} threads, PyTorch {where['torch']}; "
        f"{examples} test digits of {data}, K = {options.num_samples}, in blocks of {options.block}",
        "",
        line(["", "seconds", "ratio to the products"]),
        line(["---", "---:", "---:"]),
        line(["importance sampling", f"{sum(importance):.3g}", ratio(importance, products)]),
        line(["matrix products alone", f"{sum(products):.3g}", ratio(products, products)]),
        "",
        f"Peak memory: {memory['resident_mib']:.0f} MiB{gpu}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    options = parse()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    name, data = digits()
    data.serve("binary")
    data.to(torch.device(options.device))
    indices = torch.arange(len(data.split["test"]))[: options.examples]
    blocks = [data.draw("test", some) for some in indices.split(options.block)]
    seconds = time_blocks(blocks, options)
    text = table(name, len(indices), seconds, options)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "evaluation.md").write_text(text)
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    label = f"importance sampling, K = {options.num_samples}"
    ratios = {label: [a / b for a, b in zip(seconds["importance"], seconds["products"], strict=True)]}
    about = {"machine": machine(options.device), "data": name, "settings": settings}
    record = {**about, "ratios": ratios, "seconds": seconds, **peaks()}
    (options.out / "evaluation.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
