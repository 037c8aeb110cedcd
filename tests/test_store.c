/*
 * test_store.c - memopt/store.h and memopt/dtype.h: files that break one rule
 * each and what is said of them; what a file holds comes back exactly; a writer
 * whose every allocation and system call fails in turn leaves the old file.
 */
#include <memopt/memopt.h>

#include "tests/report_faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char directory[] = "/tmp/test_store.XXXXXX";
static struct memopt_error error;

static int make_directory(void **state) {
    (void)state;
    return mkdtemp(directory) == NULL || chdir(directory) < 0;
}

static int remove_directory(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command);
}

static void put_file(const char *path, const void *bytes, size_t length) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
}

/* A file of that header and `data` bytes 0, 1, 2, ... */
static void put_tensors(const char *path, const char *header, size_t length, size_t data) {
    char bytes[8192];
    uint64_t n = length;
    assert_true(8 + length + data <= sizeof(bytes));
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++)
        bytes[8 + length + i] = (char)i;
    put_file(path, bytes, 8 + length + data);
}

static size_t files_here(void) {
    size_t count = 0;
    DIR *d = opendir(".");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return count;
}

/* --------------------------------------------------------------- one defect */

#define T(NAME, TYPE, SHAPE, OFFSETS)                                                              \
    "\"" NAME "\":{\"dtype\":\"" TYPE "\",\"shape\":" SHAPE ",\"data_offsets\":" OFFSETS "}"
#define A T("a", "F32", "[2]", "[0,8]")

