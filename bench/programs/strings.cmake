# A job for the benchmark: what CMake does most of, lists and strings. C++ strings that are
# built and thrown away.
# usage: cmake -P strings.cmake
foreach(i RANGE 10000)
  math(EXPR n "${i} * 7919 % 997")
  set(name "entry_${n}")
  list(APPEND names_${n} "value ${i}")
  string(REPLACE "e" "ee" longer "${name}/${i}/${names_${n}}")
  string(REGEX MATCHALL "[a-z]+" words "${longer}")
  list(LENGTH words many)
  math(EXPR sum "(0${sum} + ${many}) % 100000")
endforeach()
message("${sum}")
