"""The verifier's tests: published vectors, properties, and an operator who cheats."""
