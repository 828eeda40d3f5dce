/* A network in ONNX Runtime, by its C API. */
#include "classify.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <onnxruntime_c_api.h>

struct network {
    const OrtApi *api;
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtValue *logits;
    int64_t side, point;
    size_t inputs;
    char runtime[48];
};

/* Ends the program where a call failed. */
static void check(const OrtApi *api, OrtStatus *status)
{
    if (status) {
        fprintf(stderr, "ONNX Runtime: %s\n", api->GetErrorMessage(status));
        api->ReleaseStatus(status);
        exit(1);
    }
}

struct network *network_load(const struct model *model, int point)
{
    /* Since 1.29 it tells its makers about every session, unless told not to beforehand. */
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    const OrtApi *api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    struct network *network = allocate(1, sizeof *network);
    network->api = api;
    network->side = model->point[point].side;
    network->point = point;
    network->inputs = model->count > 1 ? 2 : 1;
    snprintf(network->runtime, sizeof network->runtime, "ONNX Runtime %s",
             OrtGetApiBase()->GetVersionString());
    check(api, api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "classify", &network->env));
    OrtSessionOptions *options;
    check(api, api->CreateSessionOptions(&options));
    check(api, api->SetIntraOpNumThreads(options, 1));
    check(api, api->CreateSessionFromArray(network->env, model->bytes, model->size, options,
                                           &network->session));
    api->ReleaseSessionOptions(options);
    check(api, api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &network->memory));
    return network;
}

const float *network_run(struct network *network, const unsigned char *view, size_t *count)
{
    static const char *const INPUTS[] = {"images", "point"};
    static const char *const OUTPUTS[] = {"logits"};
    const OrtApi *api = network->api;
    const int64_t shape[] = {1, network->side, network->side, 3};
    const int64_t one[] = {1};
    OrtValue *images, *point;
    size_t size = (size_t)(network->side * network->side * 3);
    check(api, api->CreateTensorWithDataAsOrtValue(network->memory, (void *)view, size, shape, 4,
                                                   ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &images));
    check(api, api->CreateTensorWithDataAsOrtValue(network->memory, &network->point,
                                                   sizeof network->point, one, 1,
                                                   ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, &point));
    const OrtValue *const values[] = {images, point};
    api->ReleaseValue(network->logits);
    network->logits = NULL;
    check(api, api->Run(network->session, NULL, INPUTS, values, network->inputs, OUTPUTS, 1,
                        &network->logits));
    api->ReleaseValue(images);
    api->ReleaseValue(point);
    OrtTensorTypeAndShapeInfo *info;
    check(api, api->GetTensorTypeAndShape(network->logits, &info));
    check(api, api->GetTensorShapeElementCount(info, count));
    api->ReleaseTensorTypeAndShapeInfo(info);
    void *logits;
    check(api, api->GetTensorMutableData(network->logits, &logits));
    return logits;
}

const char *network_runtime(const struct network *network)
{
    return network->runtime;
}

void network_free(struct network *network)
{
    const OrtApi *api = network->api;
    api->ReleaseValue(network->logits);
    api->ReleaseMemoryInfo(network->memory);
    api->ReleaseSession(network->session);
    api->ReleaseEnv(network->env);
    free(network);
}
