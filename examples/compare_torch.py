"""Explicit backpropagation against autograd: the same network here and in PyTorch.

Both start from the same weights, in double precision, and see the same batch. The program prints the norm of each
parameter's gradient side by side, the largest relative difference between the two gradients, and the loss of both
networks after one step of gradient descent. Needs PyTorch.
"""

import numpy as np
import torch

import chainrule as cr

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = np.array([[0.0], [1.0], [1.0], [0.0]])


def main(lr: float = 0.5, seed: int = 0) -> float:
    """Compare, print, and return the largest relative difference between the gradients of any parameter."""
    mlp = cr.MLP([2, 4, 1], hidden_activation="sigmoid", loss="bce", dtype="float64", seed=seed)
    twin = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 1), torch.nn.Sigmoid())
    twin = twin.double()
    with torch.no_grad():
        for (_, ours), theirs in zip(mlp.named_parameters(), twin.parameters(), strict=True):
            theirs.copy_(torch.from_numpy(ours.T))  # torch.nn.Linear keeps W as (d_out, d_in)

    mlp.forward(X)
    loss = mlp.backward(y)
    criterion = torch.nn.BCELoss()
    torch_loss = criterion(twin(torch.from_numpy(X)), torch.from_numpy(y))
    torch_loss.backward()

    print(f"loss: {loss:.15f} here, {torch_loss.item():.15f} in PyTorch\n")
    print(f"{'norm of the gradient of':24}  {'chainrule':>18}  {'PyTorch':>18}  {'difference':>10}")
    worst = 0.0
    for (name, ours), parameter in zip(mlp.named_gradients(), twin.parameters(), strict=True):
        assert parameter.grad is not None
        autograd = parameter.grad.numpy().T
        difference = float(np.linalg.norm(ours - autograd) / np.linalg.norm(autograd))
        worst = max(worst, difference)
        print(f"{name:24}  {np.linalg.norm(ours):18.15f}  {np.linalg.norm(autograd):18.15f}  {difference:10.1e}")
    print(f"\nlargest relative difference: {worst:.1e}")

    cr.SGD(lr=lr).step(mlp)
    torch.optim.SGD(twin.parameters(), lr=lr).step()
    with torch.no_grad():
        torch_after = criterion(twin(torch.from_numpy(X)), torch.from_numpy(y)).item()
    print(f"loss after a step: {mlp.evaluate(X, y):.15f} here, {torch_after:.15f} in PyTorch")
    return worst


if __name__ == "__main__":
    main()
