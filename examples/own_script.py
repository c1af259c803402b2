"""A PyTorch loop that the calls of `trial` make tunable; `python own_script.py` stays what it was."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tune_jobs import trial

lr = trial.get("lr", 0.01)
width = trial.get("width", 32)

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
train, validation = trial.split(len(x), validation=0.2, test=0.2)
loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=lr)
loss_of = nn.CrossEntropyLoss()

for _ in trial.epochs(9, model=model, optimizer=optimizer):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_of(model(inputs), targets).backward()
        optimizer.step()
    with torch.no_grad():
        trial.report(val_loss=loss_of(model(x[validation]), y[validation]))

test = trial.test_rows()
with torch.no_grad():
    test_loss = loss_of(model(x[test]), y[test])
trial.report(test_loss=test_loss)
