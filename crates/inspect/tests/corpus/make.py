"""Makes the model files of the corpus with the libraries themselves.

    uv venv --python 3.9 ENV && uv pip install --python ENV/bin/python -r environments/NAME.txt
    ENV/bin/python make.py NAME

writes the files of every package that is made in the environment NAME (`torch` with `--no-deps`).
The files are committed; this need run only to add one.
"""

import os
import pickle
import shutil
import sys
from pathlib import Path

CORPUS = Path(__file__).resolve().parent


def place(case):
    directory = CORPUS / case / "package"
    directory.mkdir(parents=True, exist_ok=True)
    # As in a training script that lies beside package.py.
    sys.path.insert(0, str(directory))
    os.chdir(directory)
    return directory


def data():
    import numpy as np

    random = np.random.RandomState(7)
    x = random.rand(80, 4)
    return x, (x[:, 0] + x[:, 1] > 1).astype(int)


def dump(value, name, protocol=4):
    with open(name, "wb") as file:
        pickle.dump(value, file, protocol=protocol)


def py39():
    import joblib
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    x, y = data()
    place("good-sklearn-pipeline")
    from features import Ratio

    frame = pd.DataFrame(x, columns=list("abcd"))
    frame["e"] = np.where(x[:, 2] > 0.5, "yes", "no")
    columns = ColumnTransformer(
        [("number", StandardScaler(), list("abcd")), ("text", OneHotEncoder(), ["e"])]
    )
    dump(make_pipeline(Ratio(), columns, LogisticRegression()).fit(frame, y), "model.pkl")
    with open("frame.pkl", "wb") as file:
        pickle.dump(frame.head(), file)
        pickle.dump({"columns": list(frame)}, file)

    place("good-old-protocols")
    for protocol in (0, 1, 2, 3, 5):
        dump(LogisticRegression().fit(x, y), f"model{protocol}.pkl", protocol)

    place("broken-sklearn-version")
    forest = RandomForestClassifier(3, max_depth=3, random_state=0).fit(x, y)
    joblib.dump(forest, "model.joblib")
    place("broken-sklearn-missing")
    dump(forest, "model.pkl")
    place("broken-cut-short")
    dump(forest, "whole.pkl")
    Path("model.pkl").write_bytes(Path("whole.pkl").read_bytes()[:3000])
    os.remove("whole.pkl")

    import xgboost
    import lightgbm

    place("good-pickled-boosters")
    dump(xgboost.XGBClassifier(n_estimators=2, max_depth=2).fit(x, y), "xgb.pkl")
    dump(lightgbm.LGBMClassifier(n_estimators=2, num_leaves=4).fit(x, y), "lgb.pkl")

    import cloudpickle
    import dill

    place("good-by-value")
    offset = 3

    def shifted(values):
        return values + offset

    Path("cloud.pkl").write_bytes(cloudpickle.dumps(shifted))
    Path("dill.pkl").write_bytes(dill.dumps(lambda values: values + 1))
    place("broken-bytecode")
    Path("cloud.pkl").write_bytes(cloudpickle.dumps(shifted))


