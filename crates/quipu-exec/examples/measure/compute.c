// Work for a processor: a sieve, a product of matrices, and hashing. Prints the results. For `measure`:
//   zig cc -target wasm32-wasi -O2 -o compute.wasm compute.c; cc -O2 -o compute compute.c
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIEVE = 8000000, SIDE = 384, ROUNDS = 60000000 };

static unsigned sieve(void) {
    unsigned char *composite = calloc(SIEVE + 1, 1);
    unsigned count = 0;
    if (!composite) exit(1);
    for (unsigned n = 2; n <= SIEVE; n++) {
        if (composite[n]) continue;
        count++;
        for (uint64_t m = (uint64_t)n * n; m <= SIEVE; m += n) composite[m] = 1;
    }
    free(composite);
    return count;
}

static double product(void) {
    static double a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];
    double sum = 0;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) a[i][j] = i + j % 7, b[i][j] = i % 5 - j % 3;
    for (int i = 0; i < SIDE; i++)
        for (int k = 0; k < SIDE; k++)
            for (int j = 0; j < SIDE; j++) c[i][j] += a[i][k] * b[k][j];
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) sum += c[i][j] * (i ^ j);
    return sum;
}

static uint64_t mix(void) {
    uint64_t state = 88172645463325252u;
    uint32_t table[256];
    for (unsigned n = 0; n < 256; n++) table[n] = n * 2654435761u;
    for (unsigned n = 0; n < ROUNDS; n++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        table[state & 255] += (uint32_t)(state >> 32);
    }
    for (unsigned n = 0; n < 256; n++) state = state * 31 + table[n];
    return state;
}

int main(void) {
    printf("%u\n%.1f\n%016llx\n", sieve(), product(), (unsigned long long)mix());
    return 0;
}
