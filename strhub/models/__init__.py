"""The models of the hub and what they share."""
