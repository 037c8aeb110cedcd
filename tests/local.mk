# tests

# The core tests, which scripts/check runs under valgrind: append yours if it
# neither starts programs under other allocators nor faults on purpose.
valgrind_tests =
print-valgrind-tests:
	@echo $(valgrind_tests)
PHONY_TARGETS += print-valgrind-tests
