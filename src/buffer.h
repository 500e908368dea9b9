/*
** buffer.h - bytes that grow. They may be a token: what is given back is wiped first.
*/
#ifndef ksms_buffer_h
#define ksms_buffer_h

#include <stddef.h>

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

typedef struct ksms_buffer {
    char *bytes;
    size_t n;
    size_t size;
} ksms_buffer;

/* Appends bytes; 0 where there is no memory. Callers bound what they add. */
int ksms_buffer_add(ksms_buffer *b, const char *s, size_t n);

/* Makes room for so many bytes behind those that are there; 0 where there is no memory. */
int ksms_buffer_reserve(ksms_buffer *b, size_t n);

/* Wipes and frees; works on a zeroed buffer and twice. */
void ksms_buffer_free(ksms_buffer *b);

/* Makes room for 'need' elements of 'size' in an array; 0 where there is no memory. */
int ksms_grow(void **array, int *room, int need, size_t size);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
