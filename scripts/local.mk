# scripts/quickstart and scripts/check; the bash completion
EXTRA_DIST += scripts/lib.sh scripts/quickstart scripts/check
