/*
 * bignum.c - arithmetic on immutable big numbers: a realistic program that
 * allocates a small block for every operation and frees it soon after.
 *
 * usage: bignum [NUMBERS]
 *
 * Finds a factor of composite numbers with Pollard's rho, every intermediate
 * value a fresh malloc of 16 to 80 bytes. Most blocks live for one or two
 * operations.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct number {
    uint32_t length; /* limbs, no leading zero */
    uint32_t limb[];
} number;

static number *new_number(uint32_t limbs) {
    number *n = malloc(sizeof *n + (size_t)limbs * sizeof n->limb[0]);
    if (!n)
        abort();
    n->length = limbs;
    return n;
}

static number *trim(number *n) {
    while (n->length && n->limb[n->length - 1] == 0)
        n->length--;
    return n;
}

static number *from(uint64_t value) {
    number *n = new_number(2);
    n->limb[0] = (uint32_t)value;
    n->limb[1] = (uint32_t)(value >> 32);
    return trim(n);
}

static int compare(const number *a, const number *b) {
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    for (uint32_t i = a->length; i-- > 0;) {
        if (a->limb[i] != b->limb[i])
            return a->limb[i] < b->limb[i] ? -1 : 1;
    }
    return 0;
}

static number *add(const number *a, const number *b) {
    uint32_t length = (a->length > b->length ? a->length : b->length) + 1;
    number *sum = new_number(length);
    uint64_t carry = 0;
    for (uint32_t i = 0; i < length; i++) {
        carry += (i < a->length ? a->limb[i] : 0u);
        carry += (i < b->length ? b->limb[i] : 0u);
        sum->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return trim(sum);
}

/* a - b; a must be the larger */
static number *subtract(const number *a, const number *b) {
    number *difference = new_number(a->length);
    int64_t borrow = 0;
    for (uint32_t i = 0; i < a->length; i++) {
        int64_t d = (int64_t)a->limb[i] - (i < b->length ? (int64_t)b->limb[i] : 0) + borrow;
        difference->limb[i] = (uint32_t)d;
        borrow = d >> 32;
    }
    return trim(difference);
}

static number *multiply(const number *a, const number *b) {
    number *product = new_number(a->length + b->length);
    memset(product->limb, 0, (size_t)product->length * sizeof product->limb[0]);
    for (uint32_t i = 0; i < a->length; i++) {
        uint64_t carry = 0;
        for (uint32_t k = 0; k < b->length; k++) {
            carry += (uint64_t)a->limb[i] * b->limb[k] + product->limb[i + k];
            product->limb[i + k] = (uint32_t)carry;
            carry >>= 32;
        }
        product->limb[i + b->length] = (uint32_t)carry;
    }
    return trim(product);
}

static number *copy(const number *a) {
    number *n = new_number(a->length);
    memcpy(n->limb, a->limb, (size_t)a->length * sizeof a->limb[0]);
    return n;
}

/* a mod b: schoolbook division, one estimated limb of the quotient at a time */
static number *modulo(const number *a, const number *b) {
    if (compare(a, b) < 0)
        return copy(a);
    uint32_t n = b->length, m = a->length;
    int shift = __builtin_clz(b->limb[n - 1]);
    number *u = new_number(m + 1), *v = new_number(n);
    uint32_t carry = 0;
    for (uint32_t i = 0; i < m; i++) {
        u->limb[i] = (a->limb[i] << shift) | carry;
        carry = shift ? a->limb[i] >> (32 - shift) : 0;
    }
    u->limb[m] = carry;
    carry = 0;
    for (uint32_t i = 0; i < n; i++) {
        v->limb[i] = (b->limb[i] << shift) | carry;
        carry = shift ? b->limb[i] >> (32 - shift) : 0;
    }
    for (uint32_t j = m + 1 - n; j-- > 0;) {
        uint64_t top = ((uint64_t)u->limb[j + n] << 32) | u->limb[j + n - 1];
        uint64_t q = top / v->limb[n - 1], r = top % v->limb[n - 1];
        while (q >> 32 || (n > 1 && q * v->limb[n - 2] > ((r << 32) | u->limb[j + n - 2]))) {
            q--;
            r += v->limb[n - 1];
            if (r >> 32)
                break;
        }
        int64_t borrow = 0;
        uint64_t product = 0;
        for (uint32_t i = 0; i < n; i++) {
            product += q * v->limb[i];
            int64_t d = (int64_t)u->limb[i + j] - (int64_t)(uint32_t)product + borrow;
            u->limb[i + j] = (uint32_t)d;
            borrow = d >> 32;
            product >>= 32;
        }
        int64_t d = (int64_t)u->limb[j + n] - (int64_t)product + borrow;
        u->limb[j + n] = (uint32_t)d;
        if (d < 0) {
            uint64_t back = 0;
            for (uint32_t i = 0; i < n; i++) {
                back += (uint64_t)u->limb[i + j] + v->limb[i];
                u->limb[i + j] = (uint32_t)back;
                back >>= 32;
            }
            u->limb[j + n] += (uint32_t)back;
        }
    }
    number *rest = new_number(n);
    for (uint32_t i = 0; i < n; i++)
        rest->limb[i] = (u->limb[i] >> shift) |
                        (shift ? (uint32_t)((uint64_t)u->limb[i + 1] << (32 - shift)) : 0);
    free(u);
    free(v);
    return trim(rest);
}

static number *gcd(const number *a, const number *b) {
    number *x = modulo(a, b), *y = copy(b);
    while (x->length) {
        number *rest = modulo(y, x);
        free(y);
        y = x;
        x = rest;
    }
    free(x);
    return y;
}

/* x * x + c mod n */
static number *step(const number *x, const number *c, const number *n) {
    number *square = multiply(x, x);
    number *sum = add(square, c);
    number *rest = modulo(sum, n);
    free(square);
    free(sum);
    return rest;
}

static number *factor(const number *n) {
    number *one = from(1);
    for (uint64_t constant = 1;; constant++) {
        number *c = from(constant), *slow = from(2), *fast = from(2), *found = NULL;
        while (!found) {
            number *next = step(slow, c, n);
            free(slow);
            slow = next;
            next = step(fast, c, n);
            free(fast);
            fast = step(next, c, n);
            free(next);
            int order = compare(slow, fast);
            if (order == 0)
                break;
            number *difference = order < 0 ? subtract(fast, slow) : subtract(slow, fast);
            number *divisor = gcd(difference, n);
            free(difference);
            if (compare(divisor, one) == 0)
                free(divisor);
            else
                found = divisor;
        }
        free(c);
        free(slow);
        free(fast);
        if (found && compare(found, n) != 0) {
            free(one);
            return found;
        }
        free(found);
    }
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 12;
    static const uint64_t primes[] = {4294967291u, 4294967279u, 2147483647u, 1000000007u,
                                      998244353u,  1000000009u, 4294967231u, 2147483629u};
    enum { PRIMES = sizeof primes / sizeof primes[0] };
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        number *p = from(primes[i % PRIMES]), *q = from(primes[(i * 3 + 1) % PRIMES]);
        number *n = multiply(p, q);
        number *divisor = factor(n);
        number *rest = modulo(n, divisor);
        if (rest->length)
            abort();
        sum = sum * 31 + divisor->limb[0];
        number *all[] = {p, q, n, divisor, rest};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
            free(all[k]);
    }
    printf("%d numbers, check %llu\n", count, (unsigned long long)sum);
    return 0;
}
