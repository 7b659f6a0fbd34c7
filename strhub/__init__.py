"""strhub: scene text recognition, from a picture of a word to its text."""
