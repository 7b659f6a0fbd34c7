"""Pages to look at: what a model saw in pictures, and how well checkpoints read sets of them; they load nothing."""
