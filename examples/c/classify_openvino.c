/* A network in OpenVINO, by its C API. */
#include "classify.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openvino/c/openvino.h>

struct network {
    ov_core_t *core;
    ov_compiled_model_t *compiled;
    ov_infer_request_t *request;
    ov_tensor_t *images, *logits;
    char runtime[48];
};

/* Ends the program where a call failed. */
static void check(ov_status_e status)
{
    if (status != OK) {
        fprintf(stderr, "OpenVINO: %s: %s\n", ov_get_error_info(status), ov_get_last_err_msg());
        exit(1);
    }
}

/* The network in the shape of one image of the point. */
static ov_model_t *load_model(const ov_core_t *core, const struct model *model, int point)
{
    size_t size;
    unsigned char *bytes = model_fixed(model, point, &size);
    ov_model_t *loaded;
    check(ov_core_read_model_from_memory_buffer(core, (const char *)bytes, size, NULL, &loaded));
    free(bytes);
    int64_t side = model->point[point].side;
    const int64_t sides[] = {1, side, side, 3};
    ov_partial_shape_t shape;
    check(ov_partial_shape_create_static(4, sides, &shape));
    check(ov_model_reshape_input_by_name(loaded, "images", shape));
    ov_partial_shape_free(&shape);
    return loaded;
}

struct network *network_load(const struct model *model, int point)
{
    struct network *network = allocate(1, sizeof *network);
    ov_version_t version;
    check(ov_get_openvino_version(&version));
    int length = (int)strcspn(version.buildNumber, "-");
    snprintf(network->runtime, sizeof network->runtime, "OpenVINO %.*s", length,
             version.buildNumber);
    ov_version_free(&version);
    check(ov_core_create(&network->core));
    ov_model_t *loaded = load_model(network->core, model, point);
    /* By default it computes in bfloat16 where the processor can, and answers differently. */
    ov_status_e status = ov_core_compile_model(network->core, loaded, "CPU", 4, &network->compiled,
                                               ov_property_key_hint_inference_precision, "f32",
                                               ov_property_key_inference_num_threads, "1");
    /* OpenVINO 2026.4 fails to join elementwise operations in branches of a DS-Net. */
    if (status != OK)
        status = ov_core_compile_model(network->core, loaded, "CPU", 6, &network->compiled,
                                       ov_property_key_hint_inference_precision, "f32",
                                       ov_property_key_inference_num_threads, "1",
                                       "SNIPPETS_MODE", "DISABLE");
    check(status);
    ov_model_free(loaded);
    check(ov_compiled_model_create_infer_request(network->compiled, &network->request));
    check(ov_infer_request_get_tensor(network->request, "images", &network->images));
    check(ov_infer_request_get_tensor(network->request, "logits", &network->logits));
    return network;
}

const float *network_run(struct network *network, const unsigned char *view, size_t *count)
{
    void *images, *logits;
    size_t size;
    check(ov_tensor_data(network->images, &images));
    check(ov_tensor_get_byte_size(network->images, &size));
    memcpy(images, view, size);
    check(ov_infer_request_infer(network->request));
    check(ov_tensor_get_size(network->logits, count));
    check(ov_tensor_data(network->logits, &logits));
    return logits;
}

const char *network_runtime(const struct network *network)
{
    return network->runtime;
}

void network_free(struct network *network)
{
    ov_tensor_free(network->images);
    ov_tensor_free(network->logits);
    ov_infer_request_free(network->request);
    ov_compiled_model_free(network->compiled);
    ov_core_free(network->core);
    free(network);
}
