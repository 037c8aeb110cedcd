#!/bin/bash
# The malloc family and hard programs on libc: see tests/shim.bash.
. "${top_srcdir:?}/tests/shim.bash"
