/* What the parts of the programs share. */
#ifndef CLASSIFY_H
#define CLASSIFY_H

#include <stdbool.h>
#include <stddef.h>

struct cJSON;

/* common.c */

/* What messages begin with. */
extern const char *program;

/* Ends the program with a line on standard error and exit status 2: the input is wrong. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory that is there, or the end of the program. */
void *allocate(size_t count, size_t size);

/* The bytes of a file, followed by a zero that is not counted in size. */
unsigned char *read_file(const char *path, size_t *size);

/* model.c: a file of scripts.export, and its texts. */

struct point {
    const char *name;
    int side;     /* of the images that it takes, pixels */
    double top1;  /* percent; negative where evaluation recorded none */
    double madds; /* multiply-adds of one image; negative where evaluation recorded none */
};

struct model {
    const char *path;
    unsigned char *bytes;
    size_t size;
    struct cJSON *class_names, *points, *images; /* the texts, parsed */
    struct point *point;
    int count; /* of points */
    const char *augmentation, *resize; /* how evaluation cuts and scales images, see view.c */
};

void model_read(const char *path, struct model *model);

void model_free(struct model *model);

/* The place of the point of that name. */
int model_find(const struct model *model, const char *name);

/* The place of the most accurate recorded point of at most so many multiply-adds. */
int model_within(const struct model *model, const char *budget);

/* The name of a class; NULL where the file has none. */
const char *model_class(const struct model *model, size_t label);

/* onnx.c, or native.c: the text of that name, parsed; NULL where there is none. */
struct cJSON *read_text(const struct model *model, const char *name);

/* onnx.c: the file with its input `point` fixed: a runtime that knows the point computes the shapes and
 * looks up the tables once, when it loads the network. */
unsigned char *model_fixed(const struct model *model, int point, size_t *size);

/* jpeg.c and view.c: pixels are bytes in BGR order, row by row. */

unsigned char *jpeg_read(const char *path, int *width, int *height);

/* What evaluation makes of an image: a square of side * side * 3 bytes. */
void make_view(const unsigned char *pixels, int width, int height, const char *augmentation,
               const char *resize, int side, unsigned char *view);

/* classify_onnxruntime.c, classify_openvino.c and classify_native.c: a network that is loaded for one point. */

struct network;

struct network *network_load(const struct model *model, int point);

/* Scores before softmax, and how many; they are the network's until it runs again. */
const float *network_run(struct network *network, const unsigned char *view, size_t *count);

/* Name and version of the runtime. */
const char *network_runtime(const struct network *network);

void network_free(struct network *network);

#endif
