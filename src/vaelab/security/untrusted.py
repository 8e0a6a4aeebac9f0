"""Read files that anybody may have written: only regular files of bounded size, and only as plain data."""

import os
import reprlib
import stat
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import yaml

from vaelab.errors import RunFolderError

CONFIG_LIMIT = 2**20  # bytes; vaelab writes a few thousand
JSON_LIMIT = 2**22
DEPTH_LIMIT = 32
NODE_LIMIT = 20_000  # keys and values; each takes about a thousand bytes while it is read
LARGEST = 2**63
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80


def opened(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        FileNotFoundError: there is no file.
        RunFolderError: the path is a link, a folder, a pipe or a device, or the file may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except OSError as error:
        reason = "is a link, expected a file" if path.is_symlink() else f"cannot be opened ({error.strerror})"
        raise RunFolderError(f"{path} {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RunFolderError(f"{path} is a folder, a pipe or a device, expected a file")
    return os.fdopen(descriptor, "rb")


def read_text(path: Path, limit: int) -> str:
    """Read a text file of at most `limit` bytes.

    Raises:
        FileNotFoundError: there is no file.
        RunFolderError: see `opened`; or the file is larger than `limit`.
        ValueError: the text is not UTF-8.
    """
    with opened(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise RunFolderError(f"{path} holds more than {limit:,} bytes, more than vaelab writes")
    return content.decode("utf-8")


def shown(value: Any) -> str:
    """Return an untrusted value as text for a message: at most 80 characters, without control characters."""
    text = value if isinstance(value, str) and value.isprintable() else _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if there is none."""
    lines = str(error).splitlines()
    return lines[0][:300] if lines and lines[0].isprintable() else type(error).__name__


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # pyright: ignore[reportGeneralTypeIssues]
    """Loads plain YAML. Refuses duplicate keys, keys that are not strings, and huge numbers; a date is a string."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, form) for tag, form in resolvers if tag.endswith(("null", "bool", "int", "float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        for key in mapping:
            if not isinstance(key, str):
                raise yaml.YAMLError(f"it has the key {shown(key)}, expected a string")
        if len(mapping) != len(node.value):
            ((twice, _),) = Counter(key.value for key, _ in node.value).most_common(1)
            raise yaml.YAMLError(f"it has the key {shown(twice)} twice")
        return mapping

    def construct_whole_number(self, node: Any) -> int:
        # with colons the number would be read in base 60, in quadratic time
        small = ":" not in node.value and len(node.value) <= 40
        number = self.construct_yaml_int(node) if small else LARGEST
        if not -LARGEST <= number < LARGEST:
            raise yaml.YAMLError("it has a number of more than 64 bits")
        return number


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_whole_number)


def _check_events(text: str) -> None:
    # check before nodes are built, because they take a hundred times as much memory as the text
    depth = nodes = 0
    for event in yaml.parse(text, _PlainLoader):
        if getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError(f"it uses the anchor or alias {shown(event.anchor)}")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"it uses the tag {shown(event.tag)}")
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            raise yaml.YAMLError(f"it nests more than {DEPTH_LIMIT} levels")
        if nodes > NODE_LIMIT:
            raise yaml.YAMLError(f"it has more than {NODE_LIMIT:,} keys and values")


def plain_yaml(text: str) -> Any:
    """Parse plain YAML into dicts, lists, strings and numbers.

    Raises:
        yaml.YAMLError: the text is not YAML, or uses more than plain YAML: tags, anchors, deep nesting, many nodes.
        ValueError, OverflowError: a value looks like a number, but does not stand for one.
    """
    _check_events(text)
    return yaml.load(text, _PlainLoader)
