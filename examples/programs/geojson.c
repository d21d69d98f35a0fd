// Makes GeoJSON of a record view: one record as JSON on each line of standard input, a feature collection on
// standard output. A record has a `record_id` and `fields`; those with numbers (or texts of numbers) `lat`
// and `lon` among their fields become points, with all fields as properties. Others are left out.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *why) {
    fprintf(stderr, "geojson: %s\n", why);
    exit(1);
}

struct span {
    const char *start, *end;
};

static const char *space(const char *at) {
    while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n') at++;
    return at;
}

static const char *skip_text(const char *at) {
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && at[1]) at++;
    if (!*at) fail("a text is not closed");
    return at + 1;
}

// The end of the value that begins here.
static const char *skip(const char *at) {
    if (*at == '"') return skip_text(at);
    if (*at == '{' || *at == '[') {
        int depth = 0;
        do {
            if (*at == '"') {
                at = skip_text(at);
                continue;
            }
            if (*at == '{' || *at == '[') depth++;
            if (*at == '}' || *at == ']') depth--;
            if (!*at) fail("a record is cut off");
            at++;
        } while (depth > 0);
        return at;
    }
    while (*at && !strchr(",]} \t\r\n", *at)) at++;
    return at;
}

// The value of a key in an object; empty if it has none. Keys that people choose have no escapes.
static struct span get(struct span object, const char *key) {
    struct span none = {NULL, NULL};
    size_t length = strlen(key);
    const char *at = space(object.start);
    if (!object.start || *at != '{') return none;
    for (at = space(at + 1); *at == '"'; at = space(at)) {
        const char *name = at + 1, *end = skip_text(at);
        at = space(end);
        if (*at != ':') fail("a colon is missing");
        struct span value = {space(at + 1), NULL};
        value.end = skip(value.start);
        if ((size_t)(end - 1 - name) == length && memcmp(name, key, length) == 0) return value;
        at = space(value.end);
        if (*at == ',') at++;
    }
    return none;
}

// A coordinate as JSON, taken over letter by letter: no arithmetic, nothing to round.
static struct span coordinate(struct span value) {
    struct span none = {NULL, NULL};
    if (!value.start) return none;
    if (*value.start == '"') value = (struct span){value.start + 1, value.end - 1};
    const char *at = value.start + (*value.start == '-');
    int digits = 0, points = 0;
    for (; at < value.end; at++) {
        if (*at >= '0' && *at <= '9') digits++;
        else if (*at == '.' && digits && !points) points++;
        else return none;
    }
    return digits && at[-1] != '.' && digits < 20 ? value : none;
}

static void put(struct span text) {
    fwrite(text.start, 1, (size_t)(text.end - text.start), stdout);
}

static int feature(const char *line, int first) {
    struct span record = {line, line + strlen(line)};
    struct span fields = get(record, "fields"), id = get(record, "record_id");
    struct span lat = coordinate(get(fields, "lat")), lon = coordinate(get(fields, "lon"));
    if (!lat.start || !lon.start) return first;
    fputs(first ? "\n" : ",\n", stdout);
    fputs("{\"type\":\"Feature\",", stdout);
    if (id.start) {
        fputs("\"id\":", stdout);
        put(id);
        fputs(",", stdout);
    }
    fputs("\"geometry\":{\"type\":\"Point\",\"coordinates\":[", stdout);
    put(lon);
    fputs(",", stdout);
    put(lat);
    fputs("]},\"properties\":", stdout);
    put(fields);
    fputs("}", stdout);
    return 0;
}

int main(void) {
    char *line = NULL;
    size_t size = 0;
    int first = 1;
    fputs("{\"type\":\"FeatureCollection\",\"features\":[", stdout);
    while (getline(&line, &size, stdin) > 0)
        if (*space(line)) first = feature(line, first);
    if (ferror(stdin)) fail("cannot read standard input");
    fputs("\n]}\n", stdout);
    return fflush(stdout) == 0 ? 0 : 1;
}
