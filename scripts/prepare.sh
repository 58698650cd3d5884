# Sourced by scripts/test, scripts/check and scripts/demo: a virtual environment .venv in the
# checkout with safepy's dependencies and the development tools. Asks nothing; needs root only
# to install Debian packages that are missing.

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

prepare() {
    local stamp python
    if ! find_python >/dev/null; then
        echo "installing python3 python3-venv" >&2
        apt-get update -q >&2
        apt-get install -q --yes --no-install-recommends python3 python3-venv >&2
    fi
    python=$(find_python) || { echo "no Python 3.11 or newer with venv found" >&2; return 1; }
    stamp=$(sha256sum "$checkout/pyproject.toml" | cut -d' ' -f1)
    if [ "$(cat "$checkout/.venv/stamp" 2>/dev/null)" != "$stamp" ]; then
        echo "preparing $checkout/.venv" >&2
        rm -rf "$checkout/.venv"
        "$python" -m venv "$checkout/.venv"
        # `pip install --group` came with 25.1; Debian's is older.
        "$checkout/.venv/bin/pip" install -qq --upgrade "pip>=25.1" >&2
        (cd "$checkout" && .venv/bin/pip install -qq --editable . --group dev) >&2
        echo "$stamp" >"$checkout/.venv/stamp"
    fi
    PATH="$checkout/.venv/bin:$PATH"
}
