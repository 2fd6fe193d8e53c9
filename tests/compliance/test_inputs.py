"""What is typed after --set, and what a command gets of it."""

from typing import Any

import pytest

from compliance.cli.inputs import settings
from compliance.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1e-3", 1e-3),
        ("true", True),
        ("kl", "kl"),
        ("[0, 5, 20]", [0, 5, 20]),
        ("", ""),
        ("[0, 5", "[0, 5"),
        ('{"a": 1}', '{"a": 1}'),
        ("null", "null"),
    ],
)
def test_a_setting_is_a_number_a_switch_a_list_or_text(text: str, value: Any) -> None:  # noqa: ANN401 - any of them
    """Whether the option takes it is the option's business."""
    assert settings([f"steps={text}"]) == {"steps": value}


@pytest.mark.parametrize("pairs", [["steps"], ["=5"], ["steps=1", "steps=2"]])
def test_a_setting_has_a_name_and_stands_once(pairs: list[str]) -> None:
    """One sentence says how."""
    with pytest.raises(InvalidInputError, match="KEY=VALUE, each key once"):
        settings(pairs)
