# Manual pages of the same part of libmemopt: see core/.