static const struct {
    const char *header;
    size_t data;
    int code;
    const char *says; /* NULL: it is a good file */
    size_t length;    /* of the header; 0: of the string */
} headers[] = {
    /* good */
    {"{}", 0, 0, NULL, 0},
    {"{ }   ", 0, 0, NULL, 0},
    {"{" A "}", 8, 0, NULL, 0},
    {"{\n\t" A "\r }  ", 8, 0, NULL, 0},
    {"{\"__metadata__\":{}," A "}", 8, 0, NULL, 0},
    {"{" A ",\"__metadata__\":{\"k\":\"v\",\"\":\"\"}}", 8, 0, NULL, 0},
    {"{" T("s", "I64", "[]", "[0,8]") "}", 8, 0, NULL, 0},
    {"{" T("z", "F32", "[0]", "[0,0]") "}", 0, 0, NULL, 0},
    {"{" T("z", "U8", "[0,18446744073709551615]", "[0,0]") "," A "}", 8, 0, NULL, 0},
    {"{" T("b", "U8", "[3]", "[8,11]") "," A "}", 11, 0, NULL, 0},
    {"{" T("", "U8", "[1]", "[0,1]") "}", 1, 0, NULL, 0},
    {"{\"a\":{\"data_offsets\":[0,1],\"shape\":[1],\"dtype\":\"BOOL\"}}", 1, 0, NULL, 0},
    {"{" T("\\u00e9\\ud83d\\ude00\\n\\\"\\\\", "U8", "[1]", "[0,1]") "}", 1, 0, NULL, 0},
    {"{" T("C", "C64", "[1]", "[0,8]") "}", 8, 0, NULL, 0},
    {"{" T("f", "F8_E4M3FNUZ", "[1]", "[0,1]") "}", 1, 0, NULL, 0},
    /* the object as a whole */
    {"", 0, -EINVAL, "byte 0 of the header: expected '{'", 0},
    {" {}", 0, -EINVAL, "byte 0 of the header: expected '{'", 0},
    {"[]", 0, -EINVAL, "expected '{'", 0},
    {"{", 0, -EINVAL, "byte 1 of the header: expected a string", 0},
    {"{}\n", 0, -EINVAL, "byte 2 of the header: something other than spaces", 0},
    {"{}{}", 0, -EINVAL, "something other than spaces", 0},
    {"{}\0", 0, -EINVAL, "something other than spaces", 3},
    {"{" A, 8, -EINVAL, "expected ',' or '}'", 0},
    {"{" A ",}", 8, -EINVAL, "expected a string", 0},
    {"{," A "}", 8, -EINVAL, "expected a string", 0},
    {"{" A " " T("b", "U8", "[0]", "[8,8]") "}", 8, -EINVAL, "expected ',' or '}'", 0},
    {"{\"a\" {}}", 0, -EINVAL, "byte 5 of the header: expected ':'", 0},
    {"{a:{}}", 0, -EINVAL, "expected a string", 0},
    {"{'a':{}}", 0, -EINVAL, "expected a string", 0},
    {"{/**/}", 0, -EINVAL, "expected a string", 0},
    {"{\"a\":null}", 0, -EINVAL, "byte 5 of the header: expected '{'", 0},
    {"{\"a\":[]}", 0, -EINVAL, "expected '{'", 0},
    {"{\"a\":\"b\"}", 0, -EINVAL, "expected '{'", 0},
    /* twice */
    {"{" A "," A "}", 8, -EINVAL,
     "byte 54 of the header: tensor 'a' is there twice, first at byte 1", 0},
    {"{" T("z", "U8", "[0]", "[0,0]") "," T("\\u007a", "U8", "[0]", "[0,0]") "}", 0, -EINVAL,
     "tensor 'z' is there twice", 0},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, -EINVAL,
     "tensor 'a' has 'dtype' twice", 0},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"shape\":[],\"data_offsets\":[0,1]}}", 1, -EINVAL,
     "tensor 'a' has 'shape' twice", 0},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"data_off\\u0073ets\":[0,1]}}",
     1, -EINVAL, "tensor 'a' has 'data_offsets' twice", 0},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, -EINVAL, "'__metadata__' is there twice", 0},
    {"{\"__metadata__\":{\"k\":\"1\",\"j\":\"\",\"k\":\"1\"}}", 0, -EINVAL,
     "metadata 'k' is there twice, first at byte 17", 0},
    /* keys of a tensor */
    {"{\"a\":{}}", 0, -EINVAL, "tensor 'a' has no 'dtype'", 0},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", 0, -EINVAL, "tensor 'a' has no 'shape'",
     0},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0, -EINVAL, "tensor 'a' has no 'data_offsets'", 0},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":1}}", 0, -EINVAL,
     "tensor 'a' has a key 'x'; expected dtype, shape and data_offsets", 0},
    {"{\"a\":{\"dtype\":\"U8\",}}", 0, -EINVAL, "expected a string", 0},
    /* types */
    {"{" T("a", "F33", "[2]", "[0,8]") "}", 8, -EINVAL, "'F33' is no type of the format", 0},
    {"{" T("a", "f32", "[2]", "[0,8]") "}", 8, -EINVAL, "'f32' is no type of the format", 0},
    {"{" T("a", "F4", "[2]", "[0,1]") "}", 1, -ENOTSUP,
     "type 'F4', whose elements are smaller than a byte: not supported", 0},
    {"{" T("a", "F6_E2M3", "[4]", "[0,3]") "}", 3, -ENOTSUP, "'F6_E2M3'", 0},
    {"{" T("a", "F6_E3M2", "[4]", "[0,3]") "}", 3, -ENOTSUP, "'F6_E3M2'", 0},
    {"{\"a\":{\"dtype\":4}}", 0, -EINVAL, "byte 14 of the header: expected a string", 0},
    /* numbers */
    {"{" T("a", "U8", "[1.0]", "[0,1]") "}", 1, -EINVAL, "without fraction or exponent", 0},
    {"{" T("a", "U8", "[1e0]", "[0,1]") "}", 1, -EINVAL, "without fraction or exponent", 0},
    {"{" T("a", "U8", "[1E0]", "[0,1]") "}", 1, -EINVAL, "without fraction or exponent", 0},
    {"{" T("a", "U8", "[-0]", "[0,0]") "}", 0, -EINVAL, "expected an integer, digits only", 0},
    {"{" T("a", "U8", "[-1]", "[0,1]") "}", 1, -EINVAL, "expected an integer, digits only", 0},
    {"{" T("a", "U8", "[+1]", "[0,1]") "}", 1, -EINVAL, "expected an integer, digits only", 0},
    {"{" T("a", "U8", "[01]", "[0,1]") "}", 1, -EINVAL, "leading zero", 0},
    {"{" T("a", "U8", "[0x1]", "[0,1]") "}", 1, -EINVAL, "expected ',' or ']'", 0},
    {"{" T("a", "U8", "[\"1\"]", "[0,1]") "}", 1, -EINVAL, "expected an integer", 0},
    {"{" T("a", "U8", "[true]", "[0,1]") "}", 1, -EINVAL, "expected an integer", 0},
    {"{" T("a", "U8", "[18446744073709551616]", "[0,1]") "}", 1, -EINVAL, "more than 64 bits", 0},
    {"{" T("a", "U8", "[99999999999999999999999999]", "[0,1]") "}", 1, -EINVAL, "more than 64 bits",
     0},
    /* shapes */
    {"{" T("a", "U8", "1", "[0,1]") "}", 1, -EINVAL, "expected '['", 0},
    {"{" T("a", "U8", "[1,]", "[0,1]") "}", 1, -EINVAL, "expected an integer", 0},
    {"{" T("a", "U8", "[1 1]", "[0,1]") "}", 1, -EINVAL, "expected ',' or ']'", 0},
    {"{" T("a", "U8", "[[1]]", "[0,1]") "}", 1, -EINVAL, "expected an integer", 0},
    {"{" T("a", "U8", "[4294967296,4294967296]", "[0,1]") "}", 1, -EINVAL,
     "the shape of tensor 'a' needs more than 64 bits", 0},
    {"{" T("a", "F64", "[2305843009213693952]", "[0,1]") "}", 1, -EINVAL,
     "the shape of tensor 'a' needs more than 64 bits", 0},
    {"{" T("a", "U8", "[0,4294967296,4294967296]", "[0,0]") "}", 0, -EINVAL,
     "the shape of tensor 'a' needs more than 64 bits", 0},
    /* offsets */
    {"{" T("a", "U8", "[1]", "[0]") "}", 1, -EINVAL, "expected ','", 0},
    {"{" T("a", "U8", "[1]", "[0,1,2]") "}", 1, -EINVAL, "expected ']'", 0},
    {"{" T("a", "U8", "[1]", "[]") "}", 1, -EINVAL, "expected an integer", 0},
    {"{" T("a", "U8", "[1]", "[1,0]") "}", 1, -EINVAL, "ends before it begins", 0},
    {"{" T("a", "F32", "[2]", "[0,7]") "}", 7, -EINVAL,
     "tensor 'a' has 7 bytes of data, its shape and type need 8", 0},
    {"{" T("a", "F32", "[]", "[0,0]") "}", 0, -EINVAL, "0 bytes of data, its shape and type need 4",
     0},
    {"{" T("a", "U8", "[1]", "[1,2]") "}", 2, -EINVAL,
     "the data of tensor 'a' begins at 1; expected 0, where the data before it ends: a hole", 0},
    {"{" A "," T("b", "U8", "[1]", "[9,10]") "}", 10, -EINVAL, "begins at 9; expected 8", 0},
    {"{" A "," T("b", "U8", "[1]", "[7,8]") "}", 8, -EINVAL,
     "'b' begins at 7; expected 8, where the data before it ends: an overlap", 0},
    {"{" A "," T("b", "F32", "[2]", "[0,8]") "}", 8, -EINVAL, "an overlap", 0},
    {"{" A "," T("z", "U8", "[0]", "[4,4]") "}", 8, -EINVAL, "an overlap", 0},
    {"{" A "}", 9, -EINVAL, "the tensors have 8 bytes of data, the file has 9", 0},
    {"{" A "}", 7, -EINVAL, "the tensors have 8 bytes of data, the file has 7", 0},
    {"{}", 1, -EINVAL, "the tensors have 0 bytes of data, the file has 1", 0},
    {"{" T("a", "U8", "[18446744073709551615]", "[0,18446744073709551615]") "}", 1, -EINVAL,
     "the tensors have 18446744073709551615 bytes of data, the file has 1", 0},
    /* metadata */
    {"{\"__metadata__\":null}", 0, -EINVAL, "expected '{'", 0},
    {"{\"__metadata__\":{\"k\":1}}", 0, -EINVAL, "expected a string", 0},
    {"{\"__metadata__\":{\"k\":{}}}", 0, -EINVAL, "expected a string", 0},
    {"{\"__metadata__\":{\"k\"}}", 0, -EINVAL, "expected ':'", 0},
    {"{\"__metadata__\":{\"k\":\"v\",}}", 0, -EINVAL, "expected a string", 0},
    {"{\"__metadata__\":{\"k\":\"v\"", 0, -EINVAL, "expected ',' or '}'", 0},
    /* strings */
    {"{\"a", 0, -EINVAL, "byte 1 of the header: a string that does not end", 0},
    {"{\"a\\", 0, -EINVAL, "no such escape", 0},
    {"{\"\\x\":1}", 0, -EINVAL, "byte 2 of the header: no such escape", 0},
    {"{\"\n\":1}", 0, -EINVAL, "a control character in a string", 0},
    {"{\"\0\":1}", 0, -EINVAL, "a control character in a string", 7},
    {"{\"\\u0000\":1}", 0, -EINVAL, "byte 2 of the header: a NUL in a string", 0},
    {"{\"\\u00g0\":1}", 0, -EINVAL, "four hexadecimal digits", 0},
    {"{\"\\u00\"", 0, -EINVAL, "four hexadecimal digits", 0},
    {"{\"\\ud800\":1}", 0, -EINVAL, "half of a surrogate pair", 0},
    {"{\"\\udc00\":1}", 0, -EINVAL, "half of a surrogate pair", 0},
    {"{\"\\ud800\\u0041\":1}", 0, -EINVAL, "half of a surrogate pair", 0},
    {"{\"\\udc00\\ud800\":1}", 0, -EINVAL, "half of a surrogate pair", 0},
    {"{\"\x80\":1}", 0, -EINVAL, "byte 2 of the header: not UTF-8", 0},
    {"{\"\xc0\x80\":1}", 0, -EINVAL, "not UTF-8", 0},
    {"{\"\xc3\":1}", 0, -EINVAL, "not UTF-8", 0},
    {"{\"\xe0\x80\x80\":1}", 0, -EINVAL, "not UTF-8", 0},
    {"{\"\xed\xa0\x80\":1}", 0, -EINVAL, "not UTF-8", 0},
    {"{\"\xf4\x90\x80\x80\":1}", 0, -EINVAL, "not UTF-8", 0},
    {"{\"\xf8\x88\x80\x80\x80\":1}", 0, -EINVAL, "not UTF-8", 0},
    {"{\"\xef\xbb", 0, -EINVAL, "not UTF-8", 0},
};

