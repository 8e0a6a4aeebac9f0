"""Files that anybody may have written: opened only if they are plain files of a sensible size, read as plain data."""

import os
import reprlib
import stat
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from yaml.composer import Composer

from vaelab.errors import RunFolderError

CONFIG_LIMIT = 2**20  # bytes; ours has some thousand
JSON_LIMIT = 2**22
DEPTH_LIMIT = 32
NODE_LIMIT = 20_000  # keys and values; each takes a thousand bytes while it is read
LARGEST = 2**63


def opened(path: Path) -> BinaryIO:
    """A file, open for reading; a pipe or a device, which would not end, and a link are refused at once.

    Raises:
        FileNotFoundError: nothing is there.
        RunFolderError: it is no file of its own, or may not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
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
    """What a text file holds.

    Raises:
        FileNotFoundError: nothing is there.
        RunFolderError: see `opened`; or more than `limit` bytes.
        ValueError: not UTF-8.
    """
    with opened(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise RunFolderError(f"{path} holds more than {limit:,} bytes, which none of ours does")
    return content.decode("utf-8")


def shown(value: Any) -> str:
    """A stranger's value as part of a message: short, and without characters that a terminal obeys."""
    text = value if isinstance(value, str) and value.isprintable() else _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    lines = str(error).splitlines()
    return lines[0][:300] if lines and lines[0].isprintable() else type(error).__name__


_SHORT = reprlib.Repr()


_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80


class _FastLoader(Composer, getattr(yaml, "CSafeLoader", object)):  # pyright: ignore[reportGeneralTypeIssues]
    """A safe loader whose scanner and parser are libyaml's, nine times as fast, and whose composer can be extended."""

    def __init__(self, stream: str) -> None:
        Composer.__init__(self)
        yaml.CSafeLoader.__init__(self, stream)


class _PlainLoader(_FastLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # pyright: ignore[reportGeneralTypeIssues]
    """YAML that is what it looks like: no tags, no anchors, no key twice, no more of it than takes a moment to read."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.YAMLError(f"it uses the anchor or alias {shown(event.anchor)}")
        if event.tag is not None:
            raise yaml.YAMLError(f"it uses the tag {shown(event.tag)}")
        if self.depth == DEPTH_LIMIT:
            raise yaml.YAMLError(f"it nests more than {DEPTH_LIMIT} levels")
        if self.nodes == NODE_LIMIT:
            raise yaml.YAMLError(f"it has more than {NODE_LIMIT:,} keys and values")
        self.nodes += 1
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            twice = [name for name, count in Counter(key.value for key, _ in node.value).items() if count > 1]
            raise yaml.YAMLError(f"it has the key {shown(twice[0]) if twice else '<<'} twice")
        for key in mapping:
            if not isinstance(key, str):
                raise yaml.YAMLError(f"it has the key {shown(key)}, expected a word")
        return mapping

    def construct_whole_number(self, node: Any) -> int:
        if ":" in node.value or len(node.value) > 40:  # which would be read in base 60, part by part
            raise yaml.YAMLError("it has a number of more than 64 bits")
        number = self.construct_yaml_int(node)
        if not -LARGEST <= number < LARGEST:
            raise yaml.YAMLError("it has a number of more than 64 bits")
        return number


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_whole_number)


def plain_yaml(text: str) -> Any:
    """What a YAML text says, as dicts, lists, strings and numbers.

    Raises:
        yaml.YAMLError: not YAML, or more than plain YAML.
        ValueError, OverflowError: a number or a date that is none.
    """
    return yaml.load(text, _PlainLoader)  # a safe loader, and more than that
