/* nearest.c - see nearest.h. */
#include "lib/nearest.h"

#include <string.h>

enum { MAX = 63 };

static char lower(char c) {
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static size_t length_of(const char *word) {
    size_t length = strlen(word);
    return length < MAX ? length : MAX;
}

static size_t edit_distance(const char *a, const char *b) {
    size_t rows[3][MAX + 1];
    size_t na = length_of(a), nb = length_of(b);
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = above[j - 1] + (lower(a[i - 1]) != lower(b[j - 1]));
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1]) && above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[na % 3][nb];
}

void mo_nearest_try(struct mo_nearest *nearest, const char *candidate) {
    /* A third of the word may be wrong; of two letters, one. */
    size_t length = strlen(nearest->word);
    size_t allowed = length < 6 ? 1 + (length > 3) : length / 3;
    size_t distance = edit_distance(nearest->word, candidate);
    if (distance > allowed || distance >= strlen(candidate))
        return;
    if (nearest->best == NULL || distance < nearest->distance) {
        nearest->best = candidate;
        nearest->distance = distance;
    }
}
