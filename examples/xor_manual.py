"""Backpropagation by hand: the training loop of the textbook, on XOR.

A network of 2 inputs, 4 hidden sigmoid units and 1 sigmoid output learns exclusive-or. Each epoch is one forward pass,
which keeps the activations, and one backward pass, which follows the chain rule from the output to the input and then
takes a step of gradient descent: W ← W - lr dL/dW.

After training, the program shows what the last two passes left behind, and that the chain rule holds between them:
δ_1 = (δ_2 W_2ᵀ) ⊙ a_1 (1 - a_1), and dL/dW_1 = a_0ᵀ δ_1.
"""

import argparse

import numpy as np

import chainrule as cr

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
y = np.array([0, 1, 1, 0])


def main(epochs: int = 5000, lr: float = 0.5, std: float | None = None, seed: int = 0) -> float:
    """Train, print, and return the last loss.

    The weights start by Xavier's rule, or with `std` from N(0, std²). With std = 0.1 the four hidden units start almost
    alike and most seeds stay at the saddle where every prediction is 0.5: try it.
    """
    init = "xavier" if std is None else cr.Normal(std)
    mlp = cr.MLP([2, 4, 1], hidden_activation="sigmoid", loss="bce", init=init, dtype="float64", seed=seed)
    print(mlp)

    for epoch in range(epochs):
        predictions = mlp.forward(X)
        loss = mlp.backward(y, lr=lr)
        if epoch % 1000 == 0:
            print(f"epoch {epoch:5,}  loss {loss:.4f}  predictions {predictions.ravel().round(2)}")

    predictions = mlp.forward(X)
    loss = mlp.backward(y)
    print(f"epoch {epochs:5,}  loss {loss:.4f}  predictions {predictions.ravel().round(2)}")

    a_0, a_1, _ = mlp.activations
    delta_1, delta_2 = mlp.deltas
    chained = (delta_2 @ mlp.weights[1].T) * a_1 * (1 - a_1)
    print(f"δ_1 against (δ_2 W_2ᵀ) ⊙ a_1 (1 - a_1): largest difference {np.abs(delta_1 - chained).max():.1e}")
    print(f"dL/dW_1 against a_0ᵀ δ_1: largest difference {np.abs(mlp.weight_gradients[0] - a_0.T @ delta_1).max():.1e}")
    return loss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Learn XOR by forward and backward passes.")
    parser.add_argument("--std", type=float, help="start from N(0, std²) instead of Xavier's rule")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(std=options.std, seed=options.seed)
