/*
 * compare_text.c - memopt compare's table for a screen.
 *
 * No line is wider than the screen or WIDEST. Columns have an order in which they are
 * given room; those that find none are left out, or follow in tables of their own
 * (--verbose): then a value with its spread and ratio, never one of these alone. A column
 * has one unit for all its figures.
 */
#include "config.h"

#include "cli/compare.h"

#include <memopt/show.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDEST = 78, NARROWEST = 20, ROOMY = 60, CELL = 32 };

enum kind { VALUE, SPREAD, RATIO };

/* From left to right; `rank`: who is given room first. Of wall and CPU time that is the one
 * that is judged. */
static const struct {
    enum mo_metric metric;
    enum kind kind;
    int rank, rank_if_waits;
} specs[] = {
    {MO_METRIC_WALL, VALUE, 0, 6},     {MO_METRIC_WALL, SPREAD, 7, 7},
    {MO_METRIC_WALL, RATIO, 2, 9},     {MO_METRIC_CPU, VALUE, 6, 0},
    {MO_METRIC_CPU, RATIO, 9, 2},      {MO_METRIC_PEAK, VALUE, 1, 1},
    {MO_METRIC_PEAK, RATIO, 3, 3},     {MO_METRIC_REST, VALUE, 4, 4},
    {MO_METRIC_REST, RATIO, 5, 5},     {MO_METRIC_MEAN, VALUE, 8, 8},
    {MO_METRIC_MEAN, RATIO, 10, 10},   {MO_METRIC_FAULTS, VALUE, 11, 11},
    {MO_METRIC_FAULTS, RATIO, 12, 12},
};
enum { COLUMNS = sizeof(specs) / sizeof(specs[0]) };

struct column {
    char title[CELL], unit[CELL];
    char cells[MO_CANDIDATES][CELL];
    int is_empty, is_printed; /* no figure is known; it stands in a table above */
    int width;                /* with the gap before it */
};

struct screen {
    const struct mo_comparison *comparison;
    struct memopt_output *output;
    int width, label_width;
    char labels[MO_CANDIDATES][4 * CELL];
    struct column columns[COLUMNS];
};

#define RED "\033[31m"
#define GREEN "\033[32m"
#define YELLOW "\033[33m"
#define PLAIN "\033[0m"

/* ------------------------------------------------------------------- lines */

static int is_start(char c) {
    return ((unsigned char)c & 0xc0) != 0x80;
}

/* Characters; most are one column wide. */
static int width_of(const char *text) {
    int width = 0;
    for (; *text != '\0'; text++)
        width += is_start(*text);
    return width;
}

static int print(const struct screen *screen, const char *colour, const char *text, size_t size) {
    int coloured = colour != NULL && screen->output->is_terminal && size > 0;
    return screen->output->printf(screen->output, "%s%.*s%s", coloured ? colour : "", (int)size,
                                  text, coloured ? PLAIN : "");
}

/* How many bytes of `text` fit into `room` columns: to the last blank, or, where one
 * word is too long, to its last character. */
static size_t fitting(const char *text, int room) {
    size_t end = 0, blank = 0;
    for (int column = 0; text[end] != '\0'; end++) {
        if (is_start(text[end]) && column++ == room)
            return blank > 0 ? blank : end;
        if (text[end] == ' ')
            blank = end;
    }
    return end;
}

/* Text that may be anybody's, from column `column` on; further lines are indented. */
static int print_wrapped(const struct screen *screen, const char *colour, const char *text,
                         int column, int indent) {
    char shown[4096];
    memopt_show(shown, sizeof(shown), text, 0);
    const char *rest = shown;
    int r = 0;
    while (r >= 0 && *rest != '\0') {
        size_t length = fitting(rest, screen->width - column);
        r = print(screen, colour, rest, length);
        rest += length;
        rest += strspn(rest, " ");
        if (r >= 0)
            r = *rest != '\0' ? screen->output->printf(screen->output, "\n%*s", indent, "")
                              : screen->output->printf(screen->output, "\n");
        column = indent;
    }
    return r;
}

/* ------------------------------------------------------------------ labels */

/* What tells files apart is at the end of their names. */
static void make_label(const char *label, int most, char *text, size_t size) {
    char shown[1024];
    memopt_show(shown, sizeof(shown), label, 0);
    int width = width_of(shown);
    const char *tail = shown;
    if (width > most)
        for (int left = width - (most - 2); left > 0 || !is_start(*tail); tail++)
            left -= is_start(*tail);
    snprintf(text, size, "%s%.*s", width > most ? ".." : "", (int)size - 3, tail);
}

