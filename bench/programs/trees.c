/*
 * trees.c - builds binary trees and throws them away: a loop that only allocates and
 * frees blocks of one size.
 *
 * usage: trees [DEPTH [ROUNDS]]
 *
 * One tree lives for the whole run; others, a little less deep, are built from the root
 * down and freed from the leaves up, round by round.
 */
#include <stdio.h>
#include <stdlib.h>

struct node {
    struct node *left, *right;
};

static struct node *build(unsigned depth) {
    struct node *node = malloc(sizeof *node);
    if (!node)
        abort();
    node->left = depth ? build(depth - 1) : NULL;
    node->right = depth ? build(depth - 1) : NULL;
    return node;
}

static unsigned long count(const struct node *node) {
    return node ? 1 + count(node->left) + count(node->right) : 0;
}

static void destroy(struct node *node) {
    if (node) {
        destroy(node->left);
        destroy(node->right);
        free(node);
    }
}

int main(int argc, char **argv) {
    unsigned depth = argc > 1 ? (unsigned)atoi(argv[1]) : 16;
    unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 400;
    if (depth < 6 || depth > 24) {
        fprintf(stderr, "trees: a depth of 6 to 24\n");
        return 2;
    }
    struct node *kept = build(depth);
    unsigned long nodes = 0;
    for (unsigned i = 0; i < rounds; i++) {
        struct node *tree = build(depth - 1 - i % 5);
        nodes += count(tree);
        destroy(tree);
    }
    printf("%lu nodes, %lu kept\n", nodes, count(kept));
    destroy(kept);
    return 0;
}
