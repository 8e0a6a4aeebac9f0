"""What is never written down: the values of secrets, and where the home folder lies. Nor do control characters pass.

`redact` works on text by what this process can know: its environment, `.netrc`, and the forms of keys. A secret that is
neither, such as one in a file of the user's own, it cannot tell from other words.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import quote

LEAST = 8  # characters of a value; a shorter one is hardly a secret, and found in ordinary words
SECRET_NAME = re.compile(
    # a word of the name may begin otherwise (PGPASSWORD, OAUTH), not go on (AUTHOR, KEYBOARD, TOKENIZERS)
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|CREDENTIAL|AUTH|COOKIE)S?(?![a-z])",
    re.IGNORECASE,
)
HEX = "[0-9a-f]"
KEY_FORMS = (
    (re.compile(r"://[^\s/?#\"'<>]+@"), "://[credentials]@"),
    (re.compile(r"wandb_v\d+_\w{20,}"), "[W&B key]"),
    (re.compile(r"local-\w{40,}"), "[W&B key]"),  # of a server of one's own
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"), "[JWT]"),  # which W&B takes as keys too
    # 40 hex digits alone may be a commit's
    (
        re.compile(rf"((?i:wandb|key|token|login|password|secret|bearer)[^\n]{{0,40}}?)(?<!{HEX}){HEX}{{40}}(?!{HEX})"),
        r"\1[W&B key]",
    ),
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
Rules = Sequence[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]


def redact(text: str) -> str:
    """`text` with `~` for the home folder, `[NAME]` for the value of a secret environment variable, and no keys.

    Secret are the variables whose names say so; also passwords in `.netrc`, W&B's keys in their forms, and what stands
    before the `@` of a URL.
    """
    return _apply(_rules(), text)


def redacted(data: Any) -> Any:
    """Plain nested data whose texts are redacted, keys included; what is no text, mapping or sequence stays."""
    return _each_text(partial(_apply, _rules()), data)


def presentable(data: Any) -> Any:
    """Plain nested data whose texts are redacted and printable: what is shown of a stranger's."""
    rules = _rules()
    return _each_text(lambda text: printable(_apply(rules, text)), data)


def at_home(data: Any) -> Any:
    """Plain nested data in which `~/...` lies in the home folder of who asks: what `redacted` made of paths."""
    return _each_text(lambda text: os.path.expanduser(text) if re.match(r"~(/|$)", text) else text, data)


def printable(text: str) -> str:
    """`text` with escapes for control characters other than line ends and tabs: no file can steer a terminal."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class RedactingFormatter(logging.Formatter):
    """Formats as its parent does; what it returns, a traceback included, is redacted and printable."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))


class RedactingStream:
    """A text stream whose texts are redacted, each by itself, before they reach `stream`; otherwise as `stream`."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes the redacted text; returns the length of what was given."""
        self.stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def redacting_output() -> Iterator[None]:
    """What any code prints meanwhile, Hydra's own messages and configurations included, is redacted."""
    out, err = (cast(TextIO, RedactingStream(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield


def _each_text(change: Callable[[str], str], data: Any) -> Any:
    if isinstance(data, str):
        return change(data)
    if isinstance(data, int | float) and not isinstance(data, bool):
        return data if change(text := str(data)) == text else change(text)
    if isinstance(data, Mapping):
        return {_each_text(change, key): _each_text(change, value) for key, value in data.items()}
    if isinstance(data, Sequence) and not isinstance(data, bytes | bytearray):
        return [_each_text(change, value) for value in data]
    return data


def _apply(rules: Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _rules() -> Rules:
    return [*_secrets(), *KEY_FORMS, *_homes(os.path.expanduser("~"))]


def _secrets() -> Rules:
    """Finds the values of secrets, the longest first, however their words are divided into lines."""
    found = {form: "[password in .netrc]" for value in _netrc_passwords() for form in _forms(value)}
    for name, value in os.environ.items():
        if SECRET_NAME.search(name):
            found |= dict.fromkeys(_forms(value), f"[{name}]")
    if not found:
        return []
    longest_first = sorted(found, key=lambda form: (-len(form), form))
    pattern = "|".join(r"\s+".join(map(re.escape, form.split())) for form in longest_first)
    return [(re.compile(pattern), lambda match: found[" ".join(match[0].split())])]


def _forms(value: str) -> set[str]:
    """How a value may be written: as it is, by the line, and escaped as Python (in either quotes), JSON and URLs do."""
    parts = {value, *value.splitlines()}
    ways = (repr, lambda part: repr(part + '"')[:-1], json.dumps, lambda part: f"'{quote(os.fsencode(part), safe='')}'")
    escaped = {way(part)[1:-1] for part in parts for way in ways}
    forms = {" ".join(form.split()) for form in parts | escaped}
    return {form for form in forms if len(form) >= LEAST}


def _netrc_passwords() -> Sequence[str]:
    file = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        return _passwords_in(file, os.stat(file).st_mtime_ns)
    except OSError:
        return ()


@lru_cache
def _passwords_in(file: str, modified: int) -> Sequence[str]:
    # not by `netrc`, which gives up at a file that others put up with
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    return [password.strip("'\"") for password in re.findall(r"\bpassword\s+(\S+)", text)]


@lru_cache
def _homes(home: str) -> Rules:
    """Finds the home folder, as it is called and as it is resolved, where it is a whole part of a path."""
    names = {str(Path(home)), os.path.realpath(home)} if os.path.isabs(home) else set()
    names = {name for name in names if os.path.dirname(name) != name}  # HOME=/ names nothing
    if not names:
        return []
    before = r"(?:(?<![\w.~-])|(?<=\\[abfnrtv])|(?<=[\s'\"=]-[A-Z])|(?<=[\d\[]m))"  # "\n/home", -I/home, colours
    after = r"(?![\w-]|\.\w)"
    longest_first = sorted(names, key=len, reverse=True)
    return [(re.compile(f"{before}(?:{'|'.join(map(re.escape, longest_first))}){after}"), "~")]
