"""Remove secrets, the path of the home folder and control characters from what is written down or shown.

`redact` finds the secrets that this process can know: values of environment variables with names such as `API_KEY`,
passwords in `.netrc`, credentials in a URL, and keys in the form of W&B's or of a JWT. It cannot tell other secrets
from words.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

LEAST = 8  # minimum characters of a secret; a shorter value is hardly a secret, and would match in ordinary words
SECRET_NAME = re.compile(
    # letters may stand before such a word (PGPASSWORD, OAUTH), but not after it (AUTHOR, KEYBOARD, TOKENIZERS)
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|CREDENTIAL|AUTH|COOKIE)S?(?![a-z])",
    re.IGNORECASE,
)
HEX = "[0-9a-f]"
KEY_FORMS = (
    (re.compile(r"://[^\s/?#\"'<>]+@"), "://[credentials]@"),
    (re.compile(r"wandb_v\d+_\w{20,}"), "[W&B key]"),
    (re.compile(r"local-\w{40,}"), "[W&B key]"),  # a key of a private W&B server
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"), "[JWT]"),  # some keys of W&B are JWTs
    # 40 hexadecimal digits after such a word; without it they may be a commit
    (
        re.compile(rf"((?i:wandb|key|token|login|password|secret|bearer)[^\n]{{0,40}}?)(?<!{HEX}){HEX}{{40}}(?!{HEX})"),
        r"\1[W&B key]",
    ),
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
Rules = Sequence[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]


def redact(text: str) -> str:
    """Return `text` with the home folder replaced by `~`, and each secret by a word in brackets."""
    return _apply(_rules(), text)


def redacted(data: Any) -> Any:
    """Return nested plain data with every text redacted, keys included."""
    return _each_text(partial(_apply, _rules()), data)


def presentable(data: Any) -> Any:
    """Return nested plain data with every text redacted and printable, so that untrusted data can be shown."""
    rules = _rules()
    return _each_text(lambda text: printable(_apply(rules, text)), data)


def at_home(data: Any) -> Any:
    """Return nested plain data with the home folder in place of `~` in texts such as `~/data`; undoes `redacted`."""
    return _each_text(lambda text: os.path.expanduser(text) if re.match(r"~(/|$)", text) else text, data)


def printable(text: str) -> str:
    """Return `text` with control characters escaped, except line feeds and tabs, so that it cannot steer a terminal."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class RedactingFormatter(logging.Formatter):
    """A log formatter whose text, traceback included, is redacted and printable."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))


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
    # match the longest first, and match any white space between words, because a text may be wrapped
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
    """Return the forms of a value in a text: whole or single lines, as it is or escaped by Python, JSON or URLs."""
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
    # cached, because every printed text needs them
    # read without the module `netrc`, because it refuses files that other programs accept
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    return [password.strip("'\"") for password in re.findall(r"\bpassword\s+(\S+)", text)]


@lru_cache
def _homes(home: str) -> Rules:
    # replace the home folder, as given and with links resolved, except inside a longer name
    names = sorted({str(Path(home)), os.path.realpath(home)} - {"/"}, key=len, reverse=True)  # "/" matches every path
    if not names or not os.path.isabs(home):
        return []
    before = r"(?:(?<![\w.~-])|(?<=\\[abfnrtv])|(?<=[\s'\"=]-[A-Z])|(?<=[\d\[]m))"  # also after \n, -I or a colour code
    after = r"(?![\w-]|\.\w)"
    return [(re.compile(f"{before}(?:{'|'.join(map(re.escape, names))}){after}"), "~")]
