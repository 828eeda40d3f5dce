#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* How often a thread looks for work before it sleeps, some 0.1 ms: the next loop begins sooner. */
enum { LOOKS = 4000, LOOKS_BEFORE_OTHERS = 64 };

/* Nobody waits for a thread that took no item: it may be asleep, or the machine busy. An item is taken by
 * counting `turn` down, which fails for a thread that looked at an earlier loop and comes late. */
struct threads {
    _Alignas(64) _Atomic uint64_t turn; /* 2^32 x loops that began, plus items of the last not taken */
    _Alignas(64) atomic_int left;       /* items that are not done */
    _Alignas(64) _Atomic(void (*)(void *, int, int)) work;
    _Atomic(void *) data;
    atomic_int asleep; /* threads */
    atomic_bool waits; /* the caller, asleep */
    atomic_bool stops;
    pthread_mutex_t lock;
    pthread_cond_t begun, ended;
    pthread_t *handles;
    int count;
};

struct start {
    struct threads *threads;
    int index;
};

/* Lets a moment pass, and others run now and then: the one that is waited for may have this very core. */
static void pause_briefly(int look)
{
    if (look % LOOKS_BEFORE_OTHERS == LOOKS_BEFORE_OTHERS - 1)
        sched_yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

static bool has_items(struct threads *threads)
{
    return (uint32_t)atomic_load(&threads->turn);
}

static void finish_item(struct threads *threads)
{
    bool last = atomic_fetch_sub(&threads->left, 1) == 1;
    if (!last || !atomic_load(&threads->waits))
        return;
    pthread_mutex_lock(&threads->lock);
    pthread_cond_signal(&threads->ended);
    pthread_mutex_unlock(&threads->lock);
}

static void take_part(struct threads *threads, int index)
{
    uint64_t turn = atomic_load(&threads->turn);
    while ((uint32_t)turn) {
        void (*work)(void *, int, int) = atomic_load(&threads->work);
        void *data = atomic_load(&threads->data);
        if (!atomic_compare_exchange_weak(&threads->turn, &turn, turn - 1))
            continue;
        work(data, (int)(uint32_t)turn - 1, index);
        finish_item(threads);
        turn = atomic_load(&threads->turn);
    }
}

/* Returns when there are items, or no more will come. */
static void wait_for_items(struct threads *threads)
{
    for (int look = 0; look < LOOKS; look++) {
        if (has_items(threads) || atomic_load(&threads->stops))
            return;
        pause_briefly(look);
    }
    pthread_mutex_lock(&threads->lock);
    atomic_fetch_add(&threads->asleep, 1);
    while (!has_items(threads) && !atomic_load(&threads->stops))
        pthread_cond_wait(&threads->begun, &threads->lock);
    atomic_fetch_sub(&threads->asleep, 1);
    pthread_mutex_unlock(&threads->lock);
}

/* Returns when all items are done. */
static void wait_for_end(struct threads *threads)
{
    for (int look = 0; look < LOOKS; look++) {
        if (!atomic_load(&threads->left))
            return;
        pause_briefly(look);
    }
    pthread_mutex_lock(&threads->lock);
    atomic_store(&threads->waits, true);
    while (atomic_load(&threads->left))
        pthread_cond_wait(&threads->ended, &threads->lock);
    atomic_store(&threads->waits, false);
    pthread_mutex_unlock(&threads->lock);
}

static void *helper(void *argument)
{
    struct start start = *(struct start *)argument;
    free(argument);
    while (!atomic_load(&start.threads->stops)) {
        take_part(start.threads, start.index);
        wait_for_items(start.threads);
    }
    return NULL;
}

/* Wakes threads, no more than there are items beside the caller's. */
static void wake(struct threads *threads, int items)
{
    if (!atomic_load(&threads->asleep))
        return;
    pthread_mutex_lock(&threads->lock);
    for (int i = 1; i < items && i < threads->count; i++)
        pthread_cond_signal(&threads->begun);
    pthread_mutex_unlock(&threads->lock);
}

static bool start_helper(struct threads *threads)
{
    struct start *start = malloc(sizeof *start);
    if (!start)
        return false;
    *start = (struct start){threads, threads->count};
    if (pthread_create(&threads->handles[threads->count], NULL, helper, start)) {
        free(start);
        return false;
    }
    threads->count++;
    return true;
}

struct threads *threads_start(int count)
{
    struct threads *threads = aligned_alloc(_Alignof(struct threads), sizeof *threads);
    if (!threads)
        return NULL;
    *threads = (struct threads){.count = 1};
    threads->handles = calloc((size_t)count, sizeof *threads->handles);
    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->begun, NULL);
    pthread_cond_init(&threads->ended, NULL);
    while (threads->handles && threads->count < count && start_helper(threads))
        ;
    if (threads->count == count)
        return threads;
    threads_stop(threads);
    return NULL;
}

void threads_share(struct threads *threads, int items, void (*work)(void *, int, int), void *data)
{
    if (!threads || items < 2) {
        for (int item = 0; item < items; item++)
            work(data, item, 0);
        return;
    }
    atomic_store(&threads->work, work);
    atomic_store(&threads->data, data);
    atomic_store(&threads->left, items);
    uint64_t begun = (atomic_load(&threads->turn) >> 32) + 1;
    atomic_store(&threads->turn, begun << 32 | (uint32_t)items);
    wake(threads, items);
    take_part(threads, 0);
    wait_for_end(threads);
}

void threads_stop(struct threads *threads)
{
    if (!threads)
        return;
    pthread_mutex_lock(&threads->lock);
    atomic_store(&threads->stops, true);
    pthread_cond_broadcast(&threads->begun);
    pthread_mutex_unlock(&threads->lock);
    for (int i = 1; i < threads->count; i++)
        pthread_join(threads->handles[i], NULL);
    pthread_cond_destroy(&threads->ended);
    pthread_cond_destroy(&threads->begun);
    pthread_mutex_destroy(&threads->lock);
    free(threads->handles);
    free(threads);
}
