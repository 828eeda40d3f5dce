#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* How often a thread looks for work before it sleeps: work comes every few microseconds. */
enum { LOOKS = 2000 };

struct threads {
    int count;
    pthread_t *handles;
    pthread_mutex_t lock;
    pthread_cond_t begun;
    atomic_uint round; /* of work */
    atomic_int next, left;
    atomic_bool stops;
    int items;
    void (*work)(void *, int, int);
    void *data;
};

struct start {
    struct threads *threads;
    int index;
};

static void take_part(struct threads *threads, int index)
{
    for (int item; (item = atomic_fetch_add(&threads->next, 1)) < threads->items;)
        threads->work(threads->data, item, index);
}

static void *helper(void *argument)
{
    struct start start = *(struct start *)argument;
    struct threads *threads = start.threads;
    free(argument);
    unsigned seen = 0;
    for (;;) {
        for (int look = 0; look < LOOKS && atomic_load(&threads->round) == seen; look++)
            ;
        pthread_mutex_lock(&threads->lock);
        while (atomic_load(&threads->round) == seen)
            pthread_cond_wait(&threads->begun, &threads->lock);
        seen++;
        pthread_mutex_unlock(&threads->lock);
        if (atomic_load(&threads->stops))
            return NULL;
        take_part(threads, start.index);
        atomic_fetch_sub(&threads->left, 1);
    }
}

struct threads *threads_start(int count)
{
    struct threads *threads = calloc(1, sizeof *threads);
    if (!threads)
        return NULL;
    threads->handles = calloc((size_t)count, sizeof *threads->handles);
    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->begun, NULL);
    threads->count = 1;
    for (int i = 1; threads->handles && i < count; i++) {
        struct start *start = malloc(sizeof *start);
        if (!start)
            break;
        *start = (struct start){threads, i};
        if (pthread_create(&threads->handles[i], NULL, helper, start)) {
            free(start);
            break;
        }
        threads->count++;
    }
    if (threads->count < count) {
        threads_stop(threads);
        return NULL;
    }
    return threads;
}

static void begin(struct threads *threads)
{
    pthread_mutex_lock(&threads->lock);
    atomic_fetch_add(&threads->round, 1);
    pthread_cond_broadcast(&threads->begun);
    pthread_mutex_unlock(&threads->lock);
}

void threads_share(struct threads *threads, int items, void (*work)(void *, int, int), void *data)
{
    if (!threads || items < 2) {
        for (int item = 0; item < items; item++)
            work(data, item, 0);
        return;
    }
    threads->items = items;
    threads->work = work;
    threads->data = data;
    atomic_store(&threads->next, 0);
    atomic_store(&threads->left, threads->count - 1);
    begin(threads);
    take_part(threads, 0);
    while (atomic_load(&threads->left))
        ;
}

void threads_stop(struct threads *threads)
{
    if (!threads)
        return;
    atomic_store(&threads->stops, true);
    begin(threads);
    for (int i = 1; i < threads->count; i++)
        pthread_join(threads->handles[i], NULL);
    pthread_cond_destroy(&threads->begun);
    pthread_mutex_destroy(&threads->lock);
    free(threads->handles);
    free(threads);
}
