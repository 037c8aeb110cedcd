/*
 * symbolic.c - algebra on expression trees: a realistic program with nodes of
 * a few sizes, strings, and lifetimes from moments to the whole run.
 *
 * usage: symbolic [EXPRESSIONS]
 *
 * Builds random expressions, differentiates and simplifies them several times,
 * prints each into a string that grows by realloc, and keeps every fourth one
 * in a table until the end.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { CONSTANT, VARIABLE, SUM, PRODUCT, SINE, COSINE };

typedef struct expression {
    enum kind kind;
    union {
        double value;
        char *name; /* a string of its own, as parsers leave them */
        struct {
            struct expression *a, *b;
        } of;
    } u;
} expression;

static uint64_t state = 88172645463325252u;
static unsigned random_below(unsigned n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % n;
}

static void *checked(void *p) {
    if (!p)
        abort();
    return p;
}

static expression *constant(double value) {
    /* leaves need less than a whole node */
    expression *e = checked(malloc(sizeof *e));
    e->kind = CONSTANT;
    e->u.value = value;
    return e;
}

static expression *variable(const char *name) {
    expression *e = checked(malloc(sizeof *e));
    e->kind = VARIABLE;
    e->u.name = checked(strdup(name));
    return e;
}

static expression *node(enum kind kind, expression *a, expression *b) {
    expression *e = checked(malloc(sizeof *e));
    e->kind = kind;
    e->u.of.a = a;
    e->u.of.b = b;
    return e;
}

static expression *copy(const expression *e) {
    if (!e)
        return NULL;
    switch (e->kind) {
    case CONSTANT:
        return constant(e->u.value);
    case VARIABLE:
        return variable(e->u.name);
    default:
        return node(e->kind, copy(e->u.of.a), copy(e->u.of.b));
    }
}

static void destroy(expression *e) {
    if (!e)
        return;
    if (e->kind == VARIABLE)
        free(e->u.name);
    else if (e->kind != CONSTANT) {
        destroy(e->u.of.a);
        destroy(e->u.of.b);
    }
    free(e);
}

static expression *random_expression(unsigned depth) {
    static const char *const names[] = {"x", "y", "radius", "angular_velocity_of_the_wheel"};
    if (depth == 0)
        return random_below(3) ? variable(names[random_below(4)]) : constant(random_below(5));
    switch (random_below(5)) {
    case 0:
        return node(SINE, random_expression(depth - 1), NULL);
    case 1:
    case 2:
        return node(SUM, random_expression(depth - 1), random_expression(depth - 1));
    default:
        return node(PRODUCT, random_expression(depth - 1), random_expression(depth - 1));
    }
}

static expression *derivative(const expression *e) {
    switch (e->kind) {
    case CONSTANT:
        return constant(0);
    case VARIABLE:
        return constant(strcmp(e->u.name, "x") == 0);
    case SUM:
        return node(SUM, derivative(e->u.of.a), derivative(e->u.of.b));
    case PRODUCT:
        return node(SUM, node(PRODUCT, derivative(e->u.of.a), copy(e->u.of.b)),
                    node(PRODUCT, copy(e->u.of.a), derivative(e->u.of.b)));
    case SINE:
        return node(PRODUCT, node(COSINE, copy(e->u.of.a), NULL), derivative(e->u.of.a));
    case COSINE:
        return node(PRODUCT, node(PRODUCT, constant(-1), node(SINE, copy(e->u.of.a), NULL)),
                    derivative(e->u.of.a));
    }
    abort();
}

static int is_constant(const expression *e, double value) {
    return e->kind == CONSTANT && !(e->u.value < value) && !(e->u.value > value);
}

/* Takes the tree, gives the simpler one. */
static expression *simplify(expression *e) {
    if (e->kind == CONSTANT || e->kind == VARIABLE)
        return e;
    e->u.of.a = simplify(e->u.of.a);
    if (!e->u.of.b)
        return e;
    e->u.of.b = simplify(e->u.of.b);
    expression *a = e->u.of.a, *b = e->u.of.b, *result = NULL;
    if (a->kind == CONSTANT && b->kind == CONSTANT) {
        result = constant(e->kind == SUM ? a->u.value + b->u.value : a->u.value * b->u.value);
    } else if (e->kind == SUM && (is_constant(a, 0) || is_constant(b, 0))) {
        result = copy(is_constant(a, 0) ? b : a);
    } else if (e->kind == PRODUCT && (is_constant(a, 0) || is_constant(b, 0))) {
        result = constant(0);
    } else if (e->kind == PRODUCT && (is_constant(a, 1) || is_constant(b, 1))) {
        result = copy(is_constant(a, 1) ? b : a);
    }
    if (!result)
        return e;
    destroy(e);
    return result;
}

struct text {
    char *bytes;
    size_t length, capacity;
};

static void append(struct text *t, const char *piece) {
    size_t n = strlen(piece);
    if (t->length + n + 1 > t->capacity) {
        t->capacity = t->capacity + t->capacity / 2 + n + 16;
        t->bytes = checked(realloc(t->bytes, t->capacity));
    }
    memcpy(t->bytes + t->length, piece, n + 1);
    t->length += n;
}

static void print(struct text *t, const expression *e) {
    char number[32];
    switch (e->kind) {
    case CONSTANT:
        snprintf(number, sizeof number, "%g", e->u.value);
        append(t, number);
        break;
    case VARIABLE:
        append(t, e->u.name);
        break;
    case SINE:
    case COSINE:
        append(t, e->kind == SINE ? "sin(" : "cos(");
        print(t, e->u.of.a);
        append(t, ")");
        break;
    case SUM:
    case PRODUCT:
        append(t, "(");
        print(t, e->u.of.a);
        append(t, e->kind == SUM ? " + " : " * ");
        print(t, e->u.of.b);
        append(t, ")");
        break;
    }
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 12000;
    char **kept = checked(calloc((size_t)count / 4 + 1, sizeof *kept));
    size_t kept_count = 0;
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        expression *e = random_expression(5 + random_below(2));
        for (int order = 0; order < 2; order++) {
            expression *next = simplify(derivative(e));
            destroy(e);
            e = next;
        }
        struct text t = {NULL, 0, 0};
        print(&t, e);
        for (size_t k = 0; k < t.length; k++)
            sum = sum * 31 + (unsigned char)t.bytes[k];
        destroy(e);
        if (i % 4 == 0)
            kept[kept_count++] = t.bytes;
        else
            free(t.bytes);
    }
    printf("%d expressions, check %llu\n", count, (unsigned long long)sum);
    while (kept_count)
        free(kept[--kept_count]);
    free(kept);
    return 0;
}
