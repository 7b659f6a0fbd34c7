"""How fast and how large a model is: times of reading and training, parameters, multiply-adds, activations."""
