/* Reads and checks the tables of a file. Nothing of it is used before it was checked here, but
 * shapes, which shapes.c checks as it computes them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tables.h"

enum { VERSION = 1 };

static const uint8_t MAGIC[8] = {0x89, 0x4C, 0x51, 0x4E, 0x0D, 0x0A, 0x1A, 0x0A};

bool wrong(struct complaint why, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    if (why.room)
        vsnprintf(why.text, why.room, format, values);
    va_end(values);
    return false;
}

static bool read_header(struct file *file, uint64_t *whole, struct complaint why)
{
    const uint8_t *bytes = file->bytes;
    if (file->size < HEADER + 8 * TABLES || memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        return wrong(why, "is no .lqn file");
    if (u32_at(bytes + 8) != VERSION)
        return wrong(why, "has version %u of the format; this library reads %d",
                     (unsigned)u32_at(bytes + 8), VERSION);
    uint32_t head = u32_at(bytes + 12);
    *whole = u64_at(bytes + 16);
    if (checksum(bytes, 60) != u32_at(bytes + 60))
        return wrong(why, "is damaged: checksum of the header");
    if (head % 64 != 0 || head < HEADER + 8 * TABLES || head > file->size || *whole % 64 != 0)
        return wrong(why, "is damaged, or ends within its head");
    if (checksum(bytes + HEADER, head - HEADER) != u32_at(bytes + 24))
        return wrong(why, "is damaged: checksum of the head");
    for (int table = 0; table < TABLES; table++) {
        uint64_t place = u32_at(bytes + HEADER + 8 * table);
        uint64_t count = u32_at(bytes + HEADER + 8 * table + 4);
        if (place % 8 != 0 || place < HEADER + 8 * TABLES || place > head ||
            count > (head - place) / ENTRY[table])
            return wrong(why, "is damaged: table %d lies outside of the head", table);
        file->count[table] = (int32_t)count;
    }
    return true;
}

static void *room_for(const struct file *file, enum table table, size_t size)
{
    return calloc((size_t)file->count[table] + 1, size);
}

static bool read_strings(struct file *file, struct complaint why)
{
    file->strings = (const char *)table_at(file, STRINGS);
    int32_t length = file->count[STRINGS];
    if (length && file->strings[length - 1])
        return wrong(why, "is damaged: the last string does not end");
    const uint8_t *at = table_at(file, TEXTS);
    for (int32_t i = 0; i < file->count[TEXTS]; i++, at += ENTRY[TEXTS]) {
        file->texts[i] = (struct text){string_at(file, u32_at(at)), string_at(file, u32_at(at + 4))};
        if (!file->texts[i].name || !file->texts[i].value)
            return wrong(why, "is damaged: text %d", i);
    }
    at = table_at(file, LISTS);
    for (int32_t i = 0; i < file->count[LISTS]; i++)
        file->lists[i] = (int32_t)u32_at(at + 4 * (size_t)i);
    return true;
}

static bool read_sections(struct file *file, uint64_t whole, struct complaint why)
{
    const uint8_t *at = table_at(file, SECTIONS);
    uint64_t end = u32_at(file->bytes + 12);
    bool complete = false;
    file->here = 0;
    for (int32_t i = 0; i < file->count[SECTIONS]; i++, at += ENTRY[SECTIONS]) {
        struct section *section = &file->sections[i];
        *section = (struct section){u64_at(at), u64_at(at + 8), u32_at(at + 16)};
        if (section->place != end || section->bytes % 64 != 0 || section->bytes > whole - end)
            return wrong(why, "is damaged: place of section %d", i);
        end += section->bytes;
        if (end <= file->size)
            file->here = i + 1;
        complete = complete || end == file->size;
    }
    if (end != whole)
        return wrong(why, "is damaged: its sections do not fill it");
    if (!complete || !file->here)
        return wrong(why, "has %zu bytes, and no section ends there", file->size);
    for (int32_t i = 0; i < file->here; i++) {
        const struct section *section = &file->sections[i];
        if (checksum(file->bytes + section->place, section->bytes) != section->sum)
            return wrong(why, "is damaged: checksum of section %d", i);
    }
    return true;
}

static bool read_blocks(struct file *file, struct complaint why)
{
    const uint8_t *at = table_at(file, BLOCKS);
    for (int32_t i = 0; i < file->count[BLOCKS]; i++, at += ENTRY[BLOCKS]) {
        struct block *block = &file->blocks[i];
        *block = (struct block){u64_at(at), u64_at(at + 8), NONE};
        for (int32_t k = 0; k < file->count[SECTIONS]; k++) {
            const struct section *section = &file->sections[k];
            if (block->place >= section->place && block->bytes <= section->bytes &&
                block->place - section->place <= section->bytes - block->bytes)
                block->section = k;
        }
        if (block->place % 16 != 0 || block->section == NONE)
            return wrong(why, "is damaged: block %d lies in no section", i);
    }
    at = table_at(file, CODES);
    for (int32_t i = 0; i < file->count[CODES]; i++, at += ENTRY[CODES]) {
        uint32_t bits = u32_at(at + 8);
        struct codes *codes = &file->codes[i];
        *codes = (struct codes){u64_at(at), (int32_t)bits, u32_at(at + 12)};
        if (bits < 1 || bits > 8 || !within(file, BLOCKS, codes->first, bits))
            return wrong(why, "is damaged: codes %d", i);
        for (uint32_t p = 0; p < bits; p++) {
            uint64_t bytes = file->blocks[codes->first + p].bytes;
            if (codes->weights > 8 * bytes || codes->weights > INT32_MAX)
                return wrong(why, "is damaged: planes of codes %d", i);
        }
    }
    return true;
}

/* The bytes that the block of a constant must have; 0 where its fields do not fit together. */
static uint64_t block_bytes(const struct file *file, const struct constant *constant)
{
    uint64_t size = 1;
    for (int axis = 0; axis < AXES; axis++)
        size *= (uint64_t)constant->extents[axis];
    uint64_t wide = constant->is_int8 ? 1 : 4;
    uint64_t levels = (uint64_t)constant->levels;
    if (constant->kind == PLAIN)
        return constant->bits || levels ? 0 : size * wide;
    if (constant->kind == CODED) {
        int bits = constant->bits;
        if (bits < 1 || bits > 8 || levels < 2 || levels > 1u << bits ||
            (levels <= 1u << (bits - 1)))
            return 0;
        const struct codes *codes = &file->codes[constant->codes];
        if (codes->weights != size || bits > codes->bits)
            return 0;
        return levels * (uint64_t)constant->extents[constant->axes - 1] * wide;
    }
    if (constant->kind == BANDED && constant->axes == 2 && !constant->bits) {
        uint64_t rows = (uint64_t)constant->extents[0];
        if (!levels || levels > (uint64_t)constant->extents[1])
            return 0;
        return rows * (4 + levels * wide);
    }
    return 0;
}

