# scripts/quickstart and scripts/check; the bash completion
EXTRA_DIST += scripts/lib.sh scripts/quickstart scripts/check
dist_bashcompletion_DATA = scripts/bash-completion/memopt
