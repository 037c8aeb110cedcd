/*
 * net.h - a network of two dense layers, 784 -> HIDDEN (ReLU) -> 10 (softmax),
 * forward and backward, in plain C.
 *
 * It owns no memory: parameters, gradients and activations are arrays of the
 * caller's. Sums are taken in one fixed order whatever the arrays' addresses are,
 * so the same numbers come out on every allocator, bit for bit.
 */
#ifndef EXAMPLES_FASHION_NET_H
#define EXAMPLES_FASHION_NET_H

#include "data.h"

enum { HIDDEN = 256, BATCH = 64 };

/* What is learned; a gradient has the same form. Each an array by itself. */
enum { W1, B1, W2, B2, TENSORS };
extern const char *const tensor_names[TENSORS];
extern const uint64_t tensor_shapes[TENSORS][2]; /* rows, columns; biases have one row */
size_t tensor_count(int tensor);

/* What a step needs for its batch. */
enum { INPUT, HIDDEN_OUT, LOGITS, HIDDEN_GRADIENT, ACTIVATIONS };
extern const size_t activation_shapes[ACTIVATIONS][2];

/* Random weights; the same for the same seed. */
void net_start(float *const parameters[TENSORS], uint64_t seed);

/* `count` images (at most BATCH) whose numbers are in `order`: fills the
 * activations and returns the sum of their losses; `ret_right` (may be NULL):
 * how many were recognized. */
double net_forward(float *const parameters[TENSORS], float *const activations[ACTIVATIONS],
                   const struct dataset *set, const uint32_t *order, size_t count,
                   size_t *ret_right);

/* After net_forward() on the same batch: writes the gradients of the mean loss. */
void net_backward(float *const parameters[TENSORS], float *const gradients[TENSORS],
                  float *const activations[ACTIVATIONS], const struct dataset *set,
                  const uint32_t *order, size_t count);

#endif
