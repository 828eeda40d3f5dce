/* Threads that share the work of a loop. */
#ifndef THREADS_H
#define THREADS_H

struct threads;

/* count - 1 threads beside the caller's; NULL where there are none to be had. */
struct threads *threads_start(int count);

/* Calls work(data, item, thread) once for each item below `items`, and returns when all are done. */
void threads_share(struct threads *threads, int items, void (*work)(void *, int, int), void *data);

void threads_stop(struct threads *threads);

#endif
