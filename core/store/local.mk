# Tensors as numbers and where these are; stores of tensors: safetensors.
libmemopt_train_la_SOURCES += \
	core/tensor/layout.c core/tensor/layout.h \
	core/tensor/span.c core/tensor/span.h \
	core/store/header.c core/store/header.h \
	core/store/layout.c core/store/layout.h \
	core/store/place.h core/store/ram.c \
	core/store/reader.c \
	core/store/writer.c
memoptinclude_HEADERS += include/memopt/dtype.h include/memopt/store.h
