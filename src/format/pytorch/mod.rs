//! Weights of [PyTorch](https://docs.pytorch.org/docs/stable/notes/serialization.html).