static void make_labels(struct screen *screen) {
    int most = screen->width / 5 > 8 ? screen->width / 5 : 8;
    for (size_t i = 0; i < screen->comparison->count; i++) {
        const struct mo_candidate *candidate = &screen->comparison->candidates[i];
        make_label(mo_candidate_name(screen->comparison, candidate), most, screen->labels[i],
                   sizeof(screen->labels[i]));
        if (!candidate->left_out && width_of(screen->labels[i]) > screen->label_width)
            screen->label_width = width_of(screen->labels[i]);
    }
}

/* ----------------------------------------------------------------- columns */

static int is_shown(const struct mo_candidate *candidate) {
    return !candidate->left_out && !mo_candidate_failed(candidate) && candidate->count > 0;
}

/* The unit of the least figure: then none is less than one. */
static double unit_of(const struct screen *screen, enum mo_metric metric, const char **ret_name) {
    static const struct {
        double size;
        const char *name;
    } times[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}},
      sizes[] = {{0x1p30, "GiB"}, {0x1p20, "MiB"}, {0x1p10, "KiB"}};
    double least = NAN;
    for (size_t i = 0; i < screen->comparison->count; i++)
        least = fmin(least, mo_candidate_median(&screen->comparison->candidates[i], metric));
    if (metric == MO_METRIC_FAULTS) {
        *ret_name = "";
        return 1;
    }
    int is_time = metric == MO_METRIC_WALL || metric == MO_METRIC_CPU;
    for (size_t i = 0;; i++) {
        double size = is_time ? times[i].size : sizes[i].size;
        *ret_name = is_time ? times[i].name : sizes[i].name;
        if (least >= size || i == 2)
            return size;
    }
}

static void make_cell(const struct screen *screen, const struct mo_candidate *candidate,
                      enum mo_metric metric, enum kind kind, double unit, char cell[CELL]) {
    double value = kind == RATIO ? mo_comparison_ratio(screen->comparison, candidate, metric)
                                 : mo_candidate_median(candidate, metric);
    cell[0] = '\0';
    if (isnan(value)) {
        if (kind == VALUE)
            strcpy(cell, "-");
        return;
    }
    if (kind == RATIO) {
        snprintf(cell, CELL, "%.2fx", value);
    } else if (kind == SPREAD) {
        double spread = mo_candidate_spread(candidate, metric);
        if (value > 0 && !isnan(spread))
            snprintf(cell, CELL, "±%.1f%%", 100 * spread / value);
    } else {
        value /= unit;
        int decimals = metric == MO_METRIC_FAULTS || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
        snprintf(cell, CELL, "%.*f", decimals, value);
    }
}

static void make_columns(struct screen *screen) {
    const struct mo_comparison *comparison = screen->comparison;
    for (size_t c = 0; c < COLUMNS; c++) {
        struct column *column = &screen->columns[c];
        const char *unit;
        double size = unit_of(screen, specs[c].metric, &unit);
        int known = 0;
        if (specs[c].kind == VALUE) {
            snprintf(column->title, CELL, "%s",
                     mo_compare_title(specs[c].metric, screen->width < ROOMY));
            snprintf(column->unit, CELL, "%s", unit);
        }
        int width = width_of(column->title);
        for (size_t i = 0; i < comparison->count; i++) {
            const struct mo_candidate *candidate = &comparison->candidates[i];
            if (!is_shown(candidate))
                continue;
            make_cell(screen, candidate, specs[c].metric, specs[c].kind, size, column->cells[i]);
            known |= column->cells[i][0] != '\0' && strcmp(column->cells[i], "-") != 0;
            if (width_of(column->cells[i]) > width)
                width = width_of(column->cells[i]);
        }
        column->is_empty = !known;
        column->width = width + (specs[c].kind == VALUE ? 2 : 1);
    }
}

/* Adds a value at column `c` with all that belongs to it, ratio first, that a table of its
 * own has room for. How wide that is; more than `room`: it was not added. */
