"""Data: pictures of words come in, tensors and labels go out."""