static void each_rule(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        size_t length = headers[i].length != 0 ? headers[i].length : strlen(headers[i].header);
        put_tensors("rule", headers[i].header, length, headers[i].data);
        struct memopt_tensors *file = (void *)1;
        error.message[0] = '\0';
        int r = memopt_tensors_open("rule", &file, &error);
        if (r != headers[i].code)
            fail_msg("%s: %d, %s", headers[i].header, r, error.message);
        if (r == 0) {
            memopt_tensors_close(file);
            continue;
        }
        assert_ptr_equal(file, (void *)1);
        assert_int_equal(error.code, r);
        if (strncmp(error.message, "'rule': ", 8) != 0 ||
            strstr(error.message, headers[i].says) == NULL)
            fail_msg("%s: said '%s', expected '%s'", headers[i].header, error.message,
                     headers[i].says);
    }
}

/* Bounds that no small header reaches. */
static void bounds(void **state) {
    (void)state;
    struct memopt_tensors *file;
    static const struct {
        unsigned char bytes[16];
        size_t length;
        int code;
        const char *says;
    } files[] = {
        {"", 0, -EINVAL, "'bound': 0 bytes, too short for a safetensors file"},
        {"\2\0\0\0\0\0\0", 7, -EINVAL, "7 bytes, too short"},
        {"\0\0\0\0\0\0\0\0", 8, -EINVAL, "byte 0 of the header: expected '{'"},
        {"\3\0\0\0\0\0\0\0{}", 10, -EINVAL, "a header of 3 bytes in a file of 10"},
        {"\0\xe1\xf5\5\0\0\0\0{}", 10, -EINVAL, "a header of 100000000 bytes in a file of 10"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, -EINVAL,
         "it is cut short, or no safetensors file: a header of 18446744073709551615 bytes"},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        put_file("bound", files[i].bytes, files[i].length);
        assert_int_equal(memopt_tensors_open("bound", &file, &error), files[i].code);
        if (strstr(error.message, files[i].says) == NULL)
            fail_msg("%zu: %s", i, error.message);
    }

    put_file("bound", "\1\xe1\xf5\5\0\0\0\0{}", 10);
    assert_int_equal(truncate("bound", 100000009), 0);
    assert_int_equal(memopt_tensors_open("bound", &file, &error), -EFBIG);
    assert_non_null(
        strstr(error.message, "a header of 100000001 bytes; at most 100000000 are allowed"));

    /* rank: 64 dimensions are allowed, 65 are not */
    for (unsigned rank = 64; rank <= 65; rank++) {
        char header[1024];
        int length = snprintf(header, sizeof(header), "{\"a\":{\"dtype\":\"U8\",\"shape\":[1");
        for (unsigned i = 1; i < rank; i++)
            length += snprintf(header + length, sizeof(header) - (size_t)length, ",1");
        length += snprintf(header + length, sizeof(header) - (size_t)length,
                           "],\"data_offsets\":[0,1]}}");
        put_tensors("bound", header, (size_t)length, 1);
        int r = memopt_tensors_open("bound", &file, &error);
        if (rank == 64) {
            assert_int_equal(r, 0);
            memopt_tensors_close(file);
        } else {
            assert_int_equal(r, -EINVAL);
            assert_non_null(strstr(error.message, "a shape of more than 64 dimensions"));
        }
    }

    /* what is no file */
    assert_int_equal(memopt_tensors_open("nothing", &file, &error), -ENOENT);
    assert_string_equal(error.message, "'nothing': No such file or directory");
    assert_int_equal(memopt_tensors_open(".", &file, &error), -EINVAL);
    assert_string_equal(error.message, "'.': not a regular file");
    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(memopt_tensors_open("fifo", &file, &error), -EINVAL);
    unlink("fifo");
    assert_int_equal(memopt_tensors_open(NULL, &file, &error), -EINVAL);
    assert_int_equal(memopt_tensors_open("bound", NULL, NULL), -EINVAL);
}

