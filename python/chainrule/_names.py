"""What parameter tensors are called in iterators, files and reports."""


def parameter_names(n_layers: int) -> list[str]:
    """Return "layers.0.weight", "layers.0.bias", "layers.1.weight", ..., in the order of θ."""
    return [f"layers.{layer}.{part}" for layer in range(n_layers) for part in ("weight", "bias")]
