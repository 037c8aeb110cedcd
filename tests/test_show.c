/* test_show.c - include/memopt/utf8.h and show.h: what is a character, and what of a stranger's
 * text reaches a terminal or a Markdown table, whole and piece by piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <memopt/show.h>
#include <memopt/utf8.h>

static const struct {
    unsigned how;
    const char *text, *shown;
} rows[] = {
    {0, "", ""},
    {0, "plain text, \\ and `all`", "plain text, \\ and `all`"},
    {0, "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
    {0, "\xd7\xa9\xd7\x9c", "\xd7\xa9\xd7\x9c"}, /* Hebrew is only text */
    /* controls */
    {0, "\033[2J", "\\x1b[2J"},
    {0, "a\nb\tc\r", "a\\x0ab\\x09c\\x0d"},
    {MEMOPT_SHOW_LINES, "a\nb\tc\r", "a\nb\tc\\x0d"},
    {0, "\x01\x7f", "\\x01\\x7f"},
    {0, "\xc2\x9b", "\\xc2\\x9b"}, /* C1: CSI */
    /* the direction of writing, and what is not seen */
    {0, "\xd8\x9c", "\\xd8\\x9c"},          /* U+061C */
    {0, "\xe2\x80\x8b", "\\xe2\\x80\\x8b"}, /* U+200B */
    {0, "\xe2\x80\x8e\xe2\x80\x8f", "\\xe2\\x80\\x8e\\xe2\\x80\\x8f"},
    {0, "\xe2\x80\xa8", "\\xe2\\x80\\xa8"},          /* U+2028 */
    {0, "x\xe2\x80\xaey", "x\\xe2\\x80\\xaey"},      /* U+202E */
    {0, "\xe2\x80\xaf", "\xe2\x80\xaf"},             /* U+202F, a blank */
    {0, "\xe2\x81\xa6", "\\xe2\\x81\\xa6"},          /* U+2066 */
    {0, "\xe2\x81\xb0", "\xe2\x81\xb0"},             /* U+2070, superscript */
    {0, "\xef\xbb\xbf", "\\xef\\xbb\\xbf"},          /* U+FEFF */
    {0, "\xf3\xa0\x81\x81", "\\xf3\\xa0\\x81\\x81"}, /* U+E0041 */
    /* no UTF-8 */
    {0, "\xff\xfe", "\\xff\\xfe"},
    {0, "\xc0\xaf", "\\xc0\\xaf"},
    {0, "\xe0\x80\xaf", "\\xe0\\x80\\xaf"},
    {0, "\xed\xa0\x80", "\\xed\\xa0\\x80"},
    {0, "\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf"},
    {0, "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
    {0, "\xe2\x82", "\\xe2\\x82"},
    {0, "\xe2", "\\xe2"},
    /* Markdown */
    {MEMOPT_SHOW_MARKDOWN, "a|b", "a\\|b"},
    {MEMOPT_SHOW_MARKDOWN, "`x` <b> ![i](u) *s* _u_ ~~d~~ &amp; #",
     "\\`x\\` \\<b\\> \\!\\[i\\]\\(u\\) \\*s\\* \\_u\\_ \\~\\~d\\~\\~ \\&amp; \\#"},
    {MEMOPT_SHOW_MARKDOWN, "a\nb\033", "a\\\\x0ab\\\\x1b"},
    {MEMOPT_SHOW_MARKDOWN, "jemalloc-5.3, 1.00x", "jemalloc-5.3, 1.00x"},
};

static void test_table(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char to[256];
        size_t taken = memopt_show(to, sizeof(to), rows[i].text, rows[i].how);
        if (taken != strlen(rows[i].text) || strcmp(to, rows[i].shown) != 0)
            fail_msg("row %zu: '%s'", i, to);
    }
}

/* With the least room, a piece at a time, it is the same text; nothing is cut. */
static void test_pieces(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char all[256] = "", to[MEMOPT_SHOW_MINIMUM + 1];
        const char *text = rows[i].text;
        while (*text != '\0') {
            to[MEMOPT_SHOW_MINIMUM] = 'x';
            size_t taken = memopt_show(to, MEMOPT_SHOW_MINIMUM, text, rows[i].how);
            assert_true(taken > 0);
            assert_int_equal(to[MEMOPT_SHOW_MINIMUM], 'x');
            strcat(all, to);
            text += taken;
        }
        assert_string_equal(all, rows[i].shown);
    }
}

/* Every sequence of up to four bytes of interest, by the table of the Unicode standard
 * (3.9, well-formed UTF-8 byte sequences). */
static void test_utf8(void **state) {
    (void)state;
    static const struct {
        unsigned char low[4], high[4];
        size_t length;
    } formed[] = {
        {{0x00}, {0x7f}, 1},
        {{0xc2, 0x80}, {0xdf, 0xbf}, 2},
        {{0xe0, 0xa0, 0x80}, {0xe0, 0xbf, 0xbf}, 3},
        {{0xe1, 0x80, 0x80}, {0xec, 0xbf, 0xbf}, 3},
        {{0xed, 0x80, 0x80}, {0xed, 0x9f, 0xbf}, 3},
        {{0xee, 0x80, 0x80}, {0xef, 0xbf, 0xbf}, 3},
        {{0xf0, 0x90, 0x80, 0x80}, {0xf0, 0xbf, 0xbf, 0xbf}, 4},
        {{0xf1, 0x80, 0x80, 0x80}, {0xf3, 0xbf, 0xbf, 0xbf}, 4},
        {{0xf4, 0x80, 0x80, 0x80}, {0xf4, 0x8f, 0xbf, 0xbf}, 4},
    };
    static const unsigned char later[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};
    for (unsigned first = 0; first < 256; first++)
        for (unsigned second = 0; second < 256; second++)
            for (size_t rest = 0; rest < sizeof(later) * sizeof(later); rest++) {
                const unsigned char text[] = {(unsigned char)first, (unsigned char)second,
                                              later[rest % sizeof(later)],
                                              later[rest / sizeof(later)], 0};
                size_t expected = 0;
                for (size_t i = 0; i < sizeof(formed) / sizeof(formed[0]); i++) {
                    size_t same = 0;
                    while (same < formed[i].length && text[same] >= formed[i].low[same] &&
                           text[same] <= formed[i].high[same])
                        same++;
                    if (same == formed[i].length)
                        expected = same;
                }
                for (size_t left = 1; left <= 5; left++) {
                    size_t length = memopt_utf8((const char *)text, left, NULL);
                    if (length != (expected <= left ? expected : 0))
                        fail_msg("%02x %02x %02x %02x: %zu of %zu", text[0], text[1], text[2],
                                 text[3], length, left);
                }
            }
    static const struct {
        const char *text, *clean;
        unsigned long code;
    } cases[] = {
        {"", "", 0},
        {"z", "z", 'z'},
        {"\xc3\xa9!", "\xc3\xa9!", 0xe9},
        {"\xe2\x82\xac", "\xe2\x82\xac", 0x20ac},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf", 0x10ffff},
        {"\xff", "\xef\xbf\xbd", 42},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd", 42},
        {"\xe2z", "\xef\xbf\xbdz", 42},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char to[16];
        unsigned long code = 42;
        memopt_utf8(cases[i].text, (size_t)-1, &code);
        assert_int_equal(code, cases[i].code);
        assert_int_equal(memopt_utf8_clean(to, cases[i].text), strlen(cases[i].clean));
        assert_string_equal(to, cases[i].clean);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