/* A million tensors, and one more; through the writer and by hand. */
static void very_many(void **state) {
    (void)state;
    struct memopt_tensors *file;
    for (unsigned count = MEMOPT_TENSORS_MAX; count <= MEMOPT_TENSORS_MAX + 1; count++) {
        FILE *f = fopen("many", "w");
        assert_non_null(f);
        uint64_t length = 0;
        fwrite(&length, 8, 1, f);
        length += (uint64_t)fprintf(f, "{");
        for (unsigned i = 0; i < count; i++)
            length +=
                (uint64_t)fprintf(f, "%s" T("%x", "U8", "[0]", "[0,0]"), i == 0 ? "" : ",", i);
        length += (uint64_t)fprintf(f, "}");
        rewind(f);
        fwrite(&length, 8, 1, f);
        assert_int_equal(fclose(f), 0);
        int r = memopt_tensors_open("many", &file, &error);
        if (count == MEMOPT_TENSORS_MAX) {
            assert_int_equal(r, 0);
            assert_int_equal(memopt_tensors_count(file), count);
            assert_true(memopt_tensors_find(file, "f423f", NULL, &error) >= 0);
            memopt_tensors_close(file);
        } else {
            assert_int_equal(r, -EINVAL);
            assert_non_null(strstr(error.message, "more than 1000000 tensors"));
        }
    }
    unlink("many");
}

/* ------------------------------------------------------------------ reading */

static void reads(void **state) {
    (void)state;
    static const char header[] =
        "{" T("b", "U8", "[3]", "[8,11]") ",\"__metadata__\":{\"z\":\"1\",\"a\":\"\\u00e9\"}," A
                                          "," T("s", "I16", "[]", "[11,13]") "," T(
                                              "e", "F32", "[2,0]", "[8,8]") "}  ";
    put_tensors("read", header, sizeof(header) - 1, 13);
    struct memopt_tensors *file;
    assert_int_equal(memopt_tensors_open("read", &file, &error), 0);
    static const struct {
        const char *name;
        int dtype;
        unsigned rank;
        uint64_t elements, bytes, begin;
    } want[] = {{"a", MEMOPT_DTYPE_F32, 1, 2, 8, 0},
                {"e", MEMOPT_DTYPE_F32, 2, 0, 0, 8},
                {"b", MEMOPT_DTYPE_U8, 1, 3, 3, 8},
                {"s", MEMOPT_DTYPE_I16, 0, 1, 2, 11}};
    assert_int_equal(memopt_tensors_count(file), 4);
    for (size_t i = 0; i < 4; i++) {
        struct memopt_tensor t = MEMOPT_TENSOR_INIT, found = MEMOPT_TENSOR_INIT;
        assert_int_equal(memopt_tensors_get(file, i, &t, &error), 0);
        assert_string_equal(t.name, want[i].name);
        assert_int_equal(t.dtype, want[i].dtype);
        assert_int_equal(t.rank, want[i].rank);
        assert_int_equal(t.elements, want[i].elements);
        assert_int_equal(t.bytes, want[i].bytes);
        assert_int_equal(t.offset, 8 + sizeof(header) - 1 + want[i].begin);
        assert_int_equal(memopt_tensors_find(file, want[i].name, &found, &error), i);
        assert_memory_equal(&t, &found, sizeof(t));
        unsigned char bytes[8] = {0};
        assert_int_equal(memopt_tensors_read(file, i, 0, bytes, t.bytes, &error), 0);
        for (size_t b = 0; b < t.bytes; b++)
            assert_int_equal(bytes[b], want[i].begin + b);
        for (size_t b = 0; b <= t.bytes; b++) {
            assert_int_equal(memopt_tensors_read(file, i, b, bytes, t.bytes - b, &error), 0);
            assert_int_equal(memopt_tensors_read(file, i, b, bytes, t.bytes - b + 1, &error),
                             -EINVAL);
        }
        assert_int_equal(memopt_tensors_read(file, i, UINT64_MAX, bytes, 1, &error), -EINVAL);
    }
    assert_string_equal(memopt_tensors_metadata(file, "z"), "1");
    assert_string_equal(memopt_tensors_metadata(file, "a"), "\xc3\xa9");
    assert_null(memopt_tensors_metadata(file, "b"));
    const char *key, *value;
    assert_int_equal(memopt_tensors_metadata_count(file), 2);
    assert_int_equal(memopt_tensors_metadata_get(file, 1, &key, &value), 0);
    assert_string_equal(key, "z");
    assert_string_equal(value, "1");
    assert_int_equal(memopt_tensors_metadata_get(file, 2, &key, &value), -EINVAL);

    /* views: those of other writers may be unaligned */
    const void *view = NULL;
    assert_int_equal(memopt_tensors_view(file, 2, &view, &error), 0);
    assert_memory_equal(view, "\10\11\12", 3);
    struct memopt_tensor t = MEMOPT_TENSOR_INIT;
    memopt_tensors_get(file, 3, &t, NULL);
    int odd = t.offset % 2 != 0;
    assert_int_equal(memopt_tensors_view(file, 3, &view, &error), odd ? -ENOTSUP : 0);

    /* bad calls */
    struct memopt_tensor wrong = {.size = sizeof(wrong) + 1};
    assert_int_equal(memopt_tensors_get(file, 0, &wrong, &error), -EINVAL);
    assert_int_equal(memopt_tensors_get(file, 4, &t, &error), -EINVAL);
    assert_string_equal(error.message, "'read': no tensor 4; it has 4, from 0");
    assert_int_equal(memopt_tensors_get(NULL, 0, &t, &error), -EINVAL);
    assert_int_equal(memopt_tensors_get(file, 0, NULL, &error), -EINVAL);
    assert_int_equal(memopt_tensors_find(file, "c", &t, &error), -ENOENT);
    assert_string_equal(error.message, "'read': there is no tensor 'c'");
    assert_int_equal(memopt_tensors_find(file, NULL, &t, &error), -EINVAL);
    assert_int_equal(memopt_tensors_read(file, 0, 0, NULL, 1, &error), -EINVAL);
    assert_int_equal(memopt_tensors_view(file, 4, &view, &error), -EINVAL);
    assert_int_equal(memopt_tensors_view(file, 0, NULL, &error), -EINVAL);
    assert_null(memopt_tensors_metadata(NULL, "a"));
    assert_int_equal(memopt_tensors_count(NULL), 0);

    /* cut short behind its back */
    char byte[8];
    assert_int_equal(truncate("read", 100), 0);
    assert_int_equal(memopt_tensors_read(file, 0, 0, byte, 8, &error), -EIO);
    assert_string_equal(error.message,
                        "'read': tensor 'a': the file has become shorter since it was opened");
    memopt_tensors_close(file);
    memopt_tensors_close(NULL);
    unlink("read");
}

