# Tests of the same part of libmemopt: see core/.
