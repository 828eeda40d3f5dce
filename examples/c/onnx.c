/* Texts of an ONNX file that scripts.export wrote, and the file with its point fixed.
 *
 * ONNX Runtime's C API hands the texts out, OpenVINO's does not. Both programs read them from the
 * bytes: an ONNX file is a protobuf message, and its texts are pairs of strings in field 14. */
#include "classify.h"

#include <stdint.h>
#include <string.h>

#include <cjson/cJSON.h>

enum { GRAPH = 7, METADATA = 14, KEY = 1, VALUE = 2, INITIALIZER = 5 };

struct bytes {
    const unsigned char *at, *end;
};

static bool read_number(struct bytes *from, uint64_t *number)
{
    *number = 0;
    for (int shift = 0; shift < 64 && from->at < from->end; shift += 7) {
        unsigned char byte = *from->at++;
        *number |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

/* The next field of a message: its number, and its bytes where it has a length. */
static bool read_field(struct bytes *from, uint64_t *field, struct bytes *value)
{
    uint64_t tag, length = 0;
    if (!read_number(from, &tag))
        return false;
    *field = tag >> 3;
    switch (tag & 7) {
    case 0:
        value->at = value->end = NULL;
        return read_number(from, &length);
    case 1:
        length = 8;
        break;
    case 2:
        if (!read_number(from, &length))
            return false;
        break;
    case 5:
        length = 4;
        break;
    default:
        return false;
    }
    if (length > (uint64_t)(from->end - from->at))
        return false;
    value->at = from->at;
    value->end = from->at += length;
    return true;
}

/* The text of that name, parsed; NULL where there is none. */
cJSON *read_text(const struct model *model, const char *name)
{
    struct bytes file = {model->bytes, model->bytes + model->size}, entry, part;
    uint64_t field;
    cJSON *text = NULL;
    while (file.at < file.end) {
        if (!read_field(&file, &field, &entry))
            fail("%s: is no ONNX file", model->path);
        if (field != METADATA)
            continue;
        struct bytes key = {0}, value = {0};
        while (entry.at < entry.end && read_field(&entry, &field, &part)) {
            if (field == KEY)
                key = part;
            else if (field == VALUE)
                value = part;
        }
        size_t length = (size_t)(key.end - key.at);
        if (!text && length == strlen(name) && memcmp(key.at, name, length) == 0)
            text = cJSON_ParseWithLength((const char *)value.at, (size_t)(value.end - value.at));
    }
    return text;
}

unsigned char *model_fixed(const struct model *model, int point, size_t *size)
{
    /* graph { initializer { dims: 1, data_type: INT64, int64_data: point, name: "point" } }.
     * Protobuf joins what is appended to a message with it, and an input with a value of its own
     * need not be fed. */
    unsigned char added[] = {
        GRAPH << 3 | 2,       16,                               /* bytes that follow */
        INITIALIZER << 3 | 2, 14,                               /* likewise */
        0x08,                 1,                                /* dims */
        0x10,                 7,                                /* data_type */
        0x3a,                 1,   0,                           /* int64_data, packed */
        0x42,                 5,   'p', 'o', 'i', 'n', 't',     /* name */
    };
    if (point > 127)
        fail("%s: has more than 128 points", model->path);
    added[10] = (unsigned char)point;
    size_t more = model->count > 1 ? sizeof added : 0;
    unsigned char *bytes = allocate(model->size + more, 1);
    memcpy(bytes, model->bytes, model->size);
    memcpy(bytes + model->size, added, more);
    *size = model->size + more;
    return bytes;
}