/* One file, several threads: each its own reads, all the first view. */
static struct memopt_tensors *shared;
static void *read_shared(void *context) {
    for (int i = 0; i < 200; i++) {
        unsigned char bytes[8];
        const void *view;
        struct memopt_tensor t = MEMOPT_TENSOR_INIT;
        if (memopt_tensors_find(shared, "a", &t, NULL) != 0 ||
            memopt_tensors_view(shared, 0, &view, NULL) != 0 ||
            memopt_tensors_read(shared, 0, 0, bytes, 8, NULL) != 0 || memcmp(view, bytes, 8) != 0)
            return context;
    }
    return NULL;
}

static void threads(void **state) {
    (void)state;
    static const char header[] = "{" A "}    ";
    for (int round = 0; round < 20; round++) {
        pthread_t ids[4];
        void *wrong;
        put_tensors("shared", header, sizeof(header) - 1 - (sizeof(header) - 1) % 4, 8);
        assert_int_equal(memopt_tensors_open("shared", &shared, &error), 0);
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&ids[i], NULL, read_shared, &error), 0);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(ids[i], &wrong), 0);
            assert_null(wrong);
        }
        memopt_tensors_close(shared);
    }
    unlink("shared");
}

/* --------------------------------------------------------------- round trip */

static uint64_t random_state = 1;
static uint64_t next_random(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 33;
}

static void round_trip(void **state) {
    (void)state;
    for (int round = 0; round < 50; round++) {
        enum { TENSORS = 20 };
        struct {
            char name[40];
            int dtype;
            unsigned rank;
            uint64_t shape[4];
            size_t bytes;
            unsigned char *data;
        } all[TENSORS];
        struct memopt_tensors_writer *writer;
        struct memopt_tensors *file;
        assert_int_equal(memopt_tensors_writer_open("trip", &writer, &error), 0);
        assert_int_equal(memopt_tensors_writer_metadata(writer, "k\"\\\n\1", "\t\xc3\xa9", &error),
                         0);
        for (int i = 0; i < TENSORS; i++) {
            snprintf(all[i].name, sizeof(all[i].name),
                     i % 3 ? "t%d.\"\\\n\x1f" : "\xf0\x9f\x98\x80%d", i);
            all[i].dtype = (int)(next_random() % 19) + 1;
            all[i].rank = (unsigned)(next_random() % 5);
            all[i].bytes = memopt_dtype_size(all[i].dtype);
            for (unsigned d = 0; d < all[i].rank; d++) {
                all[i].shape[d] = next_random() % 8;
                all[i].bytes *= all[i].shape[d];
            }
            all[i].data = malloc(all[i].bytes + 1);
            for (size_t b = 0; b < all[i].bytes; b++)
                all[i].data[b] = (unsigned char)next_random();
            assert_int_equal(memopt_tensors_writer_add(writer, all[i].name, all[i].dtype,
                                                       all[i].rank, all[i].shape, &error),
                             i);
        }
        /* in pieces, backwards and forwards, some twice */
        for (int i = TENSORS - 1; i >= 0; i--) {
            size_t middle = all[i].bytes == 0 ? 0 : next_random() % all[i].bytes;
            assert_int_equal(memopt_tensors_writer_write(writer, (size_t)i, middle,
                                                         all[i].data + middle,
                                                         all[i].bytes - middle, &error),
                             0);
            if (i % 4 == 0)
                assert_int_equal(memopt_tensors_writer_write(writer, (size_t)i, 0, all[i].data,
                                                             all[i].bytes, &error),
                                 0);
            if (middle > 0 && i % 4 != 0) {
                int r = memopt_tensors_writer_commit(writer, &error);
                assert_int_equal(r, -ENODATA);
                assert_int_equal(
                    memopt_tensors_writer_write(writer, (size_t)i, 0, all[i].data, middle, &error),
                    0);
            }
        }
        assert_int_equal(memopt_tensors_writer_commit(writer, &error), 0);
        memopt_tensors_writer_close(writer);

        assert_int_equal(memopt_tensors_open("trip", &file, &error), 0);
        assert_int_equal(memopt_tensors_count(file), TENSORS);
        assert_string_equal(memopt_tensors_metadata(file, "k\"\\\n\1"), "\t\xc3\xa9");
        struct memopt_tensor first = MEMOPT_TENSOR_INIT;
        memopt_tensors_get(file, 0, &first, NULL);
        assert_int_equal(first.offset % MEMOPT_TENSORS_ALIGNMENT, 0);
        for (int i = 0; i < TENSORS; i++) {
            struct memopt_tensor t = MEMOPT_TENSOR_INIT;
            ssize_t index = memopt_tensors_find(file, all[i].name, &t, &error);
            assert_true(index >= 0);
            assert_int_equal(t.dtype, all[i].dtype);
            assert_int_equal(t.rank, all[i].rank);
            assert_int_equal(t.bytes, all[i].bytes);
            assert_int_equal(t.offset % memopt_dtype_size(t.dtype), 0);
            if (t.rank > 0)
                assert_memory_equal(t.shape, all[i].shape, t.rank * sizeof(*t.shape));
            unsigned char *back = malloc(all[i].bytes + 1);
            assert_int_equal(
                memopt_tensors_read(file, (size_t)index, 0, back, all[i].bytes, &error), 0);
            assert_memory_equal(back, all[i].data, all[i].bytes);
            const void *view;
            assert_int_equal(memopt_tensors_view(file, (size_t)index, &view, &error), 0);
            assert_memory_equal(view, all[i].data, all[i].bytes);
            free(back);
            free(all[i].data);
        }
        memopt_tensors_close(file);
    }
    assert_int_equal(unlink("trip"), 0);
    assert_int_equal(files_here(), 2); /* rule, bound */
}

