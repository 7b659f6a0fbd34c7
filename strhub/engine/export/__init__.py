"""A trained network as a file for other runtimes: made, checked on other pictures, described."""
