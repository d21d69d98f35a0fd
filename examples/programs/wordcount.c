// Counts words of a text, case folded, and writes them as CSV: the most frequent first, then by name.
// A word is a run of ASCII letters, digits, apostrophes and bytes above 127 (so UTF-8 stays whole).
//
//   wordcount [MIN]     words that occur fewer than MIN times are left out
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct word {
    char *text;
    unsigned long count;
};

static struct word *table;
static size_t slots, used;

static void fail(const char *why) {
    fprintf(stderr, "wordcount: %s\n", why);
    exit(1);
}

static size_t hash(const char *text) {
    size_t sum = 2166136261u;
    for (; *text; text++) sum = (sum ^ (unsigned char)*text) * 16777619u;
    return sum;
}

static struct word *find(const char *text) {
    size_t at = hash(text) & (slots - 1);
    while (table[at].text && strcmp(table[at].text, text) != 0) at = (at + 1) & (slots - 1);
    return &table[at];
}

static void grow(void) {
    struct word *old = table;
    size_t old_slots = slots;
    slots = slots ? 2 * slots : 1024;
    table = calloc(slots, sizeof *table);
    if (!table) fail("out of memory");
    for (size_t at = 0; at < old_slots; at++)
        if (old[at].text) *find(old[at].text) = old[at];
    free(old);
}

static void count(const char *text) {
    if (2 * used >= slots) grow();
    struct word *word = find(text);
    if (!word->text) {
        word->text = strdup(text);
        if (!word->text) fail("out of memory");
        used++;
    }
    word->count++;
}

static int order(const void *left, const void *right) {
    const struct word *a = left, *b = right;
    if (a->count != b->count) return a->count < b->count ? 1 : -1;
    return strcmp(a->text, b->text);
}

static int in_word(int c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\'' || c > 127;
}

static void read_words(FILE *in) {
    static char text[4096];
    size_t length = 0;
    for (int c = getc(in);; c = getc(in)) {
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
        if (c != EOF && in_word(c) && length < sizeof text - 1) {
            text[length++] = (char)c;
            continue;
        }
        text[length] = 0;
        if (length) count(text);
        length = 0;
        if (c == EOF) break;
    }
    if (ferror(in)) fail("cannot read /in/text");
}

int main(int argc, char **argv) {
    unsigned long min = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    FILE *in = fopen("/in/text", "rb");
    if (!in) fail("cannot open /in/text");
    grow();
    read_words(in);
    size_t filled = 0;
    for (size_t at = 0; at < slots; at++)
        if (table[at].text && table[at].count >= min) table[filled++] = table[at];
    qsort(table, filled, sizeof *table, order);
    FILE *out = fopen("/out/counts", "wb");
    if (!out) fail("cannot open /out/counts");
    fprintf(out, "word,count\n");
    for (size_t at = 0; at < filled; at++) fprintf(out, "%s,%lu\n", table[at].text, table[at].count);
    if (fclose(out) != 0) fail("cannot write /out/counts");
    return 0;
}