/* ------------------------------------------------------------------ writing */

static void refused_declarations(void **state) {
    (void)state;
    struct memopt_tensors_writer *writer;
    size_t before = files_here();
    assert_int_equal(memopt_tensors_writer_open("new", &writer, &error), 0);
    assert_int_equal(files_here(), before + 1);
    static const struct {
        const char *name;
        int dtype;
        unsigned rank;
        uint64_t shape[2];
        int no_shape, code;
        const char *says;
    } bad[] = {
        {NULL, 15, 0, {0}, 0, -EINVAL, "no name was given"},
        {"a\x80", 15, 0, {0}, 0, -EINVAL, "the name is not UTF-8"},
        {"__metadata__", 15, 0, {0}, 0, -EINVAL, "is the format's own"},
        {"a", 0, 0, {0}, 0, -EINVAL, "no type 0"},
        {"a", 20, 0, {0}, 0, -EINVAL, "no type 20"},
        {"a", 15, 65, {0}, 0, -EINVAL, "65 dimensions; at most 64"},
        {"a", 15, 1, {0}, 1, -EINVAL, "1 dimensions without a shape"},
        {"a", 15, 2, {1ull << 32, 1ull << 32}, 0, -EINVAL, "its shape needs more than 64 bits"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t shape[65] = {bad[i].shape[0], bad[i].shape[1]};
        assert_int_equal(memopt_tensors_writer_add(writer, bad[i].name, bad[i].dtype, bad[i].rank,
                                                   bad[i].no_shape ? NULL : shape, &error),
                         bad[i].code);
        if (strncmp(error.message, "'new': ", 7) != 0 || strstr(error.message, bad[i].says) == NULL)
            fail_msg("%zu: %s", i, error.message);
    }
    uint64_t two = 2;
    float data[2] = {1, 2};
    assert_int_equal(memopt_tensors_writer_add(writer, "a", MEMOPT_DTYPE_F32, 1, &two, &error), 0);
    assert_int_equal(memopt_tensors_writer_add(writer, "a", MEMOPT_DTYPE_F32, 0, NULL, &error),
                     -EEXIST);
    assert_string_equal(error.message, "'new': tensor 'a' is there already");
    assert_int_equal(memopt_tensors_writer_metadata(writer, "k", "v", &error), 0);
    assert_int_equal(memopt_tensors_writer_metadata(writer, "k", "w", &error), -EEXIST);
    assert_int_equal(memopt_tensors_writer_metadata(writer, "k", NULL, &error), -EINVAL);
    assert_int_equal(memopt_tensors_writer_metadata(writer, "\xff", "", &error), -EINVAL);
    assert_int_equal(memopt_tensors_writer_write(writer, 1, 0, data, 8, &error), -EINVAL);
    assert_int_equal(memopt_tensors_writer_write(writer, 0, 0, NULL, 8, &error), -EINVAL);
    assert_int_equal(memopt_tensors_writer_write(writer, 0, 1, data, 8, &error), -EINVAL);
    assert_string_equal(error.message,
                        "'new': 8 bytes at 1 are not all in tensor 'a', which has 8");
    assert_int_equal(memopt_tensors_writer_commit(writer, &error), -ENODATA);
    assert_string_equal(error.message, "'new': byte 0 of tensor 'a' was never written");
    assert_int_equal(memopt_tensors_writer_add(writer, "b", MEMOPT_DTYPE_F32, 1, &two, &error),
                     -EBUSY);
    assert_int_equal(memopt_tensors_writer_write(writer, 0, 0, data, 4, &error), 0);
    assert_int_equal(memopt_tensors_writer_commit(writer, &error), -ENODATA);
    assert_string_equal(error.message, "'new': byte 4 of tensor 'a' was never written");
    assert_int_equal(memopt_tensors_writer_write(writer, 0, 4, data + 1, 4, &error), 0);
    assert_int_equal(memopt_tensors_writer_commit(writer, &error), 0);
    assert_int_equal(memopt_tensors_writer_commit(writer, &error), -EINVAL);
    assert_int_equal(memopt_tensors_writer_write(writer, 0, 0, data, 8, &error), -EINVAL);
    memopt_tensors_writer_close(writer);
    memopt_tensors_writer_close(NULL);
    assert_int_equal(memopt_tensors_writer_add(NULL, "a", 1, 0, NULL, &error), -EINVAL);
    assert_int_equal(memopt_tensors_writer_commit(NULL, &error), -EINVAL);

    /* a header that would be too large */
    char *value = malloc(60000000);
    memset(value, 'v', 60000000 - 1);
    value[60000000 - 1] = '\0';
    assert_int_equal(memopt_tensors_writer_open("new", &writer, &error), 0);
    assert_int_equal(memopt_tensors_writer_metadata(writer, "k", value, &error), 0);
    assert_int_equal(memopt_tensors_writer_metadata(writer, "l", value, &error), 0);
    assert_int_equal(memopt_tensors_writer_commit(writer, &error), -EFBIG);
    assert_string_equal(error.message, "'new': the header would have more than 100000000 bytes");
    memopt_tensors_writer_close(writer);
    free(value);
    /* data that no file can have */
    uint64_t huge = 1ull << 62;
    assert_int_equal(memopt_tensors_writer_open("new", &writer, &error), 0);
    assert_int_equal(memopt_tensors_writer_add(writer, "a", MEMOPT_DTYPE_U8, 1, &huge, &error), 0);
    assert_int_equal(memopt_tensors_writer_add(writer, "b", MEMOPT_DTYPE_U8, 1, &huge, &error), 1);
    assert_int_equal(memopt_tensors_writer_write(writer, 0, 0, "", 1, &error), -EFBIG);
    memopt_tensors_writer_close(writer);
    assert_int_equal(unlink("new"), 0);
    assert_int_equal(files_here(), before);
}

static void targets(void **state) {
    (void)state;
    struct memopt_tensors_writer *writer;
    struct stat st;
    assert_int_equal(memopt_tensors_writer_open("no/where", &writer, &error), -ENOENT);
    assert_string_equal(error.message,
                        "'no/where': its directory can't be opened: No such file or directory");
    assert_int_equal(memopt_tensors_writer_open("./", &writer, &error), -EINVAL);
    assert_int_equal(memopt_tensors_writer_open("..", &writer, &error), -EINVAL);
    assert_int_equal(symlink("rule", "link"), 0);
    assert_int_equal(memopt_tensors_writer_open("link", &writer, &error), -ELOOP);
    unlink("link");
    assert_int_equal(memopt_tensors_writer_open(NULL, &writer, &error), -EINVAL);

    /* the permissions of what is replaced; those of the umask otherwise */
    put_file("old", "old", 3);
    assert_int_equal(chmod("old", 0606), 0);
    mode_t mask = umask(027);
    for (int there = 2; there >= 0; there--) {
        if (there == 1) { /* even if it has none */
            put_file("old", "old", 3);
            assert_int_equal(chmod("old", 0), 0);
        }
        assert_int_equal(memopt_tensors_writer_open("./old", &writer, &error), 0);
        assert_int_equal(memopt_tensors_writer_commit(writer, &error), 0);
        memopt_tensors_writer_close(writer);
        assert_int_equal(stat("old", &st), 0);
        assert_int_equal(st.st_mode & 0777, there == 2 ? 0606 : there == 1 ? 0 : 0640);
        assert_int_equal(st.st_size, 4096);
        unlink("old");
    }
    umask(mask);
}

/* A child that has a copy of a writer neither commits nor removes its file. */
static void forked_writer(void **state) {
    (void)state;
    struct memopt_tensors_writer *writer;
    assert_int_equal(memopt_tensors_writer_open("forked", &writer, &error), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int r = memopt_tensors_writer_commit(writer, &error);
        memopt_tensors_writer_close(writer);
        _exit(r == -EPERM ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(memopt_tensors_writer_commit(writer, &error), 0);
    memopt_tensors_writer_close(writer);
    assert_int_equal(unlink("forked"), 0);
}

/* ------------------------------------------------------------------- faults */

/* System calls of the writer that fail, besides the allocations. */
static long call_nth, call_count, call_fired;
static int call_errno;
static int call_hits(void) {
    if (call_nth == 0 || ++call_count != call_nth)
        return 0;
    call_fired++;
    errno = call_errno;
    return 1;
}
ssize_t __real_pwrite(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    if (call_hits())
        return -1;
    /* short: the rest is another call */
    return __real_pwrite(fd, data, bytes > 1000 ? 1000 : bytes, offset);
}
ssize_t __real_pread(int fd, void *data, size_t bytes, off_t offset);
ssize_t __wrap_pread(int fd, void *data, size_t bytes, off_t offset);
ssize_t __wrap_pread(int fd, void *data, size_t bytes, off_t offset) {
    return call_hits() ? -1 : __real_pread(fd, data, bytes > 1000 ? 1000 : bytes, offset);
}
int __wrap_fsync(int fd);
int __wrap_fsync(int fd) {
    (void)fd; /* nothing is to survive a crash here */
    return call_hits() ? -1 : 0;
}
int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size) {
    return call_hits() ? -1 : __real_ftruncate(fd, size);
}
int __real_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new) {
    return call_hits() ? -1 : __real_renameat(from, old, to, new);
}
int __real_openat(int fd, const char *path, int flags, ...);
int __wrap_openat(int fd, const char *path, int flags, mode_t mode);
int __wrap_openat(int fd, const char *path, int flags, mode_t mode) {
    /* the others look for what killed writers have left, which may fail */
    return (flags & O_CREAT) != 0 && call_hits() ? -1 : __real_openat(fd, path, flags, mode);
}
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, mode_t mode) {
    return call_hits() ? -1 : __real_open(path, flags, mode);
}
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    return call_hits() ? (void *)-1 : __real_mmap(address, size, protection, flags, fd, offset);
}

