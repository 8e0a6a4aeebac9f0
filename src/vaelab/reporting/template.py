"""What all pages share: how a template is rendered, its frame, its styles and its theme."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ASSETS = Path(__file__).parent / "assets"


def environment(*folders: Path) -> Environment:
    """Return the templates in these folders and in `assets`; they escape what they show."""
    return Environment(
        loader=FileSystemLoader([*folders, ASSETS]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
