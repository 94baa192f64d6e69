"""Random timelines, against models that remember everything and recount: as obvious as they can be made."""
