#!/bin/bash
# The malloc family and hard programs on tcmalloc: see tests/shim.bash.
. "${top_srcdir:?}/tests/shim.bash"
