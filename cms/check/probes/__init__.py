"""The probes: one for each part of the signal flow; each reports to a lane."""
