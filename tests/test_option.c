/* test_option.c - option types: what is read, what is refused and in which
 * words, printing and comparing; the program's own INI reader. */
#include "core/option/flat.h"
#include "core/option/option.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define BIG "18446744073709551615"

/* What a text must give; where it is none, the value stays as it was. */
struct parsed {
    const char *text;
    int result;
    uint64_t value;
};

static void expect_parsed(int (*parse)(const char *, uint64_t *), const struct parsed *cases,
                          size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 77;
        int result = parse(cases[i].text, &value);
        if (result != cases[i].result || value != (result == 0 ? cases[i].value : 77))
            fail_msg("'%s' gives %d, %llu", cases[i].text, result, (unsigned long long)value);
    }
}

static void sizes(void **state) {
    (void)state;
    static const struct parsed cases[] = {
        {"0", 0, 0},
        {"4096", 0, 4096},
        {"4096B", 0, 4096},
        {"64KiB", 0, 65536},
        {"64kib", 0, 65536},
        {"64 KiB", 0, 65536},
        {"64k", 0, 65536},
        {"1.5GiB", 0, 1610612736},
        {"2MB", 0, 2000000},
        {"2M", 0, 2097152},
        {"0.1KiB", 0, 102},
        {"1TiB", 0, UINT64_C(1) << 40},
        {"3PB", 0, UINT64_C(3000000000000000)},
        {"15.99EiB", 0, UINT64_C(18435214858663483146)},
        {"16EiB", -ERANGE, 0},
        {"18446744073709551614", 0, UINT64_MAX - 1},
        {BIG, -ERANGE, 0}, /* means unset */
        {"18446744073709551616", -ERANGE, 0},
        {"99999999999999999999999999", -ERANGE, 0},
        {"0.00000000000000000000000000000001EiB", 0, 0},
        {"", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 ", 0, 1},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"1.0", 0, 1},
        {"1.", -EINVAL, 0},
        {".5KiB", -EINVAL, 0},
        {"1,5GiB", -EINVAL, 0},
        {"12Q", -EINVAL, 0},
        {"KiB", -EINVAL, 0},
        {"1KiBB", -EINVAL, 0},
        {"1KiB 2", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"1e3", -EINVAL, 0},
        {"99999999999999999999999Q", -EINVAL, 0},
    };
    expect_parsed(mo_parse_size, cases, sizeof(cases) / sizeof(*cases));
}

static void durations(void **state) {
    (void)state;
    static const struct parsed cases[] = {
        {"0", 0, 0},
        {"0ns", 0, 0},
        {"17ns", 0, 17},
        {"5us", 0, 5000},
        {"5\xc2\xb5s", 0, 5000},
        {"5\xce\xbcs", 0, 5000},
        {"250ms", 0, 250000000},
        {"1.5s", 0, 1500000000},
        {"2m", 0, UINT64_C(120000000000)},
        {"2 min", 0, UINT64_C(120000000000)},
        {"1h", 0, UINT64_C(3600000000000)},
        {"1d", 0, UINT64_C(86400000000000)},
        {"1h 30m", 0, UINT64_C(5400000000000)},
        {"1h30m", 0, UINT64_C(5400000000000)},
        {"1.5ns", -EINVAL, 0},
        {"5", -EINVAL, 0},
        {"1h 5", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"ms", -EINVAL, 0},
        {"-1s", -EINVAL, 0},
        {"1y", -EINVAL, 0},
        {"213503d", 0, UINT64_C(18446659200000000000)},
        {"213504d", -ERANGE, 0},
        {"213503d 86400s", -ERANGE, 0},
        {"213504d 1x", -EINVAL, 0},
        {"18446744073709551615ns", -ERANGE, 0},
    };
    expect_parsed(mo_parse_duration, cases, sizeof(cases) / sizeof(*cases));
}

static void numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int result;
        double value;
    } cases[] = {
        {"1e-3", 0, 1e-3},     {"0.1", 0, 0.1},       {"-2.5E+2", 0, -250}, {".5", 0, 0.5},
        {"+7", 0, 7},          {"1e999", -ERANGE, 0}, {"1e-999", 0, 0},     {"1,5", -EINVAL, 0},
        {"1.5.2", -EINVAL, 0}, {"1.", -EINVAL, 0},    {".", -EINVAL, 0},    {"", -EINVAL, 0},
        {"e5", -EINVAL, 0},    {"1e", -EINVAL, 0},    {"1e+", -EINVAL, 0},  {"inf", -EINVAL, 0},
        {"nan", -EINVAL, 0},   {"0x1p3", -EINVAL, 0}, {" 1", -EINVAL, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        double value = 77;
        int result = mo_parse_number(cases[i].text, &value);
        if (result != cases[i].result || value != (result == 0 ? cases[i].value : 77))
            fail_msg("'%s' gives %d, %g", cases[i].text, result, value);
    }
}

