/* early_main.c - uses what early.cc has built. */
#include <stdio.h>

size_t entries(void);
int main(void) {
    printf("%zu\n", entries());
    return 0;
}
