"""Tests of the engine: golden numbers, and a model so small that everything can be run on it."""
