#!/bin/bash
# The malloc family and hard programs on mmap: see tests/shim.bash.
. "${top_srcdir:?}/tests/shim.bash"
