"""Tests mirror the packages; `system` walks the whole path, `house` guards the rules of the house."""
