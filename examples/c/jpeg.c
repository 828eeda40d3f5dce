/* Reads a JPEG with libjpeg-turbo: the decoder of OpenCV, so that pixels are those of evaluation.
 * The rotation that EXIF may ask for is not made, as in evaluation. */
#include "classify.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jerror.h>
#include <jpeglib.h>

/* What may be wrong is said about this file. */
static const char *current;

static void refuse(j_common_ptr info)
{
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    fail("%s: is no JPEG that can be read (%s)", current, text);
}

static void warn(j_common_ptr info, int level)
{
    if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF)
        fail("%s: ends too early", current);
}

unsigned char *jpeg_read(const char *path, int *width, int *height)
{
    size_t size;
    unsigned char *bytes = read_file(path, &size);
    struct jpeg_error_mgr errors;
    struct jpeg_decompress_struct info;
    current = path;
    info.err = jpeg_std_error(&errors);
    errors.error_exit = refuse;
    errors.emit_message = warn;
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, bytes, (unsigned long)size);
    jpeg_read_header(&info, TRUE);
    if (info.num_components != 1 && info.num_components != 3)
        fail("%s: has %d channels; expected grey or colour", path, info.num_components);
    info.out_color_space = JCS_EXT_BGR;
    jpeg_start_decompress(&info);
    *width = (int)info.output_width;
    *height = (int)info.output_height;
    size_t length = (size_t)info.output_width * 3;
    unsigned char *pixels = allocate(info.output_height, length);
    while (info.output_scanline < info.output_height) {
        JSAMPROW row = pixels + info.output_scanline * length;
        jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    free(bytes);
    return pixels;
}
