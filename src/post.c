/*
** post.c - the bytes of one POST.
*/
#include "post.h"

#include <string.h>

#include "encode.h"

#define LENGTH_FIELD "\r\nContent-Length: "
#define DIGITS_MAX   24

size_t ksms_post_size(const ksms_text *head, const ksms_text *token, const ksms_text *body)
{
    return head->n + token->n + sizeof LENGTH_FIELD + DIGITS_MAX + 4 + body->n;
}

static char *put(char *p, const char *s, size_t n)
{
    memcpy(p, s, n);
    return p + n;
}

size_t ksms_write_post(char *to, const ksms_text *head, const ksms_text *token,
                       const ksms_text *body)
{
    char *p = put(to, head->s, head->n);
    p = put(p, token->s, token->n);
    p = ksms_literal(p, LENGTH_FIELD);
    p = ksms_integer(p, (double)body->n);
    p = ksms_literal(p, "\r\n\r\n");
    return (size_t)(put(p, body->s, body->n) - to);
}
