/* The tables of a file `.lqn`, checked: README.md says what each field means. */
#ifndef FILE_H
#define FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NONE = -1, AXES = 4, MOST_INPUTS = 64 };

enum kind {
    CAST = 1,
    ARITHMETIC,
    AFFINE,
    FLIP,
    RESIZE,
    CONVOLUTION,
    DENSE,
    ACTIVATION,
    QUANTIZE,
    ENCODE,
    INTEGER_CONVOLUTION,
    INTEGER_DENSE,
    COMBINE,
    CONCATENATE,
    POOL,
    GLOBAL_POOL,
    PAD,
    CROP,
    TO_ROWS,
    TO_IMAGES,
    CHOOSE,
    NUMBER,
    LARGEST,
    PROBABILITIES,
    CONFIDENT,
    KINDS
};

enum { ADD, SUBTRACT, MULTIPLY, DIVIDE };
enum { RELU, RELU6, SIGMOID, LOG };
enum { MAXIMUM, AVERAGE };
enum { PLAIN, CODED, BANDED };

/* In the order of the file. */
enum table {
    SECTIONS,
    POINTS,
    GRAPHS,
    OPERATIONS,
    PARTS,
    CONSTANTS,
    CODES,
    BLOCKS,
    CHOICES,
    TEXTS,
    LISTS,
    STRINGS,
    TABLES
};

struct section {
    uint64_t place, bytes;
    uint32_t sum;
};

struct point {
    const char *name;
    int32_t graph, side, channels, needs, first_part, first_choice, choices, first_view, views;
};

struct graph {
    int32_t first, count, inputs, output, parts, tensors;
};

struct operation {
    int kind, function;
    bool same, is_signed;
    int32_t x, y, out, results, value;
    int32_t pads[4], window[2], stride[2], groups;
    int32_t first_list, lists, first_part; /* the latter counted within the graph */
    uint32_t name;                         /* place in the strings */
};

struct part {
    int32_t constant;
    int32_t extents[AXES];
};

struct constant {
    int kind, axes, bits;
    bool is_int8;
    int32_t extents[AXES];
    int32_t levels, codes;
    uint32_t block;
};

struct codes {
    uint64_t weights;
    int32_t bits;
    uint32_t first;
};

struct block {
    uint64_t place, bytes;
    int32_t section;
};

struct choice {
    int32_t tensor;
};

struct text {
    const char *name, *value;
};

struct file {
    uint8_t *bytes;
    size_t size;
    int32_t here; /* sections that are here */
    struct section *sections;
    struct point *points;
    struct graph *graphs;
    struct operation *operations;
    struct part *parts;
    struct constant *constants;
    struct codes *codes;
    struct block *blocks;
    struct choice *choices;
    struct text *texts;
    int32_t *lists;
    const char *strings;
    int32_t count[TABLES]; /* of their entries */
};

/* Where a message goes: what is wrong, of LQN_TEXT bytes. */
struct complaint {
    char *text;
    size_t room;
};

/* Writes a message and gives false. */
bool wrong(struct complaint why, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Takes the bytes over, and reads the tables. Where it fails, too, file_free gives all back. */
bool file_read(struct file *file, uint8_t *bytes, size_t size, struct complaint why);

void file_free(struct file *file);

/* How many parts an operation has. */
int parts_of(int kind);

/* A constant, or the start of it that is used, as float32: product of the extents. False where a
 * code is none. */
bool part_values(const struct file *file, const struct part *part, float *values,
                 struct complaint why);

/* Where each row along the last axis of a part begins in its constant. */
void part_rows(const struct file *file, const struct part *part, size_t *starts);

/* The values of a part where they lie in the file as a machine has them; else NULL. */
const float *part_in_place(const struct file *file, const struct part *part);

/* The codes of a part of a coded constant, of the same shape; false where one is no level. */
bool part_codes(const struct file *file, const struct part *part, uint8_t *codes);

/* Its levels [levels, last extent of the part]. */
void part_levels(const struct file *file, const struct part *part, float *levels);

size_t part_size(const struct part *part);

#endif
