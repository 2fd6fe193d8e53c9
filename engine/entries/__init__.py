"""The catalogue's entries by family of methods: names, guarantees, needs and options. Standard library only."""
