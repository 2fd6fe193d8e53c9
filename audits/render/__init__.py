"""Pictures of a verified report, for people; each a pure function of the payload's bytes."""
