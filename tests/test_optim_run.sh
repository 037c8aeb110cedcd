#!/bin/sh
# No optimizer allocates in a step: under `memopt run` with the tracker stats a
# program makes as many allocations, of the whole process, in 40 steps as in 4.
set -u
case ${SANITIZE_CFLAGS:-} in
*=address* | *=thread*)
    echo "a program with a sanitizer keeps the sanitizer's malloc"
    exit 77
    ;;
esac
program="$top_builddir/tests/optim_program"
[ -x "$top_builddir/tests/.libs/optim_program" ] && program="$top_builddir/tests/.libs/optim_program"
LD_LIBRARY_PATH="$top_builddir/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
MEMOPT_CONF=$dir/memopt.ini
XDG_CONFIG_HOME=$dir
export LD_LIBRARY_PATH MEMOPT_CONF XDG_CONFIG_HOME
: > "$MEMOPT_CONF"
failures=0 optimizers=0

allocations() { # NAME SETTINGS STEPS
    "$top_builddir/cli/memopt" run --quiet -t stats -r json --set "reporter.json.output=$dir/report" \
        "$program" "$1" "$2" "$3" || return 1
    grep -m 1 -o '"allocations": *[0-9]*' "$dir/report" | grep -o '[0-9]*$'
}

while IFS='|' read -r name settings; do
    optimizers=$((optimizers + 1))
    case $name in
    lbfgs) settings="$settings threads=2" ;;
    sparseadam) settings="$settings threads=2 clip_norm=1" ;;
    *) settings="$settings threads=2 accumulate=2 clip_norm=1" ;;
    esac
    few=$(allocations "$name" "$settings" 4) && many=$(allocations "$name" "$settings" 40) || {
        echo "FAIL: $name $settings: it fails"
        failures=$((failures + 1))
        continue
    }
    [ "${few:-0}" -gt 10 ] && [ "$few" = "$many" ] || {
        echo "FAIL: $name $settings: $few allocations with 4 steps, $many with 40"
        failures=$((failures + 1))
    }
done << 'EOF'
sgd|
sgd|momentum=0.9 nesterov=yes
sgd|momentum=0.9 state_format=8bit
adam|
adamw|
adamw|state_format=8bit rounding=stochastic
amsgrad|
adagrad|
rmsprop|momentum=0.9 centered=yes
adadelta|
adamax|
nadam|
radam|
lion|
lion|state_format=8bit
lamb|
lars|
adafactor|beta1=0.9
adamw|lookahead=3 sam=0.1
sparseadam|
lbfgs|max_iter=3 history=3
EOF
[ $failures -eq 0 ] || exit 1
echo "$optimizers optimizers"