struct settings {
    int follow;
    int64_t depth;
    uint64_t chunk;
    uint64_t interval;
    double ratio;
    double rate;
    int binding;
    struct memopt_list steps;
    struct memopt_list names;
    const char *file;
    const char *title;
    uint64_t limit;
};
static const char *const bindings[] = {"auto", "direct", "dispatch", NULL};
static const char *const steps[] = {"purge", "spill", "fail", NULL};
static const struct memopt_option rows[] = {
    MEMOPT_OPT_BOOL(struct settings, follow, "follow", "yes", "children too"),
    MEMOPT_OPT_INT(struct settings, depth, "depth", "64", "1", "256", "frames", "stack depth"),
    MEMOPT_OPT_SIZE(struct settings, chunk, "chunk", "2MiB", "4KiB", "1GiB", "bytes at once"),
    MEMOPT_OPT_DURATION(struct settings, interval, "interval", "1s", "10ms", NULL, "how often"),
    MEMOPT_OPT_RATIO(struct settings, ratio, "ratio", "80%", "0%", "100%", "how full"),
    MEMOPT_OPT_NUMBER(struct settings, rate, "rate", "1e-3", "0", NULL, NULL, "learning rate"),
    MEMOPT_OPT_ENUM(struct settings, binding, "binding", "auto", bindings, "how to bind"),
    MEMOPT_OPT_LIST(struct settings, steps, "steps", "purge, fail", steps, "what to do"),
    MEMOPT_OPT_LIST(struct settings, names, "names", NULL, NULL, "any names"),
    MEMOPT_OPT_PATH(struct settings, file, "file", NULL, "a file"),
    MEMOPT_OPT_STRING(struct settings, title, "title", "none", "a title"),
    MEMOPT_OPT_SIZE(struct settings, limit, "limit", NULL, NULL, NULL, "upper bound"),
    MEMOPT_OPT_END,
};
static const struct mo_option_table table = {rows, sizeof(rows[0])};

static void defaults(void **state) {
    (void)state;
    struct settings s;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    memset(&s, 0xa5, sizeof(s));
    assert_int_equal(mo_options_init(table, &s, &mo_sys_allocator, &error), 0);
    assert_int_equal(s.follow, 1);
    assert_int_equal(s.depth, 64);
    assert_int_equal(s.chunk, 2 << 20);
    assert_int_equal(s.interval, 1000000000);
    assert_true(s.ratio == 0.8);
    assert_true(s.rate == 1e-3);
    assert_int_equal(s.binding, 0);
    assert_int_equal(s.steps.count, 2);
    assert_string_equal(s.steps.items[1], "fail");
    assert_int_equal(s.names.count, 0);
    assert_null(s.file);
    assert_string_equal(s.title, "none");
    assert_true(s.limit == UINT64_MAX);
    assert_int_equal(mo_option_count(table), 12);
    assert_null(mo_option_at(table, 12));
    assert_int_equal(mo_option_count((struct mo_option_table){NULL, 64}), 0);
}

