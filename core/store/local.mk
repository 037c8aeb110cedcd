# Stores of tensors: safetensors.
libmemopt_la_SOURCES += \
	core/tensor/dtype.c \
	core/store/header.c core/store/header.h \
	core/store/layout.c core/store/layout.h \
	core/store/reader.c \
	core/store/writer.c
memoptinclude_HEADERS += include/memopt/dtype.h include/memopt/store.h
