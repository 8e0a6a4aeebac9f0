"""What `redact` finds and what it leaves, and that names and identities are made of redacted text."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vaelab.runs.configuration import plain
from vaelab.runs.folder.identity import identity
from vaelab.runs.folder.names import sweep_dir
from vaelab.security.redaction import RedactingFormatter, at_home, printable, redact, redacted


def surroundings(**environment: str) -> Any:
    """With nothing but `environment` in the environment."""
    return patch.dict(os.environ, environment, clear=True)


@pytest.mark.parametrize(
    ("home", "text", "expected"),
    [
        ("/home/jane", "/home/jane", "~"),
        ("/home/jane/", "'/home/jane/x' and \"/home/jane\"", "'~/x' and \"~\""),
        ("/home/jane", "file:///home/jane/x", "file://~/x"),
        ("/home/jane", r"repr '\n/home/jane/x'", r"repr '\n~/x'"),
        ("/home/jane", "g++ -I/home/jane/include", "g++ -I~/include"),
        ("/home/jane", "\x1b[35m/home/jane/x", "\x1b[35m~/x"),
        ("/home/jane", "/home/janet /home/jane-old /home/jane.old", "/home/janet /home/jane-old /home/jane.old"),
        ("/root", "/root/x /rootfs /mnt/root data/root", "~/x /rootfs /mnt/root data/root"),
        ("/", "/usr/bin and / and /", "/usr/bin and / and /"),
        ("/h/a+(b", "/h/a+(b/x", "~/x"),
    ],
)
def test_the_home_folder_becomes_a_tilde(home: str, text: str, expected: str) -> None:
    with surroundings(HOME=home):
        assert redact(text) == expected


def test_the_resolved_home_folder_becomes_a_tilde_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with surroundings(HOME=str(tmp_path / "link")):
        assert redact(f"{tmp_path}/link/x {tmp_path}/real/x") == "~/x ~/x"


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "client_secret", "PGPASSWORD", "OAUTH_X", "TOKEN_2", "KEYS"])
def test_a_variable_is_secret_if_its_name_says_so(name: str) -> None:
    with surroundings(**{name: "swordfish"}):
        assert redact("say swordfish, swordfishes") == f"say [{name}], [{name}]es"


@pytest.mark.parametrize("name", ["AUTHOR", "KEYBOARD_LAYOUT", "PATH"])
def test_a_variable_with_another_name_is_not_secret(name: str) -> None:
    with surroundings(**{name: "swordfish"}):
        assert redact("say swordfish") == "say swordfish"


def test_short_values_stay_and_the_longest_secret_goes_first() -> None:
    with surroundings(A_KEY="digits", B_KEY="swordfish", C_KEY="swordfish-and-chips"):
        assert redact("digits swordfish-and-chips swordfish") == "digits [C_KEY] [B_KEY]"


@pytest.mark.parametrize(
    "secret", ["with \"both' quotes", "back\\slash and 'quote'", "two\nlong lines\nof it", "ünïcödé/+="]
)
def test_a_secret_is_found_however_it_is_written(secret: str) -> None:
    with surroundings(MY_KEY=secret):
        for written in (secret, repr(secret), repr(f'{secret}"'), json.dumps(secret), " ".join(secret.split())):
            assert redact(written).strip("\"'") in ("[MY_KEY]", r"[MY_KEY]\n[MY_KEY]\n[MY_KEY]")
        assert redact(f"https://host/?q={quote(secret, safe='')}").endswith("q=[MY_KEY]")
    with surroundings(MY_KEY="a secret of four words"):
        assert "[MY_KEY]" in redact(yaml.safe_dump({"a": f"{'word ' * 14}a secret of four words"}))  # which folds it


HEX, WORD = "0f" * 20, "aB3_" * 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"wandb login {HEX}", "wandb login [W&B key]"),
        (f'{{"api_key":{{"value":"{HEX}"}}}}', '{"api_key":{"value":"[W&B key]"}}'),
        (f"it is local-{HEX}.", "it is [W&B key]."),
        (f"it is wandb_v1_{WORD}.", "it is [W&B key]."),
        ("it is eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM", "it is [JWT]"),
        ("https://user:p@ss@host.example/x?q=a@b", "https://[credentials]@host.example/x?q=a@b"),
        (f"commit {HEX}", f"commit {HEX}"),
        ("jane@host.example", "jane@host.example"),
    ],
)
def test_keys_are_known_by_their_forms(text: str, expected: str) -> None:
    with surroundings():
        assert redact(text) == expected


def test_passwords_in_netrc_are_secret(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine a login b password 'swordfish'\nmachine c login d password short\n")
    with surroundings(HOME=str(tmp_path)):
        assert redact("swordfish, short") == "[password in .netrc], short"
    with surroundings(NETRC=str(tmp_path / ".netrc")):
        assert redact("swordfish") == "[password in .netrc]"
    with surroundings(NETRC=str(tmp_path)):  # unreadable
        assert redact("swordfish") == "swordfish"


LETTERS = st.characters(exclude_categories=("C", "Z"), exclude_characters="[]")
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=30)


@given(st.text(LETTERS, min_size=8, max_size=20), TEXTS, TEXTS)
def test_no_secret_is_left_in_any_text(secret: str, before: str, after: str) -> None:
    with surroundings(MY_TOKEN=secret, HOME="/home/jane"):
        text = redact(before + secret + after)
        assert secret not in text
        assert redact(text) == text


@pytest.mark.slow
@given(st.recursive(TEXTS | st.integers() | st.none(), lambda some: st.lists(some) | st.dictionaries(TEXTS, some)))
def test_nested_data_is_redacted_text_by_text(data: Any) -> None:
    with surroundings(MY_TOKEN="swordfish"):
        assert redacted(data) == data
        assert redacted([{"swordfish": data, "a": ("swordfish", 1)}]) == [{"[MY_TOKEN]": data, "a": ["[MY_TOKEN]", 1]}]


def test_printable_text_holds_no_control_characters() -> None:
    assert printable("a\n\tb\x1b[2J\x07\u202e\x9f") == r"a" + "\n\t" + r"b\x1b[2J\x07\u202e\x9f"


def test_a_log_record_is_redacted_with_its_traceback() -> None:
    with surroundings(MY_TOKEN="swordfish"):
        try:
            raise ZeroDivisionError("swordfish")
        except ZeroDivisionError:
            record = logging.LogRecord("a", logging.ERROR, "b", 1, "%s\x1b", ("swordfish",), sys.exc_info())
        text = RedactingFormatter("%(message)s").format(record)
    assert text.startswith("[MY_TOKEN]\\x1b\nTraceback")
    assert text.endswith("ZeroDivisionError: [MY_TOKEN]")


# identity and names


def test_the_same_run_of_two_users_has_one_identity(composed: Any) -> None:
    found = set()
    for home in ("/home/jane", "/users/joe"):
        with surroundings(HOME=home):
            cfg = composed(f"+data.path={home}/mine.npy")
            assert plain(cfg)["data"]["path"] == "~/mine.npy"
            found.add((identity(plain(cfg)), sweep_dir("", "", [f"seed={home}/1,2"], None, identity(plain(cfg)))))
    assert len(found) == 1


def test_stored_paths_lie_in_the_home_folder_of_the_reader() -> None:
    config = {"data": {"path": "/home/jane/mine.npy", "files": ["/home/jane", "a~b", "~user/x"]}, "seed": 0}
    with surroundings(HOME="/home/jane"):
        stored = redacted(config)
        assert at_home(stored) == config
    with surroundings(HOME="/users/joe"):
        assert at_home(stored)["data"]["path"] == "/users/joe/mine.npy"
