"""A witness of other people's logs: its folder and key, and the address where it takes checkpoints. No desk."""
