/* Numbers of a file: constants by codes, bands or as they are. */
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "file.h"

size_t part_size(const struct part *part)
{
    size_t size = 1;
    for (int axis = 0; axis < AXES; axis++)
        size *= (size_t)part->extents[axis];
    return size;
}

static float number(const struct constant *constant, const uint8_t *numbers, size_t place)
{
    if (constant->is_int8)
        return (float)(int8_t)numbers[place];
    return f32_at(numbers + 4 * place);
}

/* The lowest bit of each byte of the result is a bit of the byte. */
static uint64_t spread(uint8_t byte)
{
    uint64_t apart = byte * 0x0101010101010101u & 0x8040201008040201u;
    return (apart + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;
}

/* Codes of `count` weights from the weight `first` of the constant on. */
static void codes_from(const struct file *file, const struct constant *constant, size_t first,
                       size_t count, uint8_t *row)
{
    const struct codes *codes = &file->codes[constant->codes];
    memset(row, 0, count);
    for (int p = 0; p < constant->bits; p++) {
        const uint8_t *plane = file->bytes + file->blocks[codes->first + (uint32_t)p].place;
        size_t i = 0;
        for (; first % 8 == 0 && i + 8 <= count; i += 8) {
            /* No code has eight bits before its last one comes. */
            uint64_t eight = u64_at(row + i) << 1 | spread(plane[(first + i) / 8]);
            put_u64(row + i, eight);
        }
        for (; i < count; i++)
            row[i] = (uint8_t)(row[i] << 1 | (plane[(first + i) / 8] >> (first + i) % 8 & 1));
    }
}

/* A place along the first axes of a part, of which rows along the last one follow. */
struct rows {
    int32_t whole[AXES], used[AXES]; /* extents, those behind the last axis in front */
};

static struct rows rows_of(const struct constant *constant, const struct part *part)
{
    struct rows rows = {{1, 1, 1, 1}, {1, 1, 1, 1}};
    int shift = AXES - constant->axes;
    for (int axis = 0; axis < constant->axes; axis++) {
        rows.whole[axis + shift] = constant->extents[axis];
        rows.used[axis + shift] = part->extents[axis];
    }
    return rows;
}

/* The number of a row of the constant that is row `index` of the part. */
static size_t row_at(const struct rows *rows, size_t index)
{
    size_t k = index % (size_t)rows->used[2], rest = index / (size_t)rows->used[2];
    size_t j = rest % (size_t)rows->used[1], i = rest / (size_t)rows->used[1];
    return (i * (size_t)rows->whole[1] + j) * (size_t)rows->whole[2] + k;
}

void part_rows(const struct file *file, const struct part *part, size_t *starts)
{
    const struct constant *constant = &file->constants[part->constant];
    struct rows rows = rows_of(constant, part);
    size_t count = part_size(part) / (size_t)rows.used[3];
    for (size_t i = 0; i < count; i++)
        starts[i] = row_at(&rows, i) * (size_t)rows.whole[3];
}

bool part_codes(const struct file *file, const struct part *part, uint8_t *codes)
{
    const struct constant *constant = &file->constants[part->constant];
    struct rows rows = rows_of(constant, part);
    size_t length = (size_t)rows.used[3], whole = (size_t)rows.whole[3];
    size_t count = part_size(part);
    uint8_t most = 0;
    for (size_t i = 0; i < count / length; i++)
        codes_from(file, constant, row_at(&rows, i) * whole, length, codes + i * length);
    for (size_t i = 0; i < count; i++)
        most = codes[i] > most ? codes[i] : most;
    return most < constant->levels;
}

void part_levels(const struct file *file, const struct part *part, float *levels)
{
    const struct constant *constant = &file->constants[part->constant];
    const uint8_t *block = file->bytes + file->blocks[constant->block].place;
    struct rows rows = rows_of(constant, part);
    for (size_t level = 0; level < (size_t)constant->levels; level++) {
        for (size_t c = 0; c < (size_t)rows.used[3]; c++)
            *levels++ = number(constant, block, level * (size_t)rows.whole[3] + c);
    }
}

static bool coded_values(const struct file *file, const struct part *part, float *values)
{
    const struct constant *constant = &file->constants[part->constant];
    size_t count = part_size(part), length = (size_t)rows_of(constant, part).used[3];
    uint8_t *codes = malloc(count);
    float *levels = malloc((size_t)constant->levels * length * sizeof *levels);
    bool good = codes && levels && part_codes(file, part, codes);
    if (good)
        part_levels(file, part, levels);
    for (size_t i = 0; good && i < count; i += length) {
        for (size_t c = 0; c < length; c++)
            values[i + c] = levels[codes[i + c] * length + c];
    }
    free(codes);
    free(levels);
    return good;
}

static bool banded_row(const struct file *file, const struct constant *constant, size_t row_index,
                       int32_t count, float *row)
{
    const uint8_t *block = file->bytes + file->blocks[constant->block].place;
    size_t rows = (size_t)constant->extents[0], width = (size_t)constant->levels;
    size_t start = u32_at(block + 4 * row_index);
    if (start + width > (size_t)constant->extents[1])
        return false;
    for (int32_t c = 0; c < count; c++)
        row[c] = 0;
    for (size_t j = 0; j < width && start + j < (size_t)count; j++)
        row[start + j] = number(constant, block + 4 * rows, row_index * width + j);
    return true;
}

/* Whether none of them is NaN, which no two ways to compute treat alike. */
static bool are_numbers(const float *values, size_t count)
{
    int strange = 0;
    for (size_t i = 0; i < count; i++)
        strange |= values[i] != values[i];
    return !strange;
}

const float *part_in_place(const struct file *file, const struct part *part)
{
    const struct constant *constant = &file->constants[part->constant];
    bool whole = constant->kind == PLAIN && !constant->is_int8;
    for (int axis = 0; axis < AXES; axis++)
        whole = whole && part->extents[axis] == constant->extents[axis];
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint8_t *block = file->bytes + file->blocks[constant->block].place;
    const float *values = (const float *)(const void *)block;
    if (whole && are_numbers(values, part_size(part)))
        return values;
#endif
    return NULL;
}

bool part_values(const struct file *file, const struct part *part, float *values,
                 struct complaint why)
{
    const struct constant *constant = &file->constants[part->constant];
    const uint8_t *block = file->bytes + file->blocks[constant->block].place;
    struct rows rows = rows_of(constant, part);
    size_t length = (size_t)rows.used[3], count = part_size(part);
    bool good = constant->kind != CODED || coded_values(file, part, values);
    for (size_t i = 0; constant->kind != CODED && i < count / length; i++) {
        size_t row = row_at(&rows, i);
        float *to = values + i * length;
        if (constant->kind == BANDED)
            good = banded_row(file, constant, row, rows.used[3], to) && good;
        for (size_t c = 0; constant->kind == PLAIN && c < length; c++)
            to[c] = number(constant, block, row * (size_t)rows.whole[3] + c);
    }
    good = good && are_numbers(values, count);
    return good || wrong(why, "is damaged: numbers of constant %d", (int)part->constant);
}
