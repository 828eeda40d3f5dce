/* Images cut and scaled as evaluation does it (engine/data/shift.py, area_crop.py): the filters of
 * OpenCV and of Pillow, to within one grey level of theirs. */
#include "classify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 224 out of 256 pixels are evaluated (engine/data/transforms.py). */
static const double CENTRE_RATIO = 0.875;
/* Shortest edges; ends of longer images are never seen. */
static const int LONGEST = 128;

enum filter { AREA, CUBIC, PILLOW_BILINEAR, PILLOW_BICUBIC };

/* Where one edge of a view comes from. */
struct axis {
    int from;  /* pixels of the source */
    int to;    /* pixels that these are scaled to */
    int start; /* first of the scaled pixels that is wanted */
    int count; /* how many are */
};

/* Weights of the source pixels of one scaled pixel. */
struct taps {
    int first, count;
    double *weights;
};

static double cubic(double x, double a)
{
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    return 0;
}

/* The taps of OpenCV's INTER_CUBIC; the border pixel is repeated. */
static void cubic_taps(struct taps *taps, double scale, int from, int index)
{
    float place = (float)((index + 0.5) * scale - 0.5);
    int whole = (int)floorf(place);
    double fraction = place - (float)whole;
    int first = whole - 1 < 0 ? 0 : whole - 1;
    taps->first = first < from ? first : from - 1;
    taps->count = 0;
    for (int k = -1; k <= 2; k++) {
        int at = whole + k < 0 ? 0 : whole + k;
        at = (at < from ? at : from - 1) - taps->first;
        for (; taps->count <= at; taps->count++)
            taps->weights[taps->count] = 0;
        taps->weights[at] += cubic(fraction - k, -0.75);
    }
}

/* The taps of OpenCV's INTER_AREA: shares of the source pixels. */
static void area_taps(struct taps *taps, double scale, int from, int index)
{
    double low = index * scale;
    double high = fmin(low + scale, from);
    taps->first = (int)floor(low);
    taps->count = 0;
    for (int at = taps->first; at < high; at++) {
        double share = fmin(high, at + 1.0) - fmax(low, at);
        taps->weights[taps->count++] = share / (high - low);
    }
}

/* The taps of Pillow's filters, numbers of 22 bits. */
static void pillow_taps(struct taps *taps, double scale, int from, int index, enum filter filter)
{
    double stretch = scale > 1 ? scale : 1;
    double support = (filter == PILLOW_BICUBIC ? 2 : 1) * stretch;
    double centre = (index + 0.5) * scale;
    int first = (int)(centre - support + 0.5);
    int last = (int)(centre + support + 0.5);
    first = first < 0 ? 0 : first;
    last = last > from ? from : last;
    taps->first = first;
    taps->count = last - first;
    double sum = 0;
    for (int at = first; at < last; at++) {
        double x = (at - centre + 0.5) / stretch;
        double weight = filter == PILLOW_BICUBIC ? cubic(x, -0.5) : fmax(0, 1 - fabs(x));
        taps->weights[at - first] = weight;
        sum += weight;
    }
    for (int k = 0; k < taps->count; k++)
        taps->weights[k] = round(taps->weights[k] / sum * (1 << 22)) / (1 << 22);
}

static struct taps *make_taps(const struct axis *axis, enum filter filter)
{
    double scale = (double)axis->from / axis->to;
    size_t most = (size_t)(4 * (scale > 1 ? scale : 1)) + 4;
    struct taps *taps = allocate((size_t)axis->count, sizeof *taps);
    double *weights = allocate((size_t)axis->count * most, sizeof *weights);
    for (int i = 0; i < axis->count; i++) {
        int index = axis->start + i;
        taps[i].weights = weights + (size_t)i * most;
        if (filter == CUBIC)
            cubic_taps(&taps[i], scale, axis->from, index);
        else if (filter == AREA)
            area_taps(&taps[i], scale, axis->from, index);
        else
            pillow_taps(&taps[i], scale, axis->from, index, filter);
    }
    return taps;
}

static void free_taps(struct taps *taps)
{
    free(taps[0].weights);
    free(taps);
}

static double to_byte(double value)
{
    return fmin(255, fmax(0, floor(value + 0.5)));
}

