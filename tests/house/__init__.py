"""The rules of the house: walls, words, sizes and documents."""
