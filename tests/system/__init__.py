"""The whole path, with real servers and real signals."""
