/* Says what JPEG images show, by a network that scripts.export wrote:
 *
 *     classify_onnxruntime [--point P | --budget MADDS] NET.onnx IMAGE.jpg...
 *     classify_openvino    the same
 *     classify_native      the same, of NET.lqn
 *
 * Without either flag the first point answers, the strongest. */
#include "classify.h"

#include <getopt.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char USAGE[] = "usage: %s [--point P | --budget MADDS] NET IMAGE.jpg...\n";

enum { SHOWN = 5, RUNS = 100 };

/* Seconds after which an image is not run again to measure how long it takes. */
static const double ENOUGH = 0.2;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median time of an image, seconds. */
static double measure(struct network *network, const unsigned char *view)
{
    double times[RUNS];
    double spent = 0;
    size_t count = 0, classes;
    while (count < RUNS && (!count || spent < ENOUGH)) {
        double start = now();
        network_run(network, view, &classes);
        times[count] = now() - start;
        spent += times[count++];
    }
    qsort(times, count, sizeof *times, ascending);
    return times[count / 2];
}

/* The best classes with their probabilities. */
static void print_scores(const struct model *model, const float *logits, size_t count)
{
    double highest = logits[0], sum = 0;
    for (size_t i = 1; i < count; i++)
        highest = fmax(highest, logits[i]);
    for (size_t i = 0; i < count; i++)
        sum += exp(logits[i] - highest);
    bool *shown = allocate(count, sizeof *shown);
    for (size_t rank = 0; rank < SHOWN && rank < count; rank++) {
        size_t best = 0;
        while (shown[best])
            best++;
        for (size_t i = best; i < count; i++) {
            if (!shown[i] && logits[i] > logits[best])
                best = i;
        }
        shown[best] = true;
        const char *name = model_class(model, best);
        char number[32];
        snprintf(number, sizeof number, "class %zu", best);
        printf("  %.4f  %s\n", exp(logits[best] - highest) / sum, name ? name : number);
    }
    free(shown);
}

static void print_point(const struct point *point, double seconds, const struct network *network)
{
    printf("%s: ", point->name);
    if (point->top1 >= 0)
        printf("top-1 %.2f %%, ", point->top1);
    if (point->madds >= 0)
        printf("%.2f M multiply-adds, ", point->madds / 1e6);
    printf("%.3f ms an image with one thread of %s\n", seconds * 1e3, network_runtime(network));
}

int main(int argc, char **argv)
{
    static const struct option OPTIONS[] = {
        {"point", required_argument, NULL, 'p'},
        {"budget", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *name = NULL, *budget = NULL;
    program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    for (int flag; (flag = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        if (flag == 'p') {
            name = optarg;
        } else if (flag == 'b') {
            budget = optarg;
        } else {
            fprintf(flag == 'h' ? stdout : stderr, USAGE, program);
            return flag == 'h' ? 0 : 2;
        }
    }
    if (argc - optind < 2) {
        fprintf(stderr, USAGE, program);
        return 2;
    }
    if (name && budget)
        fail("--point %s and --budget %s: give one of them", name, budget);

    struct model model;
    model_read(argv[optind], &model);
    int place = name ? model_find(&model, name) : 0;
    if (budget)
        place = model_within(&model, budget);
    const struct point *point = &model.point[place];
    size_t side = (size_t)point->side;
    unsigned char *view = allocate(side * side, 3);
    struct network *network = network_load(&model, place);
    for (int i = optind + 1; i < argc; i++) {
        int width, height;
        unsigned char *pixels = jpeg_read(argv[i], &width, &height);
        make_view(pixels, width, height, model.augmentation, model.resize, point->side, view);
        free(pixels);
        size_t count;
        const float *logits = network_run(network, view, &count);
        printf("%s\n", argv[i]);
        print_scores(&model, logits, count);
    }
    print_point(point, measure(network, view), network);
    network_free(network);
    free(view);
    model_free(&model);
    return 0;
}
