"""Installs the project into the environment of the Python that runs this; `setup.sh` calls it.

uv takes a fraction of pip's time. It reads none of pip's settings, so they are passed on. pip installs where uv cannot
be had or fails. `NTALKER_TORCH=any` leaves the version of torch open, for GPUs and systems that need another build.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CONSTRAINTS = REPOSITORY / "scripts" / "constraints.txt"
SECTIONS = ("global", "install", ":env:")
# uv's variables for pip's settings.
VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}


def pip_settings(listing: str) -> dict[str, list[str]]:
    """Reads what `pip config list` prints, one section.key='value' a line.

    The environment takes precedence over the section [install], and that over [global].
    """
    settings: dict[str, list[str]] = {}
    for section in SECTIONS:
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                settings[name.removeprefix(f"{section}.")] = str(ast.literal_eval(value)).split()
    return settings


def uv_environment(settings: dict[str, list[str]], default_index: str) -> dict[str, str]:
    """The environment that gives uv pip's settings; what is set for uv already stays as it is.

    Args:
        settings: of `pip_settings`.
        default_index: where pip looks without an index-url.
    """
    main_index = settings.get("index-url", default_index.split())
    settings = settings | {"index-url": main_index}
    # Of wheels of one version, pip takes the one that fits best, but uv one of the first index that has any: extra
    # indexes, which may hold a few wheels only, come second.
    if extra := settings.get("extra-index-url"):
        settings["extra-index-url"] = main_index + extra
    # Like pip, the best version of all indexes, and the system's certificates, where companies add theirs.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "true"}
    for key, variable in VARIABLES.items():
        if values := settings.get(key):
            variables[variable] = ("," if key == "find-links" else " ").join(values)
    return variables | dict(os.environ)


def default_index(pip_help: str) -> str:
    """The index that the help of `pip install` names as the default one."""
    found = re.search(r"Base URL of the Python Package Index \(default\s+(\S+?)\)", " ".join(pip_help.split()))
    return found[1] if found else ""


def constraints(folder: Path) -> Path:
    """The tested versions, without those of torch under NTALKER_TORCH=any."""
    if os.environ.get("NTALKER_TORCH") != "any":
        return CONSTRAINTS
    file = folder / "constraints.txt"
    file.write_text(re.sub(r"(?m)^torch(vision)?==.*\n", "", CONSTRAINTS.read_text("utf8")), "utf8")
    return file


def links_cache(folder: str, environment: Path) -> bool:
    """Whether packages in uv's cache can be linked into the environment; copies would take their space twice."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            link = environment / Path(file.name).name
            os.link(file.name, link)
            link.unlink()
    except OSError:
        return False
    return True


def _output(command: list[str | Path], environment: dict[str, str] | None = None) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def install_with_uv(file: Path) -> str:
    """Returns "" or why uv could not install."""
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    had = subprocess.run([*pip, "install", "--quiet", "-c", str(file), "uv"], capture_output=True, text=True)
    if had.returncode:
        return (had.stderr.strip().splitlines() or ["pip cannot install it"])[-1]
    settings = pip_settings(_output([*pip, "config", "list"]))
    environment = uv_environment(settings, default_index(_output([*pip, "install", "--help"])))
    uv, prefix = Path(sys.prefix, "bin", "uv"), Path(sys.prefix)
    cache = _output([uv, "cache", "dir"], environment)
    own_cache = prefix / "uv-cache"
    if not links_cache(cache.strip(), prefix):
        environment["UV_CACHE_DIR"] = str(own_cache)
    options = [f"--constraint={name}" for name in settings.get("constraint", [])]
    options += ["--no-index"] * ("no-index" in settings) + ["--quiet"] * (not sys.stderr.isatty())
    command = [uv, "pip", "install", "--python", sys.executable, f"--constraint={file}", *options, "-e", ".[dev]"]
    code = subprocess.run(command, cwd=REPOSITORY, env=environment).returncode
    shutil.rmtree(own_cache, ignore_errors=True)
    return f"it ended with {code}" if code else ""


def main() -> int:
    """Installs with uv or pip; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        file = constraints(Path(folder))
        reason = install_with_uv(file)
        if not reason:
            return 0
        print(f"uv cannot install here ({reason}); pip does, which takes longer.", file=sys.stderr, flush=True)
        quiet = [] if sys.stdout.isatty() else ["--quiet"]
        command = [sys.executable, "-m", "pip", "install", *quiet, "--disable-pip-version-check", "-c", str(file)]
        return subprocess.run([*command, "-e", ".[dev]"], cwd=REPOSITORY).returncode


if __name__ == "__main__":
    sys.exit(main())
