// Makes a thumbnail of an image: binary PGM or PPM (P5, P6, 8 bits) in and out, by averaging areas.
//
//   thumbnail SIZE     neither side is longer than SIZE then
//
// Whole numbers only, so that there is nothing to round differently.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE_MAX = 20000 };

static void fail(const char *why) {
    fprintf(stderr, "thumbnail: %s\n", why);
    exit(1);
}

// A number of the header, with the space and comments before it.
static int number(FILE *in) {
    int c = getc(in), value = 0, digits = 0;
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = getc(in);
        c = getc(in);
    }
    for (; c >= '0' && c <= '9' && digits < 6; c = getc(in), digits++) value = 10 * value + (c - '0');
    if (!digits || (c != ' ' && c != '\n' && c != '\t' && c != '\r')) fail("a number of the header is bad");
    return value;
}

struct image {
    int width, height, channels;
    unsigned char *pixels;
};

static struct image read_image(FILE *in) {
    char magic[2];
    if (fread(magic, 1, 2, in) != 2 || magic[0] != 'P' || (magic[1] != '5' && magic[1] != '6'))
        fail("the image is neither P5 nor P6");
    struct image image = {.channels = magic[1] == '6' ? 3 : 1};
    image.width = number(in);
    image.height = number(in);
    int max = number(in);
    if (image.width < 1 || image.height < 1 || image.width > SIDE_MAX || image.height > SIDE_MAX)
        fail("a side is empty or too long");
    if (max != 255) fail("the image does not have 8 bits");
    size_t size = (size_t)image.width * (size_t)image.height * (size_t)image.channels;
    image.pixels = malloc(size);
    if (!image.pixels) fail("out of memory");
    if (fread(image.pixels, 1, size, in) != size) fail("the image is cut off");
    return image;
}

// The mean of the source's pixels under one pixel of the thumbnail, rounded to the nearest.
static unsigned char mean(const struct image *from, int x0, int x1, int y0, int y1, int channel) {
    unsigned long long sum = 0, count = (unsigned long long)(x1 - x0) * (unsigned)(y1 - y0);
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++)
            sum += from->pixels[((size_t)y * (size_t)from->width + (size_t)x) * (size_t)from->channels +
                                (size_t)channel];
    return (unsigned char)((sum + count / 2) / count);
}

static int scaled(int at, int from, int to) {
    return (int)((long long)at * from / to);
}

int main(int argc, char **argv) {
    int size = argc == 2 ? atoi(argv[1]) : 0;
    if (size < 1) fail("needs one argument: SIZE");
    FILE *in = fopen("/in/image", "rb");
    if (!in) fail("cannot open /in/image");
    struct image from = read_image(in);
    int longest = from.width > from.height ? from.width : from.height;
    int side = size < longest ? size : longest;
    int width = scaled(from.width, side, longest), height = scaled(from.height, side, longest);
    if (width < 1) width = 1;
    if (height < 1) height = 1;
    FILE *out = fopen("/out/thumbnail", "wb");
    if (!out) fail("cannot open /out/thumbnail");
    fprintf(out, "P%c\n%d %d\n255\n", from.channels == 3 ? '6' : '5', width, height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int channel = 0; channel < from.channels; channel++)
                putc(mean(&from, scaled(x, from.width, width), scaled(x + 1, from.width, width),
                          scaled(y, from.height, height), scaled(y + 1, from.height, height), channel),
                     out);
    if (fclose(out) != 0) fail("cannot write /out/thumbnail");
    return 0;
}
