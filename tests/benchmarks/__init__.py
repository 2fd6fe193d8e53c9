"""Tests of what benchmarks compute; what they train is not run here."""
