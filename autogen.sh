#!/bin/sh
# Makes ./configure from a checkout. Needs autoconf, automake, libtool, pkg-config.
set -e
cd "$(dirname "$0")"
mkdir -p m4
autoreconf --install --force
# configure would take our core/ for a core dump: "rm: cannot remove 'core'".
sed 's/rm -f core \*\.core/rm -f *.core/' configure >configure.tmp
cat configure.tmp >configure
rm -f configure.tmp
