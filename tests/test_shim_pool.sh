#!/bin/bash
# The malloc family and hard programs on pool: see tests/shim.bash.
. "${top_srcdir:?}/tests/shim.bash"
