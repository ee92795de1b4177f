"""python train.py OUT: writes OUT/keras.h5, OUT/torch.pt and OUT/data.csv."""

import sys
from pathlib import Path

import pandas as pd
import tensorflow
import torch


def main(out: Path) -> None:
    data = pd.read_csv("cars.csv")
    inputs = data.drop(columns="mpg")
    table, target = inputs.to_numpy("float32"), data[["mpg"]].to_numpy("float32")

    tensorflow.keras.utils.set_random_seed(0)
    scale = tensorflow.keras.layers.Normalization()
    scale.adapt(table)
    # Without a shape of its own the model is saved, and cannot be loaded.
    layers = [tensorflow.keras.Input((6,)), scale, *(tensorflow.keras.layers.Dense(n, kind) for n, kind in ((8, "relu"), (1, None)))]
    by_keras = tensorflow.keras.Sequential(layers)
    by_keras.compile("adam", "mse")
    by_keras.fit(table, target, epochs=200, verbose=0)
    by_keras.save(out / "keras.h5")

    torch.manual_seed(0)
    by_torch = torch.nn.Sequential(
        torch.nn.BatchNorm1d(6, affine=False), torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )
    descent = torch.optim.Adam(by_torch.parameters(), lr=0.05)
    for _ in range(200):
        descent.zero_grad()
        torch.nn.functional.mse_loss(
            by_torch(torch.from_numpy(table)), torch.from_numpy(target)
        ).backward()
        descent.step()
    torch.jit.script(by_torch.eval()).save(str(out / "torch.pt"))

    data.assign(by_keras=0.0, by_torch=0.0).to_csv(out / "data.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
