/* Runs a network from a file `.lqn`, without the framework that trained it.
 *
 *     char why[LQN_TEXT];
 *     struct lqn *net = lqn_open("net.lqn", why, sizeof why);
 *     if (!net || lqn_set_point(net, 0)) ...
 *     float logits[1000];                          // lqn_classes(net) numbers
 *     lqn_run(net, &pixels, 1, logits, NULL);      // pixels: side * side * channels bytes, BGR
 *     lqn_close(net);
 *
 * A network belongs to one thread at a time; several networks share nothing. Functions that give an
 * int give 0 where all went well, else -1, and lqn_error says why. lqn_run allocates nothing.
 * The environment variable LQN_KERNELS forces a set of kernels: portable, avx2, avxvnni, avx512vnni,
 * amx, neon, neon-dot. */
#ifndef LQN_H
#define LQN_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define LQN_API __declspec(dllexport)
#else
#define LQN_API __attribute__((visibility("default")))
#endif

enum { LQN_TEXT = 256 };

struct lqn;

/* An operating point. */
struct lqn_point {
    const char *name;     /* its spelling */
    int side;             /* of its images, pixels */
    int channels;         /* of its images: 3 in BGR order, or 1 */
    int views;            /* how many images it takes of each: 1, or more in a cascade of sizes */
    const int32_t *sides; /* of the further ones, views - 1 numbers */
    int choices;          /* numbers that say what was executed */
    int is_here;          /* whether the part of the file that it needs is here */
};

/* A network, or NULL; then `why`, of `room` bytes, says what is wrong with the file. */
LQN_API struct lqn *lqn_open(const char *path, char *why, size_t room);

/* Likewise, from the bytes of a file, which are copied. */
LQN_API struct lqn *lqn_open_bytes(const void *bytes, size_t size, char *why, size_t room);

/* Appends the rest of a file that was cut behind a section: points of more bits can run then. */
LQN_API int lqn_append(struct lqn *net, const void *bytes, size_t size);

LQN_API int lqn_points(const struct lqn *net);
LQN_API int lqn_point(const struct lqn *net, int place, struct lqn_point *about);

/* A text of the file by name, JSON; NULL where there is none. */
LQN_API const char *lqn_text(const struct lqn *net, const char *name);

/* How many threads share the work of an image, 1 at first; answers are the same. Takes effect at once;
 * where there is not enough memory, no point is set any more. */
LQN_API int lqn_set_threads(struct lqn *net, int count);

/* Makes ready what a point needs; a second time for the same point takes nothing. */
LQN_API int lqn_set_point(struct lqn *net, int place);

/* Logits of an image at the point that is set. */
LQN_API int lqn_classes(const struct lqn *net);

/* Logits [count, classes] of images at the point that is set.
 *
 * views: for each view the images, uint8 [count, side, side, channels];
 * executed: [count, choices], or NULL. */
LQN_API int lqn_run(struct lqn *net, const uint8_t *const *views, size_t count, float *logits,
                    int32_t *executed);

/* A step of a point: what computes rows of a result, and all that is done to them at once. */
struct lqn_step {
    const char *name; /* of the result of its first operation */
    double seconds;   /* 0 where the image goes another way */
};

/* Runs one image at the point that is set, and says how long each step took, in their order.
 *
 * Gives how many steps there are, of which the first `room` are told; -1 where it cannot run. */
LQN_API int lqn_time(struct lqn *net, const uint8_t *const *views, struct lqn_step *steps, int room);

/* Name of the kernels that compute. */
LQN_API const char *lqn_kernels(const struct lqn *net);

/* Says what went wrong last. */
LQN_API const char *lqn_error(const struct lqn *net);

LQN_API void lqn_close(struct lqn *net);

#endif