/* Every type parses, prints its canonical text and reads that back as equal. */
static void round_trips(void **state) {
    (void)state;
    static const struct {
        const char *key, *text, *printed;
    } cases[] = {
        {"follow", "off", "no"},
        {"follow", "TRUE", "yes"},
        {"follow", "1", "yes"},
        {"depth", "+12", "12"},
        {"chunk", "65536", "64KiB"},
        {"chunk", "1.5MiB", "1536KiB"},
        {"chunk", "5000", "5000"},
        {"interval", "1500us 10ms", "11500us"},
        {"interval", "120s", "2m"},
        {"ratio", "7%", "0.07"},
        {"ratio", "0.1", "0.1"},
        {"rate", "1e-3", "0.001"},
        {"rate", "0.30000000000000004", "0.30000000000000004"},
        {"rate", "1e300", "1e+300"},
        {"rate", "0", "0"},
        {"binding", "Dispatch", "dispatch"},
        {"steps", "fail,spill ,purge", "fail, spill, purge"},
        {"steps", "", ""},
        {"names", " a b , c", "a b, c"},
        {"file", "x/y", "/base/x/y"},
        {"file", "/x/y", "/x/y"},
        {"file", ".", "/base"},
        {"file", ".//./x", "/base/x"},
        {"file", "../x", "/base/../x"},
        {"file", "~/z", "/home/me/z"},
        {"file", "~", "/home/me"},
        {"file", "", ""},
        {"title", "a; b", "a; b"},
        {"title", "", ""},
        {"limit", "0", "0"},
        {"limit", "", ""},
    };
    setenv("HOME", "/home/me", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct memopt_option *option = mo_option_find(table, cases[i].key);
        struct memopt_error error = MEMOPT_ERROR_INIT;
        struct settings a, b;
        char text[128], cut[3];
        memset(&a, 0, sizeof(a));
        memset(&b, 0, sizeof(b));
        assert_non_null(option);
        if (mo_option_parse(option, cases[i].text, "/base", &a, &mo_sys_allocator, &error) != 0)
            fail_msg("%s", error.message);
        size_t length = mo_option_print(option, &a, text, sizeof(text));
        assert_string_equal(text, cases[i].printed);
        assert_int_equal(length, strlen(text));
        assert_int_equal(mo_option_print(option, &a, cut, sizeof(cut)), length);
        assert_true(strlen(cut) <= 2 && strncmp(cut, text, strlen(cut)) == 0);
        assert_int_equal(mo_option_parse(option, text, NULL, &b, &mo_sys_allocator, &error), 0);
        assert_int_equal(mo_option_compare(option, &a, &b), 0);
        /* validating alone accepts the same and needs no memory */
        assert_int_equal(mo_option_parse(option, text, NULL, NULL, NULL, &error), 0);
    }
}

