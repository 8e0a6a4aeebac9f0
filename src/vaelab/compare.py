"""Compare runs or settings in pairs, example by example: `python -m vaelab.compare runs=[A,B]`.

The folders may be untrusted, and their jobs may be in any state; see `vaelab.reporting.sides`.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.files import write_atomically
from vaelab.runs.cli import command


@command("reporting/compare")
def main(cfg: DictConfig) -> None:
    """Print the comparison, and write it to `OUTPUT.md` and `OUTPUT.json`."""
    runs = list(cfg.runs) if OmegaConf.is_list(cfg.runs) else [cfg.runs]
    if not all(isinstance(each, str) and each for each in (*runs, cfg.output)):
        raise ConfigError("runs and output must be names of folders and files: type runs=[A,B] output=comparison")
    from vaelab.reporting.comparing import compare_runs  # after the checks, because it is slow to import

    found = compare_runs(runs)
    text = found.as_markdown()
    Path(cfg.output).parent.mkdir(parents=True, exist_ok=True)
    for ending, content in {"md": text, "json": found.as_json()}.items():
        write_atomically(Path(f"{cfg.output}.{ending}"), content)
    print(f"{text}\nwritten: {cfg.output}.md and {cfg.output}.json")


if __name__ == "__main__":
    main()
