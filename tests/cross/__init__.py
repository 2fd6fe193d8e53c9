"""Programs that nobody here wrote read what we write, and we read what they write."""