static int choose_whole(const struct screen *screen, size_t c, int room, int chosen[COLUMNS]) {
    static const enum kind order[] = {VALUE, RATIO, SPREAD};
    int most = screen->width - screen->label_width, width = 0;
    int whole[COLUMNS] = {0};
    for (size_t k = 0; k < sizeof(order) / sizeof(order[0]); k++)
        for (size_t i = 0; i < COLUMNS; i++) {
            const struct column *column = &screen->columns[i];
            if (specs[i].metric != specs[c].metric || specs[i].kind != order[k] ||
                column->is_empty || (i != c && width + column->width > most))
                continue;
            width += column->width;
            whole[i] = 1;
        }
    for (size_t i = 0; i < COLUMNS && width <= room; i++)
        chosen[i] |= whole[i];
    return width;
}

/* Chooses what there is room for beside the labels, at least one column; 0: no more. */
static int choose(struct screen *screen, int chosen[COLUMNS]) {
    int room = screen->width - screen->label_width, count = 0;
    int by_whole = screen->comparison->options->verbose;
    memset(chosen, 0, COLUMNS * sizeof(chosen[0]));
    for (int rank = 0; rank < (int)COLUMNS; rank++)
        for (size_t c = 0; c < COLUMNS; c++) {
            const struct column *column = &screen->columns[c];
            int is_next =
                rank == (screen->comparison->waits ? specs[c].rank_if_waits : specs[c].rank);
            if (!is_next || column->is_empty || column->is_printed ||
                (by_whole && specs[c].kind != VALUE))
                continue;
            int width = by_whole ? choose_whole(screen, c, count > 0 ? room : screen->width, chosen)
                                 : column->width;
            if (count > 0 && width > room)
                return count;
            room -= width;
            chosen[c] = 1;
            count++;
        }
    return count;
}

/* ------------------------------------------------------------------ tables */

static const char *colour_of(const struct screen *screen, size_t i, size_t c) {
    const struct mo_comparison *comparison = screen->comparison;
    const struct mo_verdict *verdicts[] = {&comparison->time, &comparison->peak, &comparison->rest};
    for (size_t v = 0; v < sizeof(verdicts) / sizeof(verdicts[0]); v++) {
        if (verdicts[v]->metric != specs[c].metric || specs[c].kind == SPREAD)
            continue;
        if (mo_candidate_far_off(&comparison->candidates[i], specs[c].metric) > 0)
            return YELLOW;
        if (verdicts[v]->winner == (int)i)
            return GREEN;
    }
    return NULL;
}

enum row { TITLES = -2, UNITS = -1 }; /* others: candidates */

static const char *cell_of(const struct screen *screen, int row, size_t c) {
    const struct column *column = &screen->columns[c];
    return row == TITLES ? column->title : row == UNITS ? column->unit : column->cells[row];
}

/* Nothing ends with blanks. */
static int print_row(const struct screen *screen, int row, const int chosen[COLUMNS]) {
    struct memopt_output *output = screen->output;
    const char *label = row < 0 ? "" : screen->labels[row];
    int r = output->printf(output, "%s", label);
    int blanks = screen->label_width - width_of(label);
    for (size_t c = 0; c < COLUMNS && r >= 0; c++) {
        if (!chosen[c])
            continue;
        const char *cell = cell_of(screen, row, c);
        blanks += screen->columns[c].width - width_of(cell);
        if (cell[0] == '\0')
            continue;
        r = output->printf(output, "%*s", blanks, "");
        if (r >= 0)
            r = print(screen, row < 0 ? NULL : colour_of(screen, (size_t)row, c), cell,
                      strlen(cell));
        blanks = 0;
    }
    return r < 0 ? r : output->printf(output, "\n");
}

static int print_failure(const struct screen *screen, const struct mo_candidate *candidate,
                         const char *label) {
    char text[256];
    int indent = screen->label_width + 2;
    mo_candidate_failure(candidate, text, sizeof(text));
    int r = screen->output->printf(screen->output, "%s%*s", label, indent - width_of(label), "");
    return r < 0 ? r : print_wrapped(screen, RED, text, indent, indent);
}

static int print_tables(struct screen *screen) {
    const struct mo_comparison *comparison = screen->comparison;
    int chosen[COLUMNS], r = 0;
    for (int table = 0; r >= 0 && (table == 0 || comparison->options->verbose); table++) {
        int count = choose(screen, chosen);
        if (count == 0 && table > 0)
            break;
        r = screen->output->printf(screen->output, "\n");
        for (int row = TITLES; row <= UNITS && r >= 0 && count > 0; row++)
            r = print_row(screen, row, chosen);
        for (size_t i = 0; i < comparison->count && r >= 0; i++) {
            const struct mo_candidate *candidate = &comparison->candidates[i];
            if (is_shown(candidate))
                r = print_row(screen, (int)i, chosen);
            else if (mo_candidate_failed(candidate) && table == 0)
                r = print_failure(screen, candidate, screen->labels[i]);
        }
        for (size_t c = 0; c < COLUMNS; c++)
            for (size_t value = 0; value < COLUMNS; value++)
                screen->columns[c].is_printed |=
                    chosen[value] && specs[value].metric == specs[c].metric;
    }
    return r;
}