static bool read_constants(struct file *file, struct complaint why)
{
    const uint8_t *at = table_at(file, CONSTANTS);
    for (int32_t i = 0; i < file->count[CONSTANTS]; i++, at += ENTRY[CONSTANTS]) {
        struct constant *constant = &file->constants[i];
        constant->kind = at[0];
        constant->axes = at[1];
        constant->bits = at[2];
        constant->is_int8 = at[3] == 1;
        uint64_t size = 1;
        bool fits = at[3] <= 1 && at[1] >= 1 && at[1] <= AXES;
        for (int axis = 0; axis < AXES; axis++) {
            uint32_t extent = u32_at(at + 4 + 4 * axis);
            fits = fits && extent >= 1 && extent <= INT32_MAX;
            fits = fits && (axis < constant->axes || extent == 1);
            size = fits ? size * extent : 0;
            fits = fits && size <= INT32_MAX / 4;
            constant->extents[axis] = (int32_t)extent;
        }
        uint32_t levels = u32_at(at + 20), codes = u32_at(at + 24);
        constant->block = u32_at(at + 28);
        bool coded = constant->kind == CODED;
        fits = fits && levels <= INT32_MAX && within(file, BLOCKS, constant->block, 1);
        fits = fits && (coded ? within(file, CODES, codes, 1) : codes == NOTHING);
        if (!fits)
            return wrong(why, "is damaged: constant %d", i);
        constant->levels = (int32_t)levels;
        constant->codes = coded ? (int32_t)codes : NONE;
        uint64_t needed = block_bytes(file, constant);
        if (!needed || needed > file->blocks[constant->block].bytes)
            return wrong(why, "is damaged: numbers of constant %d", i);
    }
    at = table_at(file, PARTS);
    for (int32_t i = 0; i < file->count[PARTS]; i++, at += ENTRY[PARTS]) {
        struct part *part = &file->parts[i];
        if (!within(file, CONSTANTS, u32_at(at), 1))
            return wrong(why, "is damaged: constant of part %d", i);
        part->constant = (int32_t)u32_at(at);
        for (int axis = 0; axis < AXES; axis++) {
            uint32_t extent = u32_at(at + 4 + 4 * axis);
            if (extent < 1 || extent > (uint32_t)file->constants[part->constant].extents[axis])
                return wrong(why, "is damaged: extents of part %d", i);
            part->extents[axis] = (int32_t)extent;
        }
    }
    return true;
}

bool file_read(struct file *file, uint8_t *bytes, size_t size, struct complaint why)
{
    uint64_t whole = 0;
    *file = (struct file){.bytes = bytes, .size = size};
    if (!read_header(file, &whole, why))
        return false;
    file->sections = room_for(file, SECTIONS, sizeof *file->sections);
    file->points = room_for(file, POINTS, sizeof *file->points);
    file->graphs = room_for(file, GRAPHS, sizeof *file->graphs);
    file->operations = room_for(file, OPERATIONS, sizeof *file->operations);
    file->parts = room_for(file, PARTS, sizeof *file->parts);
    file->constants = room_for(file, CONSTANTS, sizeof *file->constants);
    file->codes = room_for(file, CODES, sizeof *file->codes);
    file->blocks = room_for(file, BLOCKS, sizeof *file->blocks);
    file->choices = room_for(file, CHOICES, sizeof *file->choices);
    file->texts = room_for(file, TEXTS, sizeof *file->texts);
    file->lists = room_for(file, LISTS, sizeof *file->lists);
    if (!file->sections || !file->points || !file->graphs || !file->operations || !file->parts ||
        !file->constants || !file->codes || !file->blocks || !file->choices || !file->texts ||
        !file->lists)
        return wrong(why, "there is not enough memory");
    return read_strings(file, why) && read_sections(file, whole, why) && read_blocks(file, why) &&
           read_constants(file, why) && read_graphs(file, why) && read_points(file, why);
}

void file_free(struct file *file)
{
    free(file->sections);
    free(file->points);
    free(file->graphs);
    free(file->operations);
    free(file->parts);
    free(file->constants);
    free(file->codes);
    free(file->blocks);
    free(file->choices);
    free(file->texts);
    free(file->lists);
    free(file->bytes);
    *file = (struct file){0};
}
