"""A small network learns two spirals. Prints one line of JSON."""

import argparse, json
import torch
from torch import nn

options = argparse.ArgumentParser()
options.add_argument("--optimizer", choices=["SGD", "Adam"], default="SGD")
options.add_argument("--lr", type=float, default=0.01)
options.add_argument("--seed", type=int, default=0)
given = options.parse_args()
torch.manual_seed(given.seed)
turn, arm = 10 * torch.rand(1200, 1) + 1, torch.randint(0, 2, (1200, 1))
x = torch.cat([turn.sin(), turn.cos()], 1) * turn / 11 * (1 - 2 * arm) + 0.02 * torch.randn(1200, 2)
network = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = getattr(torch.optim, given.optimizer)(network.parameters(), lr=given.lr)
for _ in range(400):
    optimizer.zero_grad()
    nn.functional.binary_cross_entropy_with_logits(network(x[:800]), arm[:800].float()).backward()
    optimizer.step()
right = ((network(x[800:]) > 0) == arm[800:].bool()).float().mean().item()
print(json.dumps({"metrics": {"test_accuracy": right}}))