void *__real_reallocarray(void *p, size_t count, size_t size);
void *__wrap_reallocarray(void *p, size_t count, size_t size);
void *__wrap_reallocarray(void *p, size_t count, size_t size) {
    return fault_hits() ? NULL : __real_reallocarray(p, count, size);
}

static uint64_t whole[3] = {10, 10, 10};
static float values[1000];

static int save(const char *path) {
    struct memopt_tensors_writer *writer = NULL;
    int r = memopt_tensors_writer_open(path, &writer, &error);
    if (r < 0)
        return r;
    for (int i = 0; i < 20 && r >= 0; i++) {
        char name[8];
        snprintf(name, sizeof(name), "t%d", i);
        r = (int)memopt_tensors_writer_add(writer, name, MEMOPT_DTYPE_F32, 3, whole, &error);
    }
    if (r >= 0)
        r = memopt_tensors_writer_metadata(writer, "key", "value", &error);
    for (size_t i = 0; i < 20 && r >= 0; i += 2)
        r = memopt_tensors_writer_write(writer, i, 0, values, sizeof(values), &error);
    for (size_t i = 1; i < 20 && r >= 0; i += 2)
        r = memopt_tensors_writer_write(writer, i, 0, values, sizeof(values), &error);
    if (r >= 0)
        r = memopt_tensors_writer_commit(writer, &error);
    memopt_tensors_writer_close(writer);
    return r;
}

static int load(const char *path) {
    struct memopt_tensors *file = NULL;
    float back[1000];
    const void *view;
    int r = memopt_tensors_open(path, &file, &error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < 20 && r == 0; i++) {
        memset(back, 0, sizeof(back));
        r = memopt_tensors_read(file, i, 0, back, sizeof(back), &error);
        if (r == 0)
            assert_memory_equal(back, values, sizeof(values));
        if (r == 0)
            r = memopt_tensors_view(file, i, &view, &error);
        if (r == 0)
            assert_memory_equal(view, values, sizeof(values));
    }
    memopt_tensors_close(file);
    return r;
}

