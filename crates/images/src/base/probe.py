"""Run by a base image's own Python in a container: says on its last line, as JSON, what it is."""

import json
import os
import re
import sys
import sysconfig

PEP440 = re.compile(
    r"(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+([._-][a-z0-9]+)*)?", re.I
)


def distributions():
    from importlib import metadata

    found = {}
    for dist in metadata.distributions():
        try:
            name, version = dist.metadata["Name"], dist.version
        except Exception:
            continue
        if not name or not version or not PEP440.fullmatch(version) or name.lower() in found:
            continue
        found[name.lower()] = {
            "name": name,
            "version": version,
            "requires": list(dist.requires or []),
            "extras": dist.metadata.get_all("Provides-Extra") or [],
        }
    return list(found.values())


def glibc():
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        return None


def paths():
    own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    own |= {os.path.join(path, "lib-dynload") for path in own}
    return [p for p in sys.path[1:] if os.path.isabs(p) and os.path.isdir(p) and p not in own]


def runner(directory):
    sys.path.insert(0, directory)
    try:
        import luthier_runner  # noqa: F401
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    finally:
        del sys.path[0]


def main():
    program = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    told = {
        "implementation": sys.implementation.name,
        "version": list(sys.version_info[:3]),
        "program": program,
        "glibc": glibc(),
    }
    if told["implementation"] == "cpython" and sys.version_info >= (3, 9):
        told.update(paths=paths(), distributions=distributions(), runner=runner(sys.argv[1]))
    print()
    print(json.dumps(told))


main()
