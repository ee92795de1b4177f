"""Loads the package and calls its model on behalf of the server, which is in `luthier_runner`.

Nothing here answers health: the server does, on threads that hold no GIL.
"""

import atexit
import faulthandler
import gc
import importlib.util
import json
import os
import sys
import time
import traceback
import types

import luthier_runner

# The package directory under a name of its own, so that `from .sibling import x` works in it
# whether or not it has an `__init__.py`.
PACKAGE = "luthier_package"
HOME = os.path.dirname(os.path.abspath(__file__))
MOST_MESSAGE = 4096
MOST_TRACEBACK = 64 * 1024


class LoadFailed(Exception):
    """The package cannot be served; `failure` is what health reports."""

    def __init__(self, failure):
        super().__init__(failure[1])
        self.failure = failure


# A failure is (kind, message, exception, traceback, module): the fields of a `RunnerError`.
def fault(kind, message):
    return (kind, message, None, None, None)


def raised(kind, doing, error, module=None):
    """A failure that is an exception of the package."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = "<the exception cannot be shown>"
    text = text[:MOST_MESSAGE]
    message = f"{doing} raised {name}: {text}" if text else f"{doing} raised {name}"
    try:
        trace = "".join(traceback.format_exception(type(error), error, own(error.__traceback__)))
    except Exception:
        trace = f"{name}: {text}"
    return (kind, message, name, trace[-MOST_TRACEBACK:], module)


def own(frames):
    """The traceback without the runner's and the import system's frames at its top."""
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        if os.path.dirname(file) != HOME and not file.startswith("<frozen importlib"):
            break
        frames = frames.tb_next
    return frames


def own_module(name):
    """A module of the runner's, whose directory is not on the path."""
    path = os.path.join(HOME, name + ".py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def missing_module(error):
    """The name of the top-level module that is not installed, if that is what `error` says."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    top = error.name.partition(".")[0]
    if top == PACKAGE or top in sys.modules:
        return None
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        found = None
    return top if found is None else None


def load_failure(kind, doing, error, directory):
    """The most precise failure for an exception that escaped while loading."""
    module = missing_module(error)
    if module is not None:
        _, _, name, trace, _ = raised(kind, doing, error)
        message = f"{doing} needs the module `{module}`, which is not installed"
        return ("missing_module", message, name, trace, module)
    file = getattr(error, "filename", None)
    # Generated code has a name that is not a path.
    if isinstance(error, SyntaxError) and isinstance(file, str) and os.path.isabs(file):
        if os.path.realpath(file).startswith(os.path.realpath(directory) + os.sep):
            _, _, name, trace, _ = raised(kind, doing, error)
            place = os.path.relpath(file, directory)
            message = f"{place}, line {error.lineno}: {error.msg}"
            return ("syntax_error", message, name, trace, None)
    return raised(kind, doing, error)


def import_package(directory):
    """Imports `package.py` of `directory`, as a module of a package and with `directory` on the
    path, so that siblings can be imported either way."""
    path = os.path.join(directory, "package.py")
    if not os.path.isfile(path):
        raise LoadFailed(fault("no_package", "the package has no file package.py at its top"))
    try:
        # Files opened by a relative name lie in the package more often than anywhere else.
        os.chdir(directory)
    except OSError:
        pass
    sys.path.insert(0, directory)
    try:
        return import_files(directory, path)
    except BaseException as error:
        raise LoadFailed(
            load_failure("import_failed", "importing package.py", error, directory)
        ) from None


def import_files(directory, path):
    init = os.path.join(directory, "__init__.py")
    if os.path.isfile(init):
        spec = importlib.util.spec_from_file_location(
            PACKAGE, init, submodule_search_locations=[directory]
        )
        parent = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = parent
        spec.loader.exec_module(parent)
    else:
        parent = types.ModuleType(PACKAGE)
        parent.__path__ = [directory]
        sys.modules[PACKAGE] = parent
    name = PACKAGE + ".package"
    if name in sys.modules:
        # `__init__.py` imported it.
        module = sys.modules[name]
        sys.modules.setdefault("package", module)
        return module
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # What was pickled from `import package` must be found when it is read back.
    sys.modules.setdefault("package", module)
    parent.package = module
    spec.loader.exec_module(module)
    return module


def make_model(module, directory):
    """The model of the package: what `get_model()` returns."""
    get_model = getattr(module, "get_model", None)
    if not callable(get_model):
        raise LoadFailed(fault("no_get_model", "package.py has no function get_model"))
    try:
        model = get_model()
    except BaseException as error:
        raise LoadFailed(
            load_failure("get_model_raised", "get_model()", error, directory)
        ) from None
    if not callable(getattr(model, "predict", None)):
        kind = type(model).__name__
        raise LoadFailed(
            fault("no_predict", f"get_model() returned {kind}, which has no method predict")
        )
    return model


def declines_batching(module, model):
    """Whether the model, or else package.py, says `batchable = False`."""
    for owner in (model, module):
        try:
            said = getattr(owner, "batchable", None)
            if said is not None:
                return not said
        except Exception:
            # Whatever it is, it is no leave.
            return True
    return False


class Host:
    """The loaded model. Every method may be called from any thread."""

    def __init__(self, model, inputs, outputs, key):
        # Not before the package, which may have to set things up before numpy is imported.
        luthier_frames = own_module("luthier_frames")
        luthier_results = own_module("luthier_results")
        self.model = model
        self.predict_frame = model.predict
        self.frames = luthier_frames.Frames(inputs)
        self.outputs = list(outputs)
        self.columns = luthier_results.columns
        self.wrong = luthier_results.Wrong
        self.frames.choose(key)

    def predict(self, key, rows, buffers):
        """`(seconds, columns)`, or a failure."""
        frame = self.frames.build(key, rows, buffers)
        began = time.perf_counter()
        try:
            result = self.predict_frame(frame)
        except BaseException as error:
            return raised("predict_raised", "predict", error)
        seconds = time.perf_counter() - began
        try:
            return (seconds, self.columns(result, self.outputs, rows))
        except self.wrong as error:
            return fault(error.kind, str(error))

    def explain(self, name, key, rows, buffers):
        """The JSON of the package's own explanation, or a failure."""
        hook = getattr(self.model, "explain_custom", None)
        if not callable(hook):
            return fault("no_such_hook", "the model has no method explain_custom")
        frame = self.frames.build(key, rows, buffers)
        doing = f"explain_custom({name!r})"
        try:
            answer = hook(name, frame)
            pair = isinstance(answer, (tuple, list)) and len(answer) == 2
            if not pair or not all(isinstance(part, dict) for part in answer):
                return fault("wrong_values", f"{doing} did not return a pair of dicts")
            body = {"explanations_by_output": answer[0], "extras_by_output": answer[1]}
            return json.dumps(jsonable(body), ensure_ascii=False, allow_nan=False)
        except NotImplementedError as error:
            return raised("no_such_hook", doing, error)
        except BaseException as error:
            return raised("predict_raised", doing, error)


def jsonable(value):
    """`value` with numpy's types made plain; what JSON has no word for becomes null."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    for method in ("render", "tolist", "item"):
        make = getattr(value, method, None)
        if callable(make):
            return jsonable(make())
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def load(server, directory, inputs, outputs, key):
    """Loads the package; tells `server` how far it is."""
    server.importing()
    began = time.perf_counter()
    module = import_package(directory)
    imported = time.perf_counter()
    server.loading(imported - began)
    model = make_model(module, directory)
    seconds = time.perf_counter() - imported
    try:
        host = Host(model, inputs, outputs, key)
    except ImportError as error:
        module = missing_module(error)
        if module in ("pandas", "numpy"):
            raise LoadFailed(
                (
                    "missing_module",
                    f"the environment has no {module}, in which models are given their inputs",
                    type(error).__name__,
                    None,
                    module,
                )
            ) from None
        raise
    # What is loaded stays; without this the first full collection walks all of it in the middle of
    # some request, which takes 60 ms and more with pandas and scikit-learn.
    gc.collect()
    gc.freeze()
    return host, seconds, declines_batching(module, model)


def run(config):
    """Serves until the server is told to stop."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    # A crash in compiled code says in the log which line of the package it came from.
    faulthandler.enable()
    server = luthier_runner.start(config, "%d.%d.%d" % sys.version_info[:3], list(sys.path))
    # So that of a call that hangs it can be said where.
    server.stacks(faulthandler.register)
    try:
        host, seconds, declines = load(server, *server.package())
        server.ready(seconds, host.predict, host.explain, declines)
    except LoadFailed as error:
        server.failed(*error.failure)
    except BaseException as error:
        server.failed(*raised("internal", "the runner", error))
    server.wait()
    # The interpreter is not torn down: a thread of the model may be in the midst of anything.
    try:
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass
        server.exit()
