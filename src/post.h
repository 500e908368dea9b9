/*
** post.h - the bytes of one POST in HTTP/1.1 (RFC 9112), for both transports.
*/
#ifndef ksms_post_h
#define ksms_post_h

#include <stddef.h>

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

/* A text with its length. */
typedef struct ksms_text {
    const char *s;
    size_t n;
} ksms_text;

/* Bytes that a POST needs at most. */
size_t ksms_post_size(const ksms_text *head, const ksms_text *token, const ksms_text *body);

/* Writes a POST: head (up to the token), token, length, body. Returns how many bytes it has. */
size_t ksms_write_post(char *to, const ksms_text *head, const ksms_text *token,
                       const ksms_text *body);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