static void old_file(const char *path) {
    char bytes[8] = "";
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fread(bytes, 1, sizeof(bytes), f), 3);
    assert_memory_equal(bytes, "old", 3);
    fclose(f);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    put_file("kept", "old", 3);
    size_t before = files_here();
    for (int for_good = 0; for_good < 2; for_good++) {
        long nth = 0;
        do {
            put_file("kept", "old", 3);
            fault_arm(++nth, for_good);
            int r = save("kept");
            long fired = fault.fired;
            fault_arm(0, 0);
            assert_int_equal(files_here(), before);
            assert_int_equal(r, fired ? -ENOMEM : 0);
            if (!fired)
                break;
            old_file("kept");
        } while (1);
        assert_true(nth > 25);
        nth = 0;
        do {
            fault_arm(++nth, for_good);
            int r = load("kept");
            long fired = fault.fired;
            fault_arm(0, 0);
            assert_int_equal(r, fired ? -ENOMEM : 0);
            if (!fired)
                break;
        } while (1);
        assert_true(nth > 5);
    }
    unlink("kept");
}

static void every_call_may_fail(void **state) {
    (void)state;
    static const int codes[] = {ENOSPC, EIO, EINTR};
    put_file("kept", "old", 3);
    size_t before = files_here();
    for (size_t c = 0; c < sizeof(codes) / sizeof(codes[0]); c++) {
        call_errno = codes[c];
        for (long nth = 1;; nth++) {
            put_file("kept", "old", 3);
            call_count = call_fired = 0;
            call_nth = nth;
            int r = save("kept");
            call_nth = 0;
            assert_int_equal(files_here(), before);
            if (!call_fired) {
                assert_int_equal(r, 0);
                assert_true(nth > 50);
                break;
            }
            if (r == 0) {
                assert_int_equal(codes[c], EINTR); /* tried again */
                assert_int_equal(load("kept"), 0);
                continue;
            }
            assert_int_equal(r, -codes[c]);
            if (strstr(error.message, "may be gone after a crash") != NULL)
                assert_int_equal(load("kept"), 0);
            else
                old_file("kept");
        }
        for (long nth = 1;; nth++) {
            call_count = call_fired = 0;
            call_nth = nth;
            int r = load("kept");
            call_nth = 0;
            if (!call_fired) {
                assert_int_equal(r, 0);
                break;
            }
            assert_true(r == -codes[c] || (r == 0 && codes[c] == EINTR));
        }
    }
    unlink("kept");
}

/* A write that failed may be tried again. */
static void write_again(void **state) {
    (void)state;
    struct memopt_tensors_writer *writer;
    assert_int_equal(memopt_tensors_writer_open("again", &writer, &error), 0);
    assert_int_equal(memopt_tensors_writer_add(writer, "a", MEMOPT_DTYPE_F32, 3, whole, &error), 0);
    for (long nth = 1; nth < 8; nth++) {
        call_errno = ENOSPC;
        call_count = 0;
        call_nth = nth;
        int r = memopt_tensors_writer_write(writer, 0, 0, values, sizeof(values), &error);
        call_nth = 0;
        assert_true(r == -ENOSPC || r == 0);
    }
    assert_int_equal(memopt_tensors_writer_write(writer, 0, 0, values, sizeof(values), &error), 0);
    /* but a sync that failed stays failed */
    call_errno = EIO;
    call_count = 0;
    call_nth = 1;
    assert_int_equal(memopt_tensors_writer_commit(writer, &error), -EIO);
    call_nth = 0;
    assert_int_equal(memopt_tensors_writer_commit(writer, &error), -EIO);
    assert_string_equal(error.message, "'again': syncing it failed before: Input/output error");
    memopt_tensors_writer_close(writer);
    assert_int_equal(access("again", F_OK), -1);
}

static void file_size_limit(void **state) {
    (void)state;
    put_file("kept", "old", 3);
    size_t before = files_here();
    for (rlim_t limit = 0; limit <= 100 * 1024; limit += 4096) {
        pid_t pid = fork();
        if (pid == 0) {
            struct rlimit small = {limit, limit};
            setrlimit(RLIMIT_FSIZE, &small); /* SIGXFSZ would kill */
            int r = save("kept");
            _exit(r == 0 ? 0 : r == -EFBIG ? 1 : 2);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), limit < 84096 ? 1 : 0);
        if (WEXITSTATUS(status) == 1)
            old_file("kept");
        else
            assert_int_equal(load("kept"), 0);
        assert_int_equal(files_here(), before);
    }
    unlink("kept");
}

static void types(void **state) {
    (void)state;
    size_t last = 0;
    for (int d = 1; memopt_dtype_name(d) != NULL; d++) {
        assert_int_equal(memopt_dtype_find(memopt_dtype_name(d)), d);
        assert_true(memopt_dtype_size(d) >= last);
        last = memopt_dtype_size(d);
    }
    assert_int_equal(memopt_dtype_size(MEMOPT_DTYPE_BF16), 2);
    assert_int_equal(memopt_dtype_size(0), 0);
    assert_int_equal(memopt_dtype_size(-1), 0);
    assert_int_equal(memopt_dtype_size(20), 0);
    assert_null(memopt_dtype_name(20));
    assert_int_equal(memopt_dtype_find("F4"), -ENOENT);
    assert_int_equal(memopt_dtype_find(NULL), -ENOENT);
}

int main(void) {
    for (size_t i = 0; i < 1000; i++)
        values[i] = (float)i / 7.0f;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rule),
        cmocka_unit_test(bounds),
        cmocka_unit_test(very_many),
        cmocka_unit_test(reads),
        cmocka_unit_test(threads),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(refused_declarations),
        cmocka_unit_test(targets),
        cmocka_unit_test(forked_writer),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_call_may_fail),
        cmocka_unit_test(write_again),
        cmocka_unit_test(file_size_limit),
        cmocka_unit_test(types),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