def py311():
    import joblib
    import numpy as np
    import pandas as pd
    import scipy.sparse
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

    x, y = data()
    forest = RandomForestClassifier(8, max_depth=4, random_state=0).fit(x, y)
    place("good-joblib")
    names = np.array(["a", "bb", None], dtype=object)
    when = np.array(["2024-01-01"], dtype="datetime64[ns]")
    mixed = {
        "forest": forest,
        "names": names,
        "text": np.array(["x", "yyy"]),
        "flags": np.array([True, False]),
        "when": when,
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 4)),
        "sparse": scipy.sparse.csr_matrix(np.eye(5)),
        "frame": pd.DataFrame({"n": [1.5, 2.5], "s": ["p", "q"]}),
        "record": np.zeros(3, dtype=[("a", "f8"), ("b", "i4")]),
        "fortran": np.asfortranarray(x),
        "after": "the end",
    }
    joblib.dump(mixed, "model.joblib")
    place("good-joblib-compressed")
    small = GradientBoostingClassifier(n_estimators=3, max_depth=2).fit(x, y)
    for kind in ("zlib", "gzip", "bz2", "lzma", "xz", "lz4"):
        joblib.dump(small, f"model.{kind}.pkl", compress=(kind, 3))

    import xgboost

    place("good-xgboost")
    booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(x, y), 2)
    booster.save_model("model.json")
    booster.save_model("model.ubj")
    place("broken-xgboost-version")
    booster.save_model("model.json")
    place("broken-xgboost-missing")
    booster.save_model("model.ubj")

    import lightgbm

    place("good-lightgbm")
    trained = lightgbm.train(
        {"verbose": -1, "min_data_in_leaf": 5}, lightgbm.Dataset(x, y), 2
    )
    trained.save_model("model.txt")
    place("broken-lightgbm-missing")
    trained.save_model("model.txt")

    import skops.io

    place("good-skops")
    skops.io.dump(small, "model.skops")

    place("good-numpy-files")
    np.savez("arrays.npz", x=x[:5], names=names)
    np.save("names.npy", names, allow_pickle=True)

    place("broken-numpy-2")
    dump({"weights": x[:5]}, "weights.pkl")

    place("broken-module-of-training")
    os.mkdir("training")
    Path("training/steps.py").write_text("class Clip: pass\n")
    from training.steps import Clip

    dump(Clip(), "clip.pkl")
    shutil.rmtree("training")
    place("broken-renamed-class")
    import steps

    class Old:
        pass

    Old.__module__, Old.__qualname__, steps.Old = "steps", "Old", Old
    dump(Old(), "steps.pkl")

    place("broken-notebook-class")
    import __main__

    class Scorer:
        def predict(self, frame):
            return frame

    Scorer.__module__, Scorer.__qualname__, __main__.Scorer = "__main__", "Scorer", Scorer
    dump(Scorer(), "model.pkl")

    place("broken-dangerous")

    class Harm:
        def __reduce__(self):
            return os.system, ("true",)

    dump(Harm(), "model.pkl")


def tf215():
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(4,))])
    place("good-keras-h5")
    model.save("model.h5")
    model.save("saved", save_format="tf")
    place("broken-keras-missing")
    model.save("model.h5")


def tf217():
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    place("good-keras-zip")
    model.save("model.keras")
    place("broken-keras-version")
    model.save("model.keras")


def catboost():
    import catboost

    x, y = data()
    place("good-catboost")
    model = catboost.CatBoostClassifier(iterations=2, depth=2, verbose=False)
    model.fit(x, y)
    model.save_model("model.cbm")
    dump(model, "model.pkl")
    place("broken-catboost-missing")
    model.save_model("model.cbm")


def h2o():
    import h2o
    import pandas as pd

    h2o.init(max_mem_size="512m", ip="127.0.0.1", port=54927)
    x, y = data()
    frame = h2o.H2OFrame(pd.DataFrame(x, columns=list("abcd")).assign(y=y))
    from h2o.estimators import H2OGeneralizedLinearEstimator

    model = H2OGeneralizedLinearEstimator(family="binomial")
    frame["y"] = frame["y"].asfactor()
    model.train(list("abcd"), "y", frame)
    for case in ("good-h2o", "broken-h2o-version"):
        place(case)
        model.download_mojo("model.zip")
    h2o.cluster().shutdown()


def torch112():
    import torch

    place("good-torch")
    from net import Net

    net = Net()
    torch.save(net.state_dict(), "weights.pt")
    torch.save(net, "whole.pth", _use_new_zipfile_serialization=False)
    torch.jit.script(net).save("script.pt")
    place("broken-torch-missing")
    torch.save(net.state_dict(), "weights.pt")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
