"""A search for hyper-parameters: trials that are trainings, watched and ended early by Ray Tune."""
