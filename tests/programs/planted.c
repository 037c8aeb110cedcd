/*
 * planted.c - a small word counter with bugs on demand, to be found by the guard
 * allocator from outside (tests/test_guard.sh).
 *
 * usage: planted BUG < TEXT
 *
 * It reads words, counts them in a list, prints the number of different ones and
 * frees all. BUG says what goes wrong on the way; "none" goes well.
 */
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMED __attribute__((noinline, visibility("default")))
#define KEEP_FRAME __asm__ volatile("" ::: "memory")

/* The compiler is not to see what is planted. */
static void *hide(void *p) {
    __asm__ volatile("" : "+r"(p));
    return p;
}

struct word {
    struct word *next;
    char *text;
    int count;
};

static const char *bug;
static struct word *words;

static int is(const char *name) {
    return strcmp(bug, name) == 0;
}

/* no-nul: forgets the byte for the NUL; 16 letters make it the guard page's. */
NAMED char *copy_text(const char *text);
NAMED char *copy_text(const char *text) {
    size_t length = strlen(text);
    char *copy = malloc(length + (is("no-nul") || is("slack") ? 0 : 1));
    if (copy == NULL)
        abort();
    memcpy(copy, text, length);
    *((volatile char *)hide(copy) + length) = 0;
    KEEP_FRAME;
    return copy;
}

NAMED struct word *new_word(const char *text);
NAMED struct word *new_word(const char *text) {
    struct word *word = calloc(1, sizeof(*word));
    if (word == NULL)
        abort();
    word->text = copy_text(text);
    KEEP_FRAME;
    return word;
}

NAMED void free_word(struct word *word);
NAMED void free_word(struct word *word) {
    free(word->text);
    free(word);
    KEEP_FRAME;
}

NAMED void count_word(const char *text);
NAMED void count_word(const char *text) {
    struct word *word = words;
    while (word != NULL && strcmp(word->text, text) != 0)
        word = word->next;
    if (word == NULL) {
        word = new_word(text);
        word->next = words;
        words = word;
    }
    word->count++;
    KEEP_FRAME;
}

/* use-after-free: reads `next` of what it has just freed. */
NAMED void *free_all(void *unused);
NAMED void *free_all(void *unused) {
    struct word *word = words;
    while (word != NULL) {
        struct word *next = word->next;
        free_word(word);
        if (is("use-after-free"))
            next = ((volatile struct word *)hide(word))->next;
        if (is("double-free"))
            free_word(hide(word));
        word = next;
    }
    KEEP_FRAME;
    return unused;
}

NAMED int total_count(void);
NAMED int total_count(void) {
    int total = 0;
    for (volatile struct word *word = words; word != NULL; word = word->next)
        total += word->count;
    KEEP_FRAME;
    return total;
}

int main(int argc, char **argv) {
    char text[256];
    size_t length = 0;
    bug = argc > 1 ? argv[1] : "none";
    for (int c = 0; c != EOF;) {
        c = getchar();
        if (isalpha(c) && length < sizeof(text) - 1) {
            text[length++] = (char)c;
        } else if (length > 0) {
            text[length] = 0;
            count_word(text);
            length = 0;
        }
    }
    if (is("wild-free"))
        free(hide(words->text + 1));
    if (is("thread")) { /* another thread frees what this one goes on to read */
        pthread_t thread;
        if (pthread_create(&thread, NULL, free_all, NULL) != 0)
            return 2;
        pthread_join(thread, NULL);
        total_count();
    }
    if (is("fork")) { /* a child fails, its parent doesn't */
        pid_t child = fork();
        if (child == 0) {
            free_all(NULL);
            total_count();
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        printf("child: signal %d\n", WTERMSIG(status));
    }
    int different = 0;
    for (struct word *word = words; word != NULL; word = word->next)
        different++;
    printf("%d words, %d different\n", total_count(), different);
    free_all(NULL);
    return 0;
}
