#!/usr/bin/env bash
# Versions: ml_dtypes 0.6.0 and NumPy 2.4.6 on Python 3.11.
#
# Behaviour: numpy.sort moves a NaN of float16 or float32 to the end and sorts the
# other values. For bfloat16 and for float8_e4m3fn of ml_dtypes the NaN stays where
# it is and the values on both sides of it are not exchanged, so the result is not
# sorted even when the NaN is left out. numpy.median then misses the NaN as well.
#
# Guess: the small types sort like float16, because ml_dtypes registers them with
# NumPy and knows their NaN, and a median of values with a NaN is NaN.
#
# Seen: for 5, 4, nan, 3, 2, nan, 1, 0 the types float16 and float32 give 0 to 5 and
# then both NaNs, and their median is nan. The types bfloat16 and float8_e4m3fn give
# 4, 5, nan, 2, 3, nan, 0, 1 with each of the kinds quicksort, stable and heapsort,
# and their median is 2.5. No warning comes from sort.
set -euo pipefail
export HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ml_dtypes==0.6.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import sys
import warnings
from importlib.metadata import version

import ml_dtypes
import numpy as np

print("ml_dtypes", version("ml_dtypes"), "numpy", version("numpy"))
values = [5, 4, np.nan, 3, 2, np.nan, 1, 0]
ordered = [0, 1, 2, 3, 4, 5, np.nan, np.nan]
walled = [4, 5, np.nan, 2, 3, np.nan, 0, 1]
wanted = {
    np.float16: ordered,
    np.float32: ordered,
    ml_dtypes.bfloat16: walled,
    ml_dtypes.float8_e4m3fn: walled,
}
wrong = []
for dtype, expected in wanted.items():
    array = np.array(values, dtype)
    for kind in ["quicksort", "stable", "heapsort"]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = np.sort(array, kind=kind).astype(np.float32)
        print(np.dtype(dtype).name, kind, found.tolist(), "warnings", len(caught))
        if caught or not np.array_equal(found, np.array(expected, np.float32), equal_nan=True):
            wrong.append(f"{np.dtype(dtype).name} {kind}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        median = float(np.median(array))
    print(np.dtype(dtype).name, "median", median)
    if np.isnan(median) != (expected is ordered):
        wrong.append(f"{np.dtype(dtype).name} median")
if wrong:
    sys.exit(f"The sorted values are no longer those that were seen for {wrong}.")
print("One NaN keeps a bfloat16 array from being sorted.")
PY
