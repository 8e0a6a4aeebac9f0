"""The tests; `checked` is their run-time type checker: beartype, an int being a float as in PEP 484."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
