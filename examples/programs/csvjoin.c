// Joins two CSV tables on their first columns and sums a column of the second by a column of the first.
//
//   csvjoin GROUP VALUE     GROUP: a column of /in/left, VALUE: a column of /in/right, by their names
//
// Writes GROUP, the number of joined rows and the sum, by GROUP. Fields may be quoted as RFC 4180 has it.
// Sums are exact: values have at most six decimals and are added as whole millionths.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS_MAX = 256, LINE_MAX_BYTES = 1 << 20 };

struct row {
    char *key, *group;
};

struct sum {
    char *group;
    long long rows, millionths;
};

static void fail(const char *why, const char *what) {
    fprintf(stderr, "csvjoin: %s %s\n", why, what);
    exit(1);
}

static void *room(void *old, size_t count, size_t size) {
    void *new = realloc(old, count * size);
    if (!new) fail("out of memory", "");
    return new;
}

// Reads a record; the fields point into `line`. Zero at the end.
static int record(FILE *in, char *line, char **fields, const char *path) {
    int c = getc(in), quoted = 0, count = 0;
    size_t at = 0;
    if (c == EOF) return 0;
    fields[count++] = line;
    for (;; c = getc(in)) {
        if (at + 2 >= LINE_MAX_BYTES || count >= FIELDS_MAX) fail("a record is too large in", path);
        if (quoted && c == EOF) fail("a quote is not closed in", path);
        if (c == '"' && quoted) {
            int next = getc(in);
            if (next == '"') {
                line[at++] = '"';
                continue;
            }
            quoted = 0;
            ungetc(next, in);
        } else if (c == '"' && &line[at] == fields[count - 1]) {
            quoted = 1;
        } else if (c == ',' && !quoted) {
            line[at++] = 0;
            fields[count++] = &line[at];
        } else if (!quoted && (c == '\n' || c == EOF)) {
            break;
        } else if (quoted || c != '\r') {
            line[at++] = (char)c;
        }
    }
    line[at] = 0;
    return count;
}

static int column(char **fields, int count, const char *name, const char *path) {
    for (int at = 0; at < count; at++)
        if (strcmp(fields[at], name) == 0) return at;
    fprintf(stderr, "csvjoin: no column \"%s\" in %s\n", name, path);
    exit(1);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const struct row *)a)->key, ((const struct row *)b)->key);
}

static int by_group(const void *a, const void *b) {
    return strcmp(((const struct sum *)a)->group, ((const struct sum *)b)->group);
}

static long long millionths(const char *text) {
    const char *start = text;
    int negative = *text == '-', decimals = -1;
    long long sum = 0;
    for (text += negative; *text; text++) {
        if (*text == '.' && decimals < 0) {
            decimals = 0;
        } else if (*text >= '0' && *text <= '9' && decimals < 6 && sum < 100000000000000LL) {
            sum = 10 * sum + (*text - '0');
            if (decimals >= 0) decimals++;
        } else {
            fail("not a number with at most six decimals:", start);
        }
    }
    for (int more = decimals < 0 ? 0 : decimals; more < 6; more++) sum *= 10;
    return negative ? -sum : sum;
}

static FILE *open_in(const char *path) {
    FILE *in = fopen(path, "rb");
    if (!in) fail("cannot open", path);
    return in;
}

static size_t read_left(struct row **rows, const char *group, char *line, char **fields) {
    FILE *in = open_in("/in/left");
    size_t count = 0, max = 0;
    int named = record(in, line, fields, "/in/left");
    int at = column(fields, named, group, "/in/left");
    while ((named = record(in, line, fields, "/in/left"))) {
        if (named <= at) continue;
        if (count == max) *rows = room(*rows, max = max ? 2 * max : 256, sizeof **rows);
        (*rows)[count++] = (struct row){strdup(fields[0]), strdup(fields[at])};
    }
    fclose(in);
    qsort(*rows, count, sizeof **rows, by_key);
    return count;
}

static size_t add(struct sum **sums, size_t count, size_t *max, char *group, long long value) {
    // Groups are few; the last one is mostly the next one.
    for (size_t at = count; at-- > 0;) {
        if (strcmp((*sums)[at].group, group) == 0) {
            (*sums)[at].rows++;
            (*sums)[at].millionths += value;
            return count;
        }
    }
    if (count == *max) *sums = room(*sums, *max = *max ? 2 * *max : 64, sizeof **sums);
    (*sums)[count] = (struct sum){group, 1, value};
    return count + 1;
}

int main(int argc, char **argv) {
    if (argc != 3) fail("needs two arguments:", "GROUP VALUE");
    static char line[LINE_MAX_BYTES];
    static char *fields[FIELDS_MAX];
    struct row *rows = NULL;
    struct sum *sums = NULL;
    size_t count = read_left(&rows, argv[1], line, fields), groups = 0, max = 0;
    FILE *in = open_in("/in/right");
    int named = record(in, line, fields, "/in/right");
    int at = column(fields, named, argv[2], "/in/right");
    while ((named = record(in, line, fields, "/in/right"))) {
        if (named <= at) continue;
        struct row key = {fields[0], NULL};
        struct row *row = count ? bsearch(&key, rows, count, sizeof key, by_key) : NULL;
        if (row) groups = add(&sums, groups, &max, row->group, millionths(fields[at]));
    }
    if (groups) qsort(sums, groups, sizeof *sums, by_group);
    FILE *out = fopen("/out/sums", "wb");
    if (!out) fail("cannot open", "/out/sums");
    fprintf(out, "%s,rows,%s\n", argv[1], argv[2]);
    for (size_t n = 0; n < groups; n++) {
        long long m = sums[n].millionths, size = m < 0 ? -m : m;
        fprintf(out, "%s,%lld,%s%lld.%06lld\n", sums[n].group, sums[n].rows, m < 0 ? "-" : "",
                size / 1000000, size % 1000000);
    }
    if (fclose(out) != 0) fail("cannot write", "/out/sums");
    return 0;
}