/* --------------------------------------------------------------- all of it */

/* As it could be typed into a shell; a long one is cut. */
static int print_command(const struct screen *screen) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=./:,@%^";
    enum { LONGEST = 300 };
    char text[LONGEST + 8];
    size_t used = 0;
    char *const *argv = screen->comparison->argv;
    for (size_t i = 0; argv[i] != NULL && used < LONGEST; i++) {
        const char *quote =
            argv[i][0] == '\0' || argv[i][strspn(argv[i], plain)] != '\0' ? "'" : "";
        used += (size_t)snprintf(text + used, LONGEST - used, "%s%s", i > 0 ? " " : "", quote);
        for (const char *c = argv[i]; *c != '\0' && used < LONGEST; c++)
            used += (size_t)snprintf(text + used, LONGEST - used, *c == '\'' ? "'\\''" : "%c", *c);
        if (used < LONGEST)
            used += (size_t)snprintf(text + used, LONGEST - used, "%s", quote);
    }
    if (used >= LONGEST) {
        used = LONGEST - 1;
        while (used > 0 && !is_start(text[used]))
            used--;
        strcpy(text + used, "...");
    }
    return print_wrapped(screen, NULL, text, 0, 2);
}

static int print_intro(const struct screen *screen) {
    const struct mo_comparison *comparison = screen->comparison;
    char runs[64], warm_ups[64] = "", text[512];
    mo_comparison_runs(comparison, runs, sizeof(runs));
    int is_one = strcmp(runs, "1") == 0;
    if (comparison->options->warm_ups > 0)
        snprintf(warm_ups, sizeof(warm_ups), ", after %zu to warm up",
                 comparison->options->warm_ups);
    snprintf(text, sizeof(text), "%s%s run%s each%s%s; input: %s", is_one ? "" : "median of ", runs,
             is_one ? "" : "s", is_one ? "" : ", in turn", warm_ups, comparison->input);
    return print_wrapped(screen, NULL, text, 0, 2);
}

static int print_sentence(void *context, enum mo_sentence kind, const char *text) {
    static const char *const colours[] = {
        [MO_SENTENCE_VERDICT] = NULL,
        [MO_SENTENCE_WARNING] = YELLOW,
        [MO_SENTENCE_FAILURE] = RED,
        [MO_SENTENCE_NOTE] = NULL,
    };
    return print_wrapped(context, colours[kind], text, 0, 2);
}

static int print_legend(const struct screen *screen) {
    static const char *const lines[] = {
        "±: the median distance of the runs from their median.",
        "x: relative to the first candidate.",
        "peak RSS: of the largest process.",
        "at rest: its resident size in the last tenth of its run, of at least 20 samples.",
        "mean: its resident size, weighted by time.",
        "faults: page faults, minor and major.",
    };
    int r = screen->output->printf(screen->output, "\n");
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]) && r >= 0; i++)
        r = print_wrapped(screen, NULL, lines[i], 0, 2);
    char text[512];
    snprintf(text, sizeof(text), "%c%s.", 'A', mo_compare_rule + 1);
    return r < 0 ? r : print_wrapped(screen, NULL, text, 0, 2);
}

int mo_compare_write_text(const struct mo_comparison *comparison, struct memopt_output *output) {
    static struct screen screen; /* large */
    screen = (struct screen){.comparison = comparison, .output = output};
    screen.width = output->columns < WIDEST ? output->columns : WIDEST;
    if (screen.width < NARROWEST)
        screen.width = NARROWEST;
    make_labels(&screen);
    make_columns(&screen);
    int r = print_command(&screen);
    if (r >= 0)
        r = print_intro(&screen);
    if (r >= 0)
        r = print_tables(&screen);
    if (r >= 0)
        r = output->printf(output, "\n");
    if (r >= 0)
        r = mo_comparison_sentences(comparison, print_sentence, &screen);
    if (r >= 0 && comparison->options->verbose)
        r = print_legend(&screen);
    return r;
}
