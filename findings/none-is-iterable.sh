#!/usr/bin/env bash
# Versions: minijinja 3.1.0 (the Python package of the Rust engine) and Jinja2 3.1.6
# on Python 3.11.
#
# Behaviour: minijinja says that none is iterable and Jinja2 says that it is not.
# A chat template that guards its list of tools with "tools is iterable" hence
# takes the branch with tools where the caller passed tools=None. A longer guard,
# "tools is iterable and tools | length > 0", raises an error for the same reason.
#
# Guess: both engines answer false, since minijinja itself says that none has no
# length, no first item and no members.
#
# Seen: Jinja2 renders "plain" for both guards. minijinja renders "with tools" for
# the short one and raises "cannot calculate length of value of type none" for
# the long one. A loop over none renders nothing in minijinja and raises an error
# in Jinja2. For a number both engines answer false.
set -euo pipefail
export HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet minijinja==3.1.0 jinja2==3.1.6
"$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import jinja2
import minijinja

print("minijinja", version("minijinja"), "jinja2", version("jinja2"))


def by_jinja2(source):
    try:
        return jinja2.Environment().from_string(source).render(tools=None)
    except TypeError as error:
        return f"error: {error}"


def by_minijinja(source):
    try:
        return minijinja.Environment().render_str(source, tools=None)
    except minijinja.TemplateError as error:
        return "error: " + str(error).splitlines()[0]


branches = "{% if GUARD %}with tools{% else %}plain{% endif %}"
short = branches.replace("GUARD", "tools is iterable")
long = branches.replace("GUARD", "tools is iterable and tools | length > 0")
wanted = {
    short: ("plain", "with tools"),
    long: ("plain", "error"),
    "{% for tool in tools %}{{ tool }}{% endfor %}": ("error", ""),
    "{{ 5 is iterable }}": ("False", "False"),
}
wrong = []
for source, expected in wanted.items():
    found = (by_jinja2(source), by_minijinja(source))
    print(source, "jinja2", repr(found[0]), "minijinja", repr(found[1]))
    if tuple(text.split(":")[0] for text in found) != expected:
        wrong.append(source)
if wrong:
    sys.exit(f"The engines no longer render as they did for {wrong}.")
print("Only minijinja takes none for something to iterate over.")
PY