/* Scales the pixels that two axes ask for; row_length is the width of the whole image. */
static void scale_to(const unsigned char *pixels, int row_length, struct axis across,
                     struct axis down, enum filter filter, unsigned char *view)
{
    struct taps *columns = make_taps(&across, filter);
    struct taps *rows = make_taps(&down, filter);
    size_t length = (size_t)across.count * 3;
    double *lines = allocate((size_t)down.from * length, sizeof *lines);
    bool pillow = filter == PILLOW_BILINEAR || filter == PILLOW_BICUBIC;
    for (int y = 0; y < down.from; y++) {
        const unsigned char *row = pixels + (size_t)y * (size_t)row_length * 3;
        for (size_t x = 0; x < length; x++) {
            const struct taps *taps = &columns[x / 3];
            const unsigned char *from = row + (size_t)taps->first * 3 + x % 3;
            double sum = 0;
            for (int k = 0; k < taps->count; k++)
                sum += taps->weights[k] * from[k * 3];
            /* Pillow keeps bytes between its two passes. */
            lines[(size_t)y * length + x] = pillow ? to_byte(sum) : sum;
        }
    }
    for (int y = 0; y < down.count; y++) {
        const double *from = lines + (size_t)rows[y].first * length;
        for (size_t x = 0; x < length; x++) {
            double sum = 0;
            for (int k = 0; k < rows[y].count; k++)
                sum += rows[y].weights[k] * from[(size_t)k * length + x];
            view[(size_t)y * length + x] = (unsigned char)to_byte(sum);
        }
    }
    free(lines);
    free_taps(columns);
    free_taps(rows);
}

static void copy(const unsigned char *pixels, int row_length, int left, int top, int side,
                 unsigned char *view)
{
    for (int y = 0; y < side; y++) {
        size_t at = (size_t)(top + y) * (size_t)row_length + (size_t)left;
        memcpy(view + (size_t)y * (size_t)side * 3, pixels + at * 3, (size_t)side * 3);
    }
}

/* Scales all of an image and keeps a square of it. */
static void cut_scaled(const unsigned char *pixels, int row_length, struct axis across,
                       struct axis down, enum filter filter, unsigned char *view)
{
    if (across.from == across.to && down.from == down.to)
        copy(pixels, row_length, across.start, down.start, across.count, view);
    else
        scale_to(pixels, row_length, across, down, filter, view);
}

/* By OpenCV: the shortest edge to so many pixels, and the centre of that. */
static void centre_scaled(const unsigned char *pixels, int row_length, int width, int height,
                          int edge, enum filter filter, int side, unsigned char *view)
{
    double scale = (double)edge / (width < height ? width : height);
    struct axis across = {width, (int)floor(width * scale + 0.5), 0, side};
    struct axis down = {height, (int)floor(height * scale + 0.5), 0, side};
    across.start = (across.to - side) / 2;
    down.start = (down.to - side) / 2;
    cut_scaled(pixels, row_length, across, down, filter, view);
}

/* By Pillow: likewise, with the roundings of torchvision. */
static void centre_antialiased(const unsigned char *pixels, int row_length, int width, int height,
                               enum filter filter, double ratio, int side, unsigned char *view)
{
    int edge = (int)(side / ratio);
    int shortest = width < height ? width : height;
    struct axis across = {width, (int)((double)edge * width / shortest), 0, side};
    struct axis down = {height, (int)((double)edge * height / shortest), 0, side};
    across.start = (int)nearbyint((across.to - side) / 2.0);
    down.start = (int)nearbyint((down.to - side) / 2.0);
    cut_scaled(pixels, row_length, across, down, filter, view);
}

void make_view(const unsigned char *pixels, int width, int height, const char *augmentation,
               const char *resize, int side, unsigned char *view)
{
    int row_length = width;
    int shortest = width < height ? width : height;
    bool shift = strcmp(augmentation, "shift") == 0;
    const char *share = strchr(augmentation, ':');
    double ratio = share ? strtod(share + 1, NULL) : CENTRE_RATIO;
    bool antialias = strncmp(resize, "antialias", 9) == 0;
    /* Of an image that is nearly a line, the middle; of an antialiased small one, the square. */
    int longest = shift && antialias ? shortest : shortest * LONGEST;
    if (longest < width || longest < height) {
        int left = (width - (width < longest ? width : longest)) / 2;
        int top = (height - (height < longest ? height : longest)) / 2;
        pixels += ((size_t)top * (size_t)width + (size_t)left) * 3;
        width = width < longest ? width : longest;
        height = height < longest ? height : longest;
    }
    enum filter pillow = strcmp(resize, "antialias") == 0 ? PILLOW_BILINEAR : PILLOW_BICUBIC;
    if (antialias && shift) {
        struct axis edge = {shortest, side, 0, side};
        cut_scaled(pixels, row_length, edge, edge, pillow, view);
    } else if (antialias) {
        centre_antialiased(pixels, row_length, width, height, pillow, ratio, side, view);
    } else if (shift) {
        enum filter shrinking = shortest > side ? AREA : CUBIC;
        centre_scaled(pixels, row_length, width, height, side, shrinking, side, view);
    } else {
        int edge = (int)lround(side / ratio);
        centre_scaled(pixels, row_length, width, height, edge, CUBIC, side, view);
    }
}