static void refused(void **state) {
    (void)state;
    static const struct {
        const char *key, *text;
        int code;
        const char *message;
    } cases[] = {
        {"follow", "maybe", -EINVAL, "'follow' is 'maybe', not yes or no"},
        {"follow", "", -EINVAL, "'follow' is empty, not yes or no"},
        {"depth", "1.5", -EINVAL, "'depth' is '1.5', not a whole number of frames"},
        {"depth", "0", -ERANGE, "'depth' is '0', not within 1 .. 256 frames"},
        {"depth", "257", -ERANGE, "'depth' is '257', not within 1 .. 256 frames"},
        {"depth", "9223372036854775808", -ERANGE,
         "'depth' is '9223372036854775808', too large to be a whole number"},
        {"depth", "-9223372036854775808", -ERANGE,
         "'depth' is '-9223372036854775808', too large to be a whole number"},
        {"limit", "12Q", -EINVAL,
         "'limit' is '12Q', not a size (bytes, or a number with KiB, MiB, GiB, TiB)"},
        {"limit", "16EiB", -ERANGE,
         "'limit' is '16EiB', too large to be a size (bytes, or a number with KiB, MiB, GiB, "
         "TiB)"},
        {"chunk", "4095", -ERANGE, "'chunk' is '4095', not within 4KiB .. 1GiB"},
        {"chunk", "1025MiB", -ERANGE, "'chunk' is '1025MiB', not within 4KiB .. 1GiB"},
        {"interval", "5", -EINVAL,
         "'interval' is '5', not a duration (a number with ns, us, ms, s, m, h or d); a unit is "
         "missing"},
        {"interval", "9ms", -ERANGE, "'interval' is '9ms', not within 10ms or more"},
        {"ratio", "101%", -ERANGE, "'ratio' is '101%', not within 0% .. 100%"},
        {"ratio", "80 %", -EINVAL, "'ratio' is '80 %', not a ratio (0.8 or 80%)"},
        {"rate", "fast", -EINVAL, "'rate' is 'fast', not a number (such as 0.5 or 1e-3)"},
        {"rate", "-1", -ERANGE, "'rate' is '-1', not within 0 or more"},
        {"binding", "dispach", -EINVAL,
         "'binding' is 'dispach', not one of: auto, direct, dispatch; did you mean 'dispatch'?"},
        {"binding", "zzz", -EINVAL, "'binding' is 'zzz', not one of: auto, direct, dispatch"},
        {"steps", "purge, spil", -EINVAL,
         "'steps' has 'spil', not any of: purge, spill, fail; did you mean 'spill'?"},
        {"steps", "purge,,fail", -EINVAL,
         "'steps' is 'purge,,fail', which has an empty item (items are separated by commas)"},
        {"steps", "purge,", -EINVAL,
         "'steps' is 'purge,', which has an empty item (items are separated by commas)"},
        {"names", "a, b, a", -EINVAL, "'names' is 'a, b, a', which has an item twice"},
        {"file", "x", -EINVAL, "'file' is 'x', not an absolute path"},
        {"depth", "\033[31m\n", -EINVAL, "'depth' is '?[31m?', not a whole number of frames"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct memopt_option *option = mo_option_find(table, cases[i].key);
        struct memopt_error error = MEMOPT_ERROR_INIT;
        struct settings s, before;
        memset(&s, 0x5a, sizeof(s));
        before = s;
        int result = mo_option_parse(option, cases[i].text, NULL, &s, &mo_sys_allocator, &error);
        assert_string_equal(error.message, cases[i].message);
        assert_int_equal(result, cases[i].code);
        assert_int_equal(error.code, cases[i].code);
        assert_memory_equal(&s, &before, sizeof(s));
        assert_int_equal(mo_option_parse(option, cases[i].text, NULL, NULL, NULL, NULL), result);
    }
    unsetenv("HOME");
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(
        mo_option_parse(mo_option_find(table, "file"), "~/x", "/b", NULL, NULL, &error), -EINVAL);
    assert_string_equal(error.message,
                        "'file' is '~/x', but $HOME is not there to replace the '~'");
    char long_text[400];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    assert_int_equal(
        mo_option_parse(mo_option_find(table, "depth"), long_text, NULL, NULL, NULL, &error),
        -EINVAL);
    assert_true(strlen(error.message) < 200);
    assert_non_null(strstr(error.message, "xxx...'"));
}

static void compares(void **state) {
    (void)state;
    static const struct {
        const char *key, *low, *high;
    } cases[] = {
        {"follow", "no", "yes"},
        {"depth", "9", "10"},
        {"chunk", "9KiB", "10KiB"},
        {"interval", "1s", "1m"},
        {"ratio", "50%", "0.51"},
        {"rate", "1e-3", "1e-2"},
        {"binding", "auto", "direct"},
        {"names", "a", "a, b"},
        {"names", "a, b", "a, c"},
        {"file", "", "/a"},
        {"file", "/a", "/b"},
        {"title", "a", "b"},
        {"limit", "1", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct memopt_option *option = mo_option_find(table, cases[i].key);
        struct settings a, b;
        mo_option_parse(option, cases[i].low, "/", &a, &mo_sys_allocator, NULL);
        mo_option_parse(option, cases[i].high, "/", &b, &mo_sys_allocator, NULL);
        if (!(mo_option_compare(option, &a, &b) < 0 && mo_option_compare(option, &b, &a) > 0 &&
              mo_option_compare(option, &a, &a) == 0))
            fail_msg("%s: '%s' and '%s'", cases[i].key, cases[i].low, cases[i].high);
    }
}

static void nearest(void **state) {
    (void)state;
    static const struct {
        const char *word, *best;
    } cases[] = {
        {"folow", "follow"},
        {"fllow", "follow"},
        {"ofllow", "follow"},
        {"Chunk", "chunk"},
        {"intervall", "interval"},
        {"bnding", "binding"},
        {"xyzzy", NULL},
        {"", NULL},
        {"f", NULL},
        {"rato", "ratio"},
        {"step", "steps"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *best = mo_option_nearest(table, cases[i].word);
        if (best == NULL || cases[i].best == NULL ? best != cases[i].best
                                                  : strcmp(best, cases[i].best) != 0)
            fail_msg("'%s' gives '%s'", cases[i].word, best == NULL ? "nothing" : best);
    }
    char buffer[5000];
    memset(buffer, 'a', sizeof(buffer));
    buffer[sizeof(buffer) - 1] = '\0';
    assert_null(mo_option_nearest(table, buffer));
}

static void descriptions(void **state) {
    (void)state;
    static const struct {
        const char *key, *text;
    } cases[] = {
        {"follow", ""},
        {"depth", "1 .. 256"},
        {"interval", "10ms or more"},
        {"binding", "one of: auto, direct, dispatch"},
        {"steps", "any of: purge, spill, fail"},
    };
    char buffer[100];
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        mo_option_describe(mo_option_find(table, cases[i].key), buffer, sizeof(buffer));
        assert_string_equal(buffer, cases[i].text);
    }
    mo_option_describe(mo_option_find(table, "binding"), buffer, 12);
    assert_string_equal(buffer, "one of: aut");
    /* every type of the public enum is there, and nothing else */
    for (uint32_t type = MEMOPT_BOOL; type <= MEMOPT_STRING; type++)
        assert_non_null(mo_option_type_name(type));
    assert_null(mo_option_type_name(0));
    assert_null(mo_option_type_name(MEMOPT_STRING + 1));
}

/* Rows of a later minor are longer: the stride is the plugin's. */
static void strides(void **state) {
    (void)state;
    struct longer {
        struct memopt_option row;
        const char *more;
    } longer[] = {
        {MEMOPT_OPT_BOOL(struct settings, follow, "one", "no", "x"), "a"},
        {MEMOPT_OPT_INT(struct settings, depth, "two", "5", NULL, NULL, NULL, "x"), "b"},
        {MEMOPT_OPT_END, "c"},
    };
    struct mo_option_table wide = {&longer[0].row, sizeof(longer[0])};
    assert_int_equal(mo_option_count(wide), 2);
    assert_string_equal(mo_option_find(wide, "two")->value, "5");
}

/* The decimal point is '.' whatever the user's locale. */
static void locales(void **state) {
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "ps_AF.UTF-8"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (setlocale(LC_ALL, names[i]) == NULL)
            continue;
        numbers(NULL);
        round_trips(NULL);
    }
    setlocale(LC_ALL, "C");
}

static void *none(void *context, size_t size) {
    (void)context;
    (void)size;
    return NULL;
}

static void no_memory(void **state) {
    (void)state;
    static const struct mo_allocator empty = {none, NULL};
    static const char *const keys[] = {"names", "file", "title"};
    for (size_t i = 0; i < 3; i++) {
        struct settings s;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        assert_int_equal(
            mo_option_parse(mo_option_find(table, keys[i]), "/a", NULL, &s, &empty, &error),
            -ENOMEM);
        assert_string_equal(error.message, "out of memory");
    }
    char text[] = "[a]\nb = c\n";
    struct mo_flat flat;
    assert_int_equal(mo_flat_parse(text, &empty, &flat, NULL), -ENOMEM);
}

static void flat_reads(void **state) {
    (void)state;
    char text[] = "; made by memopt\n\n[one]\nfollow = no\nfile = /a = b ; c\r\n"
                  "[two.x]\n  depth=  7  \ndepth = 8\ntitle =\n[empty]\n[one]\nchunk = 8KiB";
    struct mo_flat flat;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(mo_flat_parse(text, &mo_sys_allocator, &flat, &error), 0);
    assert_int_equal(flat.count, 6);
    assert_string_equal(mo_flat_get(&flat, "one", "file"), "/a = b ; c");
    assert_string_equal(mo_flat_get(&flat, "two.x", "depth"), "8");
    assert_null(mo_flat_get(&flat, "two.x", "follow"));
    struct settings s;
    assert_int_equal(mo_flat_fill(&flat, "one", table, &s, &mo_sys_allocator, &error), 0);
    assert_int_equal(s.follow, 0);
    assert_int_equal(s.chunk, 8192);
    assert_int_equal(s.depth, 64);
    assert_int_equal(mo_flat_fill(&flat, "two.x", table, &s, &mo_sys_allocator, &error), 0);
    assert_int_equal(s.depth, 8);
    assert_string_equal(s.title, "");
    assert_int_equal(mo_flat_fill(&flat, "nowhere", table, &s, &mo_sys_allocator, &error), 0);
    assert_int_equal(s.depth, 64);
}

static void flat_refuses(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a = b\n", "line 1: not 'key = value' within a section"},
        {"[a]\nb\n", "line 2: not 'key = value' within a section"},
        {"[a]\n= b\n", "line 2: not 'key = value' within a section"},
        {"\n[a\n", "line 2: a section without ']'"},
        {"[]\n", "line 1: a section without ']'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char text[64];
        struct mo_flat flat;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        strcpy(text, cases[i].text);
        assert_int_equal(mo_flat_parse(text, &mo_sys_allocator, &flat, &error), -EINVAL);
        assert_string_equal(error.message, cases[i].message);
    }
    char text[] = "[one]\ndepth = 1000\n";
    struct mo_flat flat;
    struct settings s;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(mo_flat_parse(text, &mo_sys_allocator, &flat, &error), 0);
    assert_int_equal(mo_flat_fill(&flat, "one", table, &s, &mo_sys_allocator, &error), -ERANGE);
    assert_string_equal(error.message, "[one]: 'depth' is '1000', not within 1 .. 256 frames");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),        cmocka_unit_test(durations),
        cmocka_unit_test(numbers),      cmocka_unit_test(defaults),
        cmocka_unit_test(round_trips),  cmocka_unit_test(refused),
        cmocka_unit_test(compares),     cmocka_unit_test(nearest),
        cmocka_unit_test(descriptions), cmocka_unit_test(strides),
        cmocka_unit_test(locales),      cmocka_unit_test(no_memory),
        cmocka_unit_test(flat_reads),   cmocka_unit_test(flat_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
