"""Reading with a search: several readings of a picture, words of a lexicon, turned pictures. All of it is optional."""
