/*
** buffer.c - a growable buffer of bytes.
*/
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

/* Through a pointer that may change, a compiler cannot leave the wiping out. */
static void *(*const volatile wipe)(void *, int, size_t) = memset;

void ksms_buffer_free(ksms_buffer *b)
{
    if (b->bytes != NULL)
        wipe(b->bytes, 0, b->size);
    free(b->bytes);
    memset(b, 0, sizeof *b);
}

int ksms_buffer_reserve(ksms_buffer *b, size_t n)
{
    ksms_buffer grown = {NULL, b->n, b->size > 0 ? b->size * 2 : 512};
    if (n <= b->size - b->n)
        return 1;
    while (grown.size < b->n + n)
        grown.size *= 2;
    grown.bytes = (char *)malloc(grown.size);
    if (grown.bytes == NULL)
        return 0;
    if (b->n > 0)
        memcpy(grown.bytes, b->bytes, b->n);
    ksms_buffer_free(b);
    *b = grown;
    return 1;
}

int ksms_buffer_add(ksms_buffer *b, const char *s, size_t n)
{
    if (!ksms_buffer_reserve(b, n))
        return 0;
    if (n > 0)
        memcpy(b->bytes + b->n, s, n);
    b->n += n;
    return 1;
}

int ksms_grow(void **array, int *room, int need, size_t size)
{
    int wanted = *room > 0 ? *room : 8;
    void *p;
    if (need <= *room)
        return 1;
    while (wanted < need)
        wanted *= 2;
    p = realloc(*array, (size_t)wanted * size);
    if (p == NULL)
        return 0;
    *array = p;
    *room = wanted;
    return 1;
}
