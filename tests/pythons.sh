#!/bin/sh
# Makes a target with each version of Python that onecopy supports, except the one that is in use:
# each in an environment of its own. A version that is not installed is left out, with a message.
# Arguments: the Python in use, the target, and the versions (default: all).
used=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
target=$2
missing=
failed=0
shift 2
for version in ${*:-3.11 3.12 3.13}; do
    [ "$version" = "$used" ] && continue
    found=
    for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        if "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
            found=$python
        fi
    done
    if [ -z "$found" ]; then
        missing="$missing $version"
        continue
    fi
    echo "**** Python $version: make $target"
    ${MAKE:-make} "$target" PYTHON="$found" VENV=".venv$(echo "$version" | tr -d .)" || failed=1
done
for version in $missing; do
    echo "**** NOT TESTED with Python $version: python$version is not installed ****"
done
exit $failed
