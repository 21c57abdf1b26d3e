"""The same trials by a PyTorch loop on tensors in memory, in one process with both cores; no tracker, no dashboards.

Usage: pytorch_script.py DATA.npz HOME MODEL SEEDS EPOCHS; prints the mean test accuracy of each activation as JSON.
"""

# mypy: ignore-errors

import json
import sys
from statistics import fmean

import numpy as np
import torch
from torch import nn

data, _home, model_name, seeds, epochs = *sys.argv[1:4], *map(int, sys.argv[4:])
BATCH, VALIDATED = 128, 18_000
file = np.load(data)
images, labels, test_images, test_labels = (
    torch.tensor(file[name] / np.float32(256) if name[0] == "x" else file[name].astype(np.int64))
    for name in ("x_train", "y_train", "x_test", "y_test")
)


def network(activation):
    act = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]
    layers, width = [], 784
    if model_name == "cnn":
        layers += [nn.Unflatten(1, (1, 28)), nn.Conv2d(1, 32, 3), act(), nn.Conv2d(32, 32, 3), act(), nn.MaxPool2d(2)]
        width = 32 * 12 * 12
    layers += [nn.Flatten(), nn.Linear(width, 500), act(), nn.Dropout(0.5)]
    if model_name != "mlp":
        layers += [nn.Linear(500, 500), act(), nn.Dropout(0.5), nn.Linear(500, 500), act()]
    found = nn.Sequential(*layers, nn.Linear(500, 10))
    for layer in found:
        if isinstance(layer, nn.Linear | nn.Conv2d):  # as Keras draws them
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return found


@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    hits = sum(
        int((model(part).argmax(1) == right).sum()) for part, right in zip(x.split(2000), y.split(2000), strict=True)
    )
    return hits / len(y)


def train(activation, seed):
    torch.manual_seed(seed)
    model, loss = network(activation), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-7)
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(images) - VALIDATED).split(BATCH):
            optimizer.zero_grad()
            loss(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        accuracy(model, images[-VALIDATED:], labels[-VALIDATED:])
    return accuracy(model, test_images, test_labels)


means = {name: fmean(train(name, seed) for seed in range(seeds)) for name in ("relu", "tanh")}
print(json.dumps(means))
