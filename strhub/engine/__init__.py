"""Where pictures and models meet: training, testing, reading. Doors call the `main` of each module."""
